/**
 * The command queue: each command with what it does, how it stands and what a person may decide.
 * It refuses to act by one click: every decision opens a dialog first.
 */
import { html } from "../vendor/preact-htm-signals.js";
import { findAgent } from "./agents.js";
import { payloadText, sentenceOf } from "./catalogue.js";
import { ask, isOnlySelected, isShownComplete, loadOlder, measured, olderState, segment, segments, shownCommands, urgentCounts } from "./commands.js";
import { BeforeAfter, OutputFold } from "./evidence.js";
import { canAct } from "./live.js";
import { OrphanNotice } from "./orphans.js";
import { actorName, approvalsOf, expectText, hasApproved, isBad, isCancellable, isFourEyes, isWaiting, progressText, resolutionText, resultText, unfinished, unknownSentence } from "./outcomes.js";
import { canApprove, canRequest } from "./roles.js";
import { operator } from "./session.js";
import { oneLine, shortLine } from "./texts.js";
import { CommandTimeline } from "./timelines.js";
import { Age, Moment, Remaining, momentText, untilText } from "./times.js";
import { unverifiedText } from "./trust.js";

/** @import * as Shapes from "./shapes.js" */
/** @import { Decision, SegmentName } from "./commands.js" */

export function QueueSection() {
  const { waiting, hasMore } = urgentCounts.value;
  return html`<section class="panel commands" aria-labelledby="commands-heading">
    <header class="panel-head">
      <h2 id="commands-heading">Command Queue</h2>
      ${waiting > 0 && html`<span class="count-badge" data-tone="warn">${waiting}${hasMore ? "+" : ""} waiting</span>`}
      <${ScopeSwitch} />
      <${StatusFilter} />
    </header>
    <${OrphanNotice} />
    <${CommandList} />
  </section>`;
}

function ScopeSwitch() {
  /** @param {boolean} isOnly */
  const choose = (isOnly) => () => {
    isOnlySelected.value = isOnly;
  };
  return html`<div class="segments" role="group" aria-label="Commands of">
    <button type="button" class="segment" aria-pressed=${!isOnlySelected.value} onClick=${choose(false)}>All PCs</button>
    <button type="button" class="segment" aria-pressed=${isOnlySelected.value} onClick=${choose(true)}>This PC</button>
  </div>`;
}

function StatusFilter() {
  const names = /** @type {SegmentName[]} */ (Object.keys(segments));
  return html`<div class="segments status-filter" role="group" aria-label="Status">
    ${names.map((name) => html`<${StatusSegment} key=${name} name=${name} />`)}
  </div>`;
}

/** @param {{ name: SegmentName }} props */
function StatusSegment({ name }) {
  const { waiting, unknown } = urgentCounts.value;
  const count = name === "waiting" ? waiting : name === "unknown" ? unknown : 0;
  const choose = () => {
    segment.value = name;
  };
  return html`<button type="button" class="segment" aria-pressed=${segment.value === name} onClick=${choose}>
    ${segments[name].label}${count > 0 && html` <span class="segment-count" data-segment=${name}>${count}</span>`}
  </button>`;
}

function CommandList() {
  const rows = shownCommands.value;
  return html`${rows.length === 0 && html`<p class="empty">${emptyText()}</p>`}
    ${rows.length > 0 &&
    html`<ol class="rows command-list">
      ${rows.map((command) => html`<${CommandRow} key=${command.id} command=${command} />`)}
    </ol>`}
    ${olderState.value !== "none" &&
    html`<div class="panel-foot">
      <button type="button" class="button" disabled=${olderState.value === "loading" || !canAct.value} onClick=${loadOlder}>
        ${olderState.value === "loading" ? "Loading…" : "Load older"}
      </button>
    </div>`}`;
}

function emptyText() {
  if (!isShownComplete.value) return canAct.value ? "Loading…" : "None among the last known commands.";
  if (olderState.value !== "none") return "None among those loaded; there are older ones.";
  if (isOnlySelected.value && segment.value === "all") return "No command has been sent to this PC yet.";
  return `${segments[segment.value].none}${isOnlySelected.value ? " Only this PC's are shown." : ""}`;
}

/** @param {{ command: Shapes.Command }} props */
function CommandRow({ command }) {
  return html`<li class="command" data-status=${command.status} data-waits=${isWaiting(command)} data-command-id=${command.id}>
    <div class="command-top">
      <${CommandStatusTag} command=${command} />
      <span class="command-type"><bdi>${oneLine(command.type)}</bdi></span>
      <span class="tag strength" data-strength=${command.strength}>${oneLine(command.strength)}</span>
      <${Age} stamp=${command.ts} />
    </div>
    <div class="command-main">
      <div class="command-words">
        <p class="command-sentence">
          <bdi>${shortLine(sentenceOf(command.type, command.payload), 200)}</bdi>${" on "}<strong><bdi>${oneLine(command.agent_id)}</bdi></strong>
        </p>
        <${CommandFacts} command=${command} />
        <${CommandStanding} command=${command} />
      </div>
      <${CommandActions} command=${command} />
    </div>
    ${command.status === "unknown" ? html`<${UnknownFact} command=${command} />` : html`<${ResultFact} command=${command} />`}
    <${CommandTimeline} command=${command} />
  </li>`;
}

/** @param {{ command: Shapes.Command }} props */
export function CommandStatusTag({ command }) {
  const { status, cancel_requested_at: cancelAskedAt } = command;
  return html`<span class="tag command-status" data-status=${status}><span class="status-mark" aria-hidden="true"></span>${oneLine(status)}</span>
    ${cancelAskedAt && unfinished.has(status) && html`<span class="tag cancel-requested">cancel requested</span>`}`;
}

/** @param {{ command: Shapes.Command }} props */
function CommandFacts({ command }) {
  const count = command.delivery_count ?? 0;
  return html`<p class="command-facts">
      <code class="payload">${payloadText(command.payload)}</code>
      <span>asked by <bdi>${oneLine(actorName(command.created_by))}</bdi></span>
      <${ApprovalFact} command=${command} />
      ${command.expect && html`<span>approved for <bdi>${expectText(command.expect)}</bdi></span>`}
      ${count > 1 && html`<span>sent to the PC ${count.toLocaleString("en")} times</span>`}
    </p>
    ${command.reason && html`<p class="command-reason">“<bdi>${oneLine(command.reason)}</bdi>”</p>`}`;
}

/** @param {{ command: Shapes.Command }} props */
function ApprovalFact({ command }) {
  const given = approvalsOf(command);
  if (given.length > 0) {
    return html`${given.map((approval) => html`<span key=${approval.id}>approved by <${Approver} approval=${approval} /></span>`)}
      ${command.is_verified_by_pc === true && command.status === "completed" && html`<span class="verified">verified by the PC</span>`}
      ${command.is_verified_by_pc === false && html`<span>${unverifiedText}</span>`}`;
  }
  if (isWaiting(command)) return missingText(command) ? null : html`<span class="waits">waits for approval</span>`;
  return html`<span>${command.needs_approval ? "not approved" : "no approval needed"}</span>`;
}

/** @type {Record<string, string>} */
const keyTexts = { webauthn: "passkey", webcrypto: "browser key", ed25519: "key file" };

/** @param {{ approval: Shapes.Approval }} props */
function Approver({ approval: { approved_by: who, approved_at: at, kind, comment } }) {
  const how = kind && Object.hasOwn(keyTexts, kind) ? ` with a ${keyTexts[kind]}` : "";
  return html`<bdi>${oneLine(actorName(who))}</bdi>${how} at <${Moment} stamp=${at} />${comment && html` “<bdi>${oneLine(comment)}</bdi>”`}`;
}

/** What has to happen next, and until when. @param {{ command: Shapes.Command }} props */
export function CommandStanding({ command }) {
  const { status, expires_at: expiresAt, accepted_at: acceptedAt, result } = command;
  if (status === "delivered" && acceptedAt) return html`<p class="standing">accepted by the PC; ${vetoText(result)}</p>`;
  if (status === "delivered" && command.cancel_requested_at) {
    return html`<p class="standing">cancel requested at ${momentText(command.cancel_requested_at)}; if the PC has begun, it says what it did</p>`;
  }
  if (status !== "pending") return null;
  const isOffline = findAgent(command.agent_id)?.status === "OFFLINE";
  if (isWaiting(command)) return html`<${Waiting} command=${command} isOffline=${isOffline} />`;
  if (!isOffline) return html`<p class="standing">on its way to the PC</p>`;
  return html`<p class="standing">waits for the PC${expiresAt ? ` until ${untilText(expiresAt)}` : ""}</p>`;
}

/** @param {{ command: Shapes.Command, isOffline: boolean }} props */
function Waiting({ command, isOffline }) {
  const missing = missingText(command);
  return html`<p class="standing">
    ${missing && html`<span class="waits">${missing}</span>`}
    ${command.expires_at && html`<span class="waits">expires <${Remaining} stamp=${command.expires_at} /></span>`}
    ${isOffline && html`<span>the PC is OFFLINE</span>`}
  </p>`;
}

/** Whose yes is missing, where that is not plain. @param {Shapes.Command} command */
function missingText(command) {
  const me = operator.value?.name ?? "";
  if ((command.approvals_required ?? 1) > 1) return progressText(command, me);
  return isFourEyes(command, me) ? "you asked, so somebody else must approve" : null;
}

/** @param {Shapes.CommandResult | null} result */
function vetoText(result) {
  const actsAt = result?.["acts_at"];
  return typeof actsAt === "string" ? `it acts at ${momentText(actsAt)} unless somebody there stops it` : "it has not begun";
}

/** What this person may do about it now. @param {Shapes.Command} command @returns {{ decision: Decision, label: string, look: string }[]} */
function actionsOf(command) {
  const me = operator.value?.name ?? "";
  const isMine = !hasApproved(command, me) && !isFourEyes(command, me);
  const isAsked = canApprove.value && isWaiting(command);
  /** @type {[boolean, { decision: Decision, label: string, look: string }][]} */
  const all = [
    [isAsked && isMine, { decision: "approve", label: "Approve", look: "primary approve" }],
    [isAsked, { decision: "deny", label: "Deny", look: "small" }],
    [canApprove.value && command.status === "unknown", { decision: "resolve", label: "Resolve", look: "primary" }],
    [canRequest.value && isCancellable(command), { decision: "cancel", label: "Cancel", look: "small ghost" }],
  ];
  return all.filter(([isPossible]) => isPossible).map(([, action]) => action);
}

/** @param {{ command: Shapes.Command }} props */
function CommandActions({ command }) {
  const actions = actionsOf(command);
  if (actions.length === 0) return null;
  return html`<div class="command-actions">
    ${actions.map(
      ({ decision, label, look }) => html`<button
        type="button"
        key=${decision}
        class=${`button ${look}`}
        disabled=${!canAct.value}
        onClick=${() => ask(decision, command)}
      >
        ${label}
      </button>`,
    )}
  </div>`;
}

/** @param {{ command: Shapes.Command }} props */
export function UnknownFact({ command }) {
  const text = command.result?.error ? oneLine(command.result.error) : "";
  return html`<div class="unknown-fact">
    <p class="unknown-title">${unknownSentence}</p>
    ${text && html`<p>${text}</p>`}
    <${BeforeAfter} result=${command.result ?? {}} />
    <p class="quiet">Look at the PC, then record what you found. A new command needs a new approval.</p>
  </div>`;
}

/** @param {{ command: Shapes.Command }} props */
function ResultFact({ command }) {
  const { resolution, result } = command;
  if (unfinished.has(command.status)) return null;
  const text = resultText(command);
  return html`${resolution &&
    html`<p class="command-result resolution">${resolutionText(resolution)} “<bdi>${oneLine(resolution.reason)}</bdi>”</p>`}
    ${text && html`<p class="command-result" data-bad=${isBad(command) && !resolution}>${text}</p>`}
    ${measured.value.has(command.id) && html`<p class="command-result measured">${command.status} <strong>${measured.value.get(command.id)}</strong></p>`}
    <${OutputFold} output=${result?.output} />`;
}
