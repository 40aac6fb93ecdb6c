/**
 * The dialogs in which a person approves, cancels or resolves a command.
 * It refuses to let a decision be made without the PC, the command and its consequences in sight.
 */
import { html, useState } from "../vendor/preact-htm-signals.js";
import { findAgent } from "./agents.js";
import { approveCommand, cancelCommand, resolveCommand } from "./api.js";
import { payloadText, sentenceOf } from "./catalogue.js";
import { closeQuestion, currentOf, followCommand, question, refreshCommands, toastKey } from "./commands.js";
import { ConfirmDialog, ReasonField, useSending } from "./dialogs.js";
import { Evidence } from "./evidence.js";
import { canAct } from "./live.js";
import { actorName, expectText, isCancellable, isWaiting, titleOf, unknownSentence } from "./outcomes.js";
import { oneLine, shortLine } from "./texts.js";
import { refreshTimelines } from "./timelines.js";
import { Age, Moment, Remaining, momentText } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const dialogs = { approve: ApproveDialog, cancel: CancelDialog, resolve: ResolveDialog };

/** The dialog, when a command is being asked about. */
export function DecisionDialog() {
  if (!question.value) return null;
  const { decision, command } = question.value;
  return html`<${dialogs[decision]} key=${`${decision}:${command.id}`} command=${currentOf(command)} />`;
}

/** @param {Shapes.Command} command @param {string} title @param {string} text */
function tellSent(command, title, text) {
  showToast({ key: toastKey(command), tone: "plain", title, text, count: 1 });
  refreshCommands().catch(() => {});
  refreshTimelines().catch(() => {});
}

/** @param {{ command: Shapes.Command }} props */
function ApproveDialog({ command }) {
  const { busy, problem, confirm } = useSending(() => sendApproval(command), closeQuestion);
  const isOpen = isWaiting(command);
  return html`<${ConfirmDialog}
    title=${`Approve on ${shortLine(command.agent_id, 40)}?`}
    confirmLabel=${busy ? "Approving…" : "Approve"}
    tone="danger"
    busy=${busy}
    blocked=${!canAct.value || !isOpen}
    problem=${problem ?? (isOpen ? null : endedText(command))}
    onConfirm=${confirm}
    onCancel=${closeQuestion}
  >
    <p class="dialog-sentence"><bdi>${sentenceOf(command.type, command.payload)}</bdi></p>
    <${CommandFactList} command=${command} />
    <${Expectation} command=${command} />
    ${warningsOf(command).map((warning) => html`<p class="note" data-tone="warn" key=${warning}>${warning}</p>`)}
  </${ConfirmDialog}>`;
}

/** @param {Shapes.Command} command */
async function sendApproval(command) {
  const clickedMs = performance.now();
  await approveCommand(command.id, shownProcess(command));
  followCommand(command.id, clickedMs);
  tellSent(command, `${titleOf(command)} approved`, "Waiting for the PC…");
}

/** The process that the dialog shows, as the server compares it. @param {Shapes.Command} command @returns {Shapes.Expectation | null} */
function shownProcess(command) {
  const name = command.payload?.["process"];
  const process = findAgent(command.agent_id)?.metrics?.processes?.find((one) => one.name === name);
  if (!process) return null;
  return process.running
    ? { pid: process.pid ?? null, create_time_ms: process.create_time_ms ?? null }
    : { pid: null, create_time_ms: null };
}

/** @param {{ command: Shapes.Command }} props */
function CommandFactList({ command }) {
  const hostname = findAgent(command.agent_id)?.metrics?.hostname;
  return html`<dl class="dialog-facts">
    <dt>PC</dt>
    <dd><bdi>${oneLine(command.agent_id)}</bdi>${hostname && html` <span class="quiet"><bdi>${oneLine(hostname)}</bdi></span>`}</dd>
    <dt>Command</dt>
    <dd><bdi>${oneLine(command.type)}</bdi> <span class="tag strength" data-strength=${command.strength}>${oneLine(command.strength)}</span></dd>
    <dt>Payload</dt>
    <dd><code class="payload">${payloadText(command.payload)}</code></dd>
    <dt>Asked by</dt>
    <dd><bdi>${oneLine(actorName(command.created_by))}</bdi></dd>
    <dt>Reason</dt>
    <dd>${command.reason ? html`<bdi>${oneLine(command.reason)}</bdi>` : html`<span class="quiet">none given</span>`}</dd>
    <dt>Asked at</dt>
    <dd><${Moment} stamp=${command.ts} />, <${Age} stamp=${command.ts} /></dd>
    ${command.expires_at &&
    command.status === "pending" &&
    html`<dt>Expires</dt>
      <dd><${Remaining} stamp=${command.expires_at} />, at ${momentText(command.expires_at)}</dd>`}
    <dt>Id</dt>
    <dd><code>${oneLine(command.id)}</code></dd>
  </dl>`;
}

/** What the process is like now; the server records it with the approval. @param {{ command: Shapes.Command }} props */
function Expectation({ command }) {
  const name = command.payload?.["process"];
  const metrics = findAgent(command.agent_id)?.metrics;
  if (typeof name !== "string" || !metrics) return null;
  const process = metrics.processes?.find((one) => one.name === name);
  if (!process) return html`<p class="note" data-tone="warn">The PC does not report <bdi>${oneLine(name)}</bdi>, so it cannot be said what it is doing now.</p>`;
  const state = process.running ? html`runs now as <strong>${expectText(process)}</strong>` : html`is <strong>not running</strong> now`;
  return html`<p class="note expectation"><bdi>${oneLine(name)}</bdi> ${state}. ${metrics.journal ? "The command is refused if it changes before the command arrives." : "An older agent runs on this PC: it does not check that this is still so."}</p>`;
}

/** Why the PC may refuse in spite of the approval. @param {Shapes.Command} command */
function warningsOf({ agent_id: agentId }) {
  const agent = findAgent(agentId);
  if (!agent) return [];
  const warnings = [];
  if (agent.status === "OFFLINE") warnings.push("This PC is OFFLINE: the command runs when it is back, unless it expires before.");
  if (agent.apply_enabled === false) warnings.push("apply_enabled is false on this PC: it will refuse the command.");
  if (agent.mode === "SAFE" || agent.mode === "LOCKED") warnings.push(`This PC is in ${agent.mode} mode: it will refuse strong commands.`);
  return warnings;
}

/** @param {{ command: Shapes.Command }} props */
function CancelDialog({ command }) {
  const [reason, setReason] = useState("");
  const { busy, problem, confirm } = useSending(() => sendCancel(command, reason.trim()), closeQuestion);
  const isOpen = isCancellable(command);
  return html`<${ConfirmDialog}
    title=${`Cancel on ${shortLine(command.agent_id, 40)}?`}
    confirmLabel=${busy ? "Cancelling…" : "Cancel the command"}
    dismissLabel="Keep it"
    busy=${busy}
    blocked=${!canAct.value || !isOpen}
    problem=${problem ?? (isOpen ? null : endedText(command))}
    onConfirm=${confirm}
    onCancel=${closeQuestion}
  >
    <p class="dialog-sentence plain"><bdi>${sentenceOf(command.type, command.payload)}</bdi></p>
    <${CommandFactList} command=${command} />
    <p class="note">
      ${command.status === "pending"
        ? "It has not been sent to the PC: cancelled now, it will not run."
        : "It was sent to the PC already. If the PC has not begun, it will not run; if it has, the PC says what it did."}
    </p>
    <${ReasonField} label="Reason (optional)" value=${reason} onValue=${setReason} />
  </${ConfirmDialog}>`;
}

/** Why there is nothing left to decide. @param {Shapes.Command} command */
function endedText({ status, cancel_requested_at: cancelAskedAt }) {
  if (status === "pending") return "This command is approved already.";
  return cancelAskedAt && status === "delivered" ? "Cancelling it was requested already." : `This command is ${status} already.`;
}

/** @param {Shapes.Command} command @param {string} reason */
async function sendCancel(command, reason) {
  const { status } = await cancelCommand(command.id, reason);
  if (status === "cancelled") tellSent(command, `${titleOf(command)} cancelled`, "It will not run.");
  else tellSent(command, `${titleOf(command)}: cancel requested`, "The PC says whether it had begun.");
}

/** @param {{ command: Shapes.Command }} props */
function ResolveDialog({ command }) {
  const [outcome, setOutcome] = useState(/** @type {Shapes.Outcome | null} */ (null));
  const [reason, setReason] = useState("");
  const { busy, problem, confirm } = useSending(() => sendFinding(command, outcome, reason.trim()), closeQuestion);
  const isOpen = command.status === "unknown";
  return html`<${ConfirmDialog}
    title=${`What became of it on ${shortLine(command.agent_id, 40)}?`}
    confirmLabel=${confirmText(outcome)}
    busy=${busy}
    blocked=${!canAct.value || !isOpen || outcome === null || reason.trim() === ""}
    problem=${problem ?? (isOpen ? null : endedText(command))}
    onConfirm=${confirm}
    onCancel=${closeQuestion}
  >
    <p class="dialog-sentence plain"><bdi>${sentenceOf(command.type, command.payload)}</bdi></p>
    <div class="unknown-fact">
      <p class="unknown-title">${unknownSentence}</p>
      <${Evidence} result=${command.result ?? {}} />
    </div>
    <${CommandFactList} command=${command} />
    <${OutcomeChoice} outcome=${outcome} onOutcome=${setOutcome} />
    <${ReasonField} label="How do you know? (required, kept with your name)" value=${reason} onValue=${setReason} isRequired />
    <p class="quiet">This records what you found; nothing runs again. To do it anew, send a new command: it needs a new approval.</p>
  </${ConfirmDialog}>`;
}

/** @param {Shapes.Outcome | null} outcome */
function confirmText(outcome) {
  if (outcome === null) return "Record";
  return outcome === "ran" ? "Record that it ran" : "Record that it did not run";
}

/** @param {{ outcome: Shapes.Outcome | null, onOutcome: (outcome: Shapes.Outcome) => void }} props */
function OutcomeChoice({ outcome, onOutcome }) {
  const choices = /** @type {const} */ ({ ran: "It ran", did_not_run: "It did not run" });
  const names = /** @type {Shapes.Outcome[]} */ (Object.keys(choices));
  return html`<fieldset class="choices">
    <legend>What did you find on the PC?</legend>
    ${names.map(
      (name) => html`<label class="choice" key=${name}>
        <input type="radio" name="outcome" value=${name} required checked=${outcome === name} onChange=${() => onOutcome(name)} />
        <span>${choices[name]}</span>
      </label>`,
    )}
  </fieldset>`;
}

/** @param {Shapes.Command} command @param {Shapes.Outcome | null} outcome @param {string} reason */
async function sendFinding(command, outcome, reason) {
  if (outcome === null) return;
  await resolveCommand(command.id, { outcome, reason });
  tellSent(command, `${titleOf(command)} resolved`, outcome === "ran" ? "Recorded: it ran." : "Recorded: it did not run.");
}
