/**
 * The command queue, and the approval of what waits in it.
 * It refuses to approve by one click: the dialog says what will happen where, and only then the button counts.
 */
import { computed, html, signal, useState } from "../vendor/preact-htm-signals.js";
import { findAgent, selectedId } from "./agents.js";
import { approveCommand, fetchCommands } from "./api.js";
import { payloadText, sentenceOf } from "./catalogue.js";
import { ConfirmDialog } from "./dialogs.js";
import { canAct } from "./live.js";
import { isNumber } from "./quantities.js";
import { coalesced } from "./refreshing.js";
import { withNewest, withOlder } from "./rows.js";
import { counted, oneLine, shortLine, visibleLines } from "./texts.js";
import { Age, Moment, durationText, noteServerTime } from "./times.js";
import { dismissToast, showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const pageSize = 50;
const largestPageSize = 500;
const toastsAtOnce = 2;
const unfinished = new Set(["pending", "delivered", "running"]);

/** @typedef {{ rows: Shapes.Command[], nextCursor: string | null }} LoadedCommands */

const loaded = signal(/** @type {LoadedCommands | null} */ (null));
const isLoadingOlder = signal(false);
const isOnlySelected = signal(false);
const asked = signal(/** @type {Shapes.Command | null} */ (null));
/** Commands that this page sent or approved, with the moment of the click. @type {Map<string, number>} */
const followed = new Map();

export const commands = computed(() => loaded.value?.rows ?? []);
export const waitingCount = computed(() => commands.value.filter(isWaiting).length);
const shownCommands = computed(() =>
  isOnlySelected.value ? commands.value.filter((command) => command.agent_id === selectedId.value) : commands.value,
);

/** @param {Shapes.Command} command */
function isWaiting(command) {
  return command.status === "pending" && command.needs_approval && !command.approved;
}

export const refreshCommands = coalesced(async () => {
  const before = loaded.peek();
  const limit = Math.min(largestPageSize, Math.max(pageSize, before?.rows.length ?? 0));
  const page = await fetchCommands({ limit });
  noteServerTime(page.now);
  const fresh = { rows: page.commands ?? [], nextCursor: page.next_cursor };
  if (before) tellNews(before.rows, fresh.rows);
  const now = loaded.peek();
  loaded.value = now ? withNewest(now, fresh) : fresh;
});

/** @param {Shapes.Command[] | null} rows */
export function restoreCommands(rows) {
  loaded.value = rows && { rows, nextCursor: null };
  asked.value = null;
  followed.clear();
}

/** Says how the command went once its result is there. @param {string} commandId */
export function followCommand(commandId) {
  followed.set(commandId, performance.now());
}

async function loadOlder() {
  const before = loaded.peek();
  if (!before?.nextCursor || isLoadingOlder.peek()) return;
  isLoadingOlder.value = true;
  try {
    const page = await fetchCommands({ limit: pageSize * 2, cursor: before.nextCursor });
    loaded.value = withOlder(loaded.peek() ?? before, { rows: page.commands ?? [], nextCursor: page.next_cursor });
  } catch (error) {
    showToast({ key: "commands-older", tone: "bad", title: "Older commands could not be loaded", text: String(error) });
  } finally {
    isLoadingOlder.value = false;
  }
}

/**
 * @param {Shapes.Command[]} before
 * @param {Shapes.Command[]} now
 */
function tellNews(before, now) {
  const earlier = new Map(before.map((command) => [command.id, command]));
  const newlyWaiting = now.filter((command) => isWaiting(command) && !earlier.has(command.id));
  const newlyFailed = now.filter((command) => isBad(command) && earlier.get(command.id)?.status !== command.status);
  for (const command of now) {
    const previous = earlier.get(command.id);
    if (previous && isWaiting(previous) && !isWaiting(command)) dismissToast(toastKey(command));
    if (command.status === "completed") tellCompleted(command);
  }
  toastFew(newlyWaiting, waitingToast, `${counted(newlyWaiting.length, "command")} wait for approval`);
  toastFew(newlyFailed, failedToast, `${counted(newlyFailed.length, "command")} failed`);
}

/** @param {Shapes.Command} command */
function isBad(command) {
  return ["failed", "rejected", "expired", "unknown"].includes(command.status);
}

/** The server writes people as `user:name`. @param {string | null} actor */
function actorName(actor) {
  return (actor ?? "unknown").replace(/^user:/u, "");
}

/** @param {Shapes.Command} command */
function toastKey(command) {
  return `command:${command.id}`;
}

/** @param {Shapes.Command} command */
function tellCompleted(command) {
  const clickedMs = followed.get(command.id);
  if (clickedMs === undefined) return;
  followed.delete(command.id);
  const title = `${titleOf(command)} completed`;
  showToast({ key: toastKey(command), tone: "good", title, text: tookText(command, clickedMs), count: 1 });
}

/**
 * @param {Shapes.Command[]} news
 * @param {(command: Shapes.Command) => Shapes.Toast} toastOf
 * @param {string} summary
 */
function toastFew(news, toastOf, summary) {
  if (news.length <= toastsAtOnce) return void news.forEach((command) => showToast(toastOf(command)));
  showToast({ key: `commands:${toastOf.name}`, tone: "warn", title: summary, text: "See the Command Queue.", sticky: true });
}

/** @param {Shapes.Command} command @returns {Shapes.Toast} */
function waitingToast(command) {
  const action = { label: "Approve", run: () => askApproval(command), isDecision: true };
  const text = `${shortLine(command.agent_id, 40)} · ${shortLine(payloadText(command.payload), 120)} · asked by ${shortLine(actorName(command.created_by), 40)}`;
  return { key: toastKey(command), tone: "warn", title: `${shortLine(command.type, 40)} waits for approval`, text, action, sticky: true, count: 1 };
}

/** @param {Shapes.Command} command @returns {Shapes.Toast} */
function failedToast(command) {
  const clickedMs = followed.get(command.id);
  followed.delete(command.id);
  const took = clickedMs === undefined ? "" : ` (${tookText(command, clickedMs)})`;
  const title = `${titleOf(command)} ${command.status === "unknown" ? "ended unknown" : command.status}`;
  return { key: toastKey(command), tone: "bad", title, text: `${shortLine(resultText(command), 240)}${took}`, sticky: true, count: 1 };
}

/** @param {Shapes.Command} command */
function titleOf(command) {
  return `${shortLine(command.type, 40)} on ${shortLine(command.agent_id, 40)}`;
}

/**
 * The server's own stamps where it has both, else what this page measured.
 * @param {Shapes.Command} command
 * @param {number} clickedMs
 */
function tookText(command, clickedMs) {
  const startedAt = command.approval?.approved_at ?? command.ts;
  const measuredMs = Date.parse(command.finished_at ?? "") - Date.parse(startedAt);
  const tookMs = Number.isNaN(measuredMs) ? performance.now() - clickedMs : measuredMs;
  return `${durationText(tookMs)} after ${command.approval ? "approval" : "sending"}`;
}

/** @param {Shapes.Command} command */
function resultText({ result, status, result_json: raw }) {
  if (result?.error) return oneLine(result.error);
  if (status === "unknown") return "The PC cannot say whether it ran. Look at the PC before asking again.";
  if (status === "expired") return "Nobody fetched it in time; it will not run.";
  if (!result) return raw ? oneLine(raw) : "";
  return [result.success === false ? "not successful" : "", exitText(result), durationOf(result)].filter(Boolean).join(", ");
}

/** @param {Shapes.CommandResult} result */
function exitText({ exit_code: code }) {
  return isNumber(code) ? `exit code ${code}` : "";
}

/** @param {Shapes.CommandResult} result */
function durationOf({ duration_ms: durationMs }) {
  return isNumber(durationMs) ? `took ${durationText(durationMs)}` : "";
}

/** Opens the approval dialog. @param {Shapes.Command} command */
export function askApproval(command) {
  asked.value = command;
}

export function CommandsSection() {
  return html`<section class="panel commands" aria-labelledby="commands-heading">
    <header class="panel-head">
      <h2 id="commands-heading">Command Queue</h2>
      ${waitingCount.value > 0 && html`<span class="count-badge" data-tone="warn">${waitingCount.value} waiting</span>`}
      <${ScopeSwitch} />
    </header>
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

function CommandList() {
  const rows = shownCommands.value;
  if (loaded.value === null) return html`<p class="empty">Waiting for the server…</p>`;
  return html`${rows.length === 0 &&
    html`<p class="empty">${isOnlySelected.value ? "No command for this PC among those loaded." : "No command has been sent yet."}</p>`}
    ${rows.length > 0 &&
    html`<ol class="rows command-list">
      ${rows.map((command) => html`<${CommandRow} key=${command.id} command=${command} />`)}
    </ol>`}
    ${loaded.value.nextCursor &&
    html`<div class="panel-foot">
      <button type="button" class="button" disabled=${isLoadingOlder.value || !canAct.value} onClick=${loadOlder}>
        ${isLoadingOlder.value ? "Loading…" : "Load older"}
      </button>
    </div>`}`;
}

/** @param {{ command: Shapes.Command }} props */
function CommandRow({ command }) {
  const waits = isWaiting(command);
  return html`<li class="command" data-status=${command.status} data-command-id=${command.id}>
    <div class="command-top">
      <${CommandStatusTag} status=${command.status} />
      <span class="command-type"><bdi>${oneLine(command.type)}</bdi></span>
      <span class="tag strength" data-strength=${command.strength}>${oneLine(command.strength)}</span>
      <${Age} stamp=${command.ts} />
    </div>
    <div class="command-main">
      <div class="command-words">
        <p class="command-sentence">
          <bdi>${shortLine(sentenceOf(command.type, command.payload), 200)}</bdi>${" on "}<strong><bdi>${oneLine(command.agent_id)}</bdi></strong>
        </p>
        <p class="command-facts">
          <code class="payload">${payloadText(command.payload)}</code>
          <span>asked by <bdi>${oneLine(actorName(command.created_by))}</bdi></span>
          <${ApprovalFact} command=${command} />
        </p>
      </div>
      ${waits &&
      html`<button type="button" class="button primary approve" disabled=${!canAct.value} onClick=${() => askApproval(command)}>
        Approve
      </button>`}
    </div>
    <${ResultFact} command=${command} />
  </li>`;
}

/** @param {{ status: string }} props */
export function CommandStatusTag({ status }) {
  return html`<span class="tag command-status" data-status=${status}><span class="status-mark" aria-hidden="true"></span>${oneLine(status)}</span>`;
}

/** @param {{ command: Shapes.Command }} props */
function ApprovalFact({ command }) {
  if (command.approval) {
    return html`<span>approved by <bdi>${oneLine(actorName(command.approval.approved_by))}</bdi> at <${Moment} stamp=${command.approval.approved_at} /></span>`;
  }
  if (isWaiting(command)) return html`<span class="waits">waits for approval</span>`;
  return html`<span>${command.needs_approval ? "not approved" : "no approval needed"}</span>`;
}

/** @param {{ command: Shapes.Command }} props */
function ResultFact({ command }) {
  if (unfinished.has(command.status) && !command.result && !command.result_json) return null;
  const text = resultText(command);
  const output = command.result?.output;
  return html`${text && html`<p class="command-result" data-bad=${isBad(command)}>${text}</p>`}
    ${output !== undefined &&
    output !== null &&
    output !== "" &&
    html`<details class="command-output">
      <summary>Output</summary>
      <pre class="output">${visibleLines(typeof output === "string" ? output : JSON.stringify(output, null, 2))}</pre>
    </details>`}`;
}

/** The dialog, when a command is being asked about. */
export function ApprovalDialog() {
  const command = asked.value;
  if (!command) return null;
  const current = commands.value.find(({ id }) => id === command.id) ?? command;
  return html`<${ApprovalQuestion} key=${command.id} command=${current} />`;
}

/** @param {{ command: Shapes.Command }} props */
function ApprovalQuestion({ command }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  const close = () => {
    asked.value = null;
  };
  const approve = async () => {
    setBusy(true);
    try {
      await sendApproval(command);
      close();
    } catch (error) {
      setProblem(error instanceof Error ? oneLine(error.message) : oneLine(error));
    }
    setBusy(false);
  };
  const pc = shortLine(command.agent_id, 40);
  return html`<${ConfirmDialog}
    title=${`Approve on ${pc}?`}
    confirmLabel=${busy ? "Approving…" : "Approve"}
    tone="danger"
    busy=${busy}
    blocked=${!canAct.value || !isWaiting(command)}
    problem=${problem ?? (isWaiting(command) ? null : `This command is ${command.status} already.`)}
    onConfirm=${approve}
    onCancel=${close}
  >
    <${ApprovalFacts} command=${command} />
  </${ConfirmDialog}>`;
}

/** @param {{ command: Shapes.Command }} props */
function ApprovalFacts({ command }) {
  const agent = findAgent(command.agent_id);
  return html`<p class="dialog-sentence"><bdi>${sentenceOf(command.type, command.payload)}</bdi></p>
    <dl class="dialog-facts">
      <dt>PC</dt>
      <dd><bdi>${oneLine(command.agent_id)}</bdi>${agent?.metrics?.hostname && html` <span class="quiet"><bdi>${oneLine(agent.metrics.hostname)}</bdi></span>`}</dd>
      <dt>Command</dt>
      <dd><bdi>${oneLine(command.type)}</bdi> <span class="tag strength" data-strength=${command.strength}>${oneLine(command.strength)}</span></dd>
      <dt>Payload</dt>
      <dd><code class="payload">${payloadText(command.payload)}</code></dd>
      <dt>Asked by</dt>
      <dd><bdi>${oneLine(actorName(command.created_by))}</bdi></dd>
      <dt>Asked at</dt>
      <dd><${Moment} stamp=${command.ts} />, <${Age} stamp=${command.ts} /></dd>
      <dt>Id</dt>
      <dd><code>${oneLine(command.id)}</code></dd>
    </dl>
    ${agent && warningsOf(agent).map((warning) => html`<p class="note" data-tone="warn" key=${warning}>${warning}</p>`)}`;
}

/** Why the PC may refuse in spite of the approval. @param {Shapes.Agent} agent */
function warningsOf({ status, apply_enabled: isOpen, mode }) {
  const warnings = [];
  if (status === "OFFLINE") warnings.push("This PC is OFFLINE: the command runs when it is back, unless it expires before.");
  if (isOpen === false) warnings.push("apply_enabled is false on this PC: it will refuse the command.");
  if (mode === "SAFE" || mode === "LOCKED") warnings.push(`This PC is in ${mode} mode: it will refuse strong commands.`);
  return warnings;
}

/** @param {Shapes.Command} command */
async function sendApproval(command) {
  const clickedMs = performance.now();
  await approveCommand(command.id);
  followed.set(command.id, clickedMs);
  showToast({ key: toastKey(command), tone: "plain", title: `${titleOf(command)} approved`, text: "Waiting for the PC…", count: 1 });
  refreshCommands().catch(() => {});
}
