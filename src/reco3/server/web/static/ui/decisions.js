/**
 * The dialogs in which a person denies, cancels or resolves a command; approving has its own file.
 * It refuses to let a decision be made without the PC, the command and its consequences in sight.
 */
import { html, useState } from "../vendor/preact-htm-signals.js";
import { cancelCommand, denyCommand, resolveCommand } from "./api.js";
import { ApproveDialog } from "./approving.js";
import { CommandFactList, endedText, tellSent } from "./briefings.js";
import { sentenceOf } from "./catalogue.js";
import { closeQuestion, currentOf, question } from "./commands.js";
import { ConfirmDialog, ReasonField, useSending } from "./dialogs.js";
import { Evidence } from "./evidence.js";
import { canAct } from "./live.js";
import { isCancellable, isWaiting, titleOf, unknownSentence } from "./outcomes.js";
import { withProof } from "./proofs.js";
import { shortLine } from "./texts.js";

/** @import * as Shapes from "./shapes.js" */

const dialogs = { approve: ApproveDialog, deny: DenyDialog, cancel: CancelDialog, resolve: ResolveDialog };

/** The dialog, when a command is being asked about. */
export function DecisionDialog() {
  if (!question.value) return null;
  const { decision, command } = question.value;
  return html`<${dialogs[decision]} key=${`${decision}:${command.id}`} command=${currentOf(command)} />`;
}

/** @param {{ command: Shapes.Command }} props */
function DenyDialog({ command }) {
  const [reason, setReason] = useState("");
  const { busy, problem, confirm } = useSending(() => sendDenial(command, reason.trim()), closeQuestion);
  const isOpen = isWaiting(command);
  return html`<${ConfirmDialog}
    title=${`Deny on ${shortLine(command.agent_id, 40)}?`}
    confirmLabel=${busy ? "Denying…" : "Deny"}
    tone="danger"
    dismissLabel="Keep waiting"
    busy=${busy}
    blocked=${!canAct.value || !isOpen || reason.trim() === ""}
    problem=${problem ?? (isOpen ? null : endedText(command))}
    onConfirm=${confirm}
    onCancel=${closeQuestion}
  >
    <p class="dialog-sentence plain"><bdi>${sentenceOf(command.type, command.payload)}</bdi></p>
    <${CommandFactList} command=${command} />
    <${ReasonField} label="Why not? (required, whoever asked reads it)" value=${reason} onValue=${setReason} isRequired />
    <p class="quiet">It ends as rejected and will not run. To do it after all, somebody asks anew.</p>
  </${ConfirmDialog}>`;
}

/** @param {Shapes.Command} command @param {string} reason */
async function sendDenial(command, reason) {
  await withProof(() => denyCommand(command.id, reason));
  tellSent(command, `${titleOf(command)} denied`, "It will not run.");
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
