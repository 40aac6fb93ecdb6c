/**
 * The dialog in which a person approves: what the bytes say, who signs them, and what stands in the way.
 * It refuses to show one thing and sign another: everything to decide by is read from the bytes.
 */
import { html, useEffect, useState } from "../vendor/preact-htm-signals.js";
import { findAgent } from "./agents.js";
import { ApiError, approveCommand, fetchEnvelope } from "./api.js";
import { CommandFactList, EnvelopeFactList, ExpectationNote, endedText, shownProcess, tellSent, warningsOf } from "./briefings.js";
import { hasCrypto } from "./bytes.js";
import { sentenceOf } from "./catalogue.js";
import { closeQuestion, followApproval } from "./commands.js";
import { ConfirmDialog, ReasonField, useSending } from "./dialogs.js";
import { readEnvelope } from "./envelopes.js";
import { KeyChoice, keyName, refreshKeys, usableKeys } from "./keys.js";
import { canAct } from "./live.js";
import { hasApproved, isFourEyes, isWaiting, progressText, titleOf } from "./outcomes.js";
import { hasPasskeys, isLoopbackAddress, openOnLocalhost } from "./passkeys.js";
import { place } from "./places.js";
import { withProof } from "./proofs.js";
import { operator } from "./session.js";
import { signEnvelope } from "./signers.js";
import { counted, oneLine, shortLine, visibleLines } from "./texts.js";
import { pinnedCount, unverifiedText } from "./trust.js";

/** @import * as Shapes from "./shapes.js" */

/**
 * What the dialog has to show: the envelope once it is read, none where the command has none.
 * @typedef {{ envelope: Shapes.ReadEnvelope | null, isLoading: boolean, problem: string | null }} Reading
 */

const changedCode = "changed_since_shown";

/** @param {{ command: Shapes.Command }} props */
export function ApproveDialog({ command }) {
  const [reading, read] = useEnvelope(command);
  const [chosenId, setChosenId] = useState(/** @type {string | null} */ (null));
  const [comment, setComment] = useState("");
  const { envelope } = reading;
  const keys = envelope ? usableKeys.value : [];
  const signer = keys.find(({ key_id: id }) => id === chosenId) ?? keys[0] ?? null;
  const obstacle = obstacleOf(command, reading, signer);
  const approval = { command, envelope, signer, comment: comment.trim(), read };
  const { busy, problem, confirm } = useSending(() => sendApproval(approval), closeQuestion);
  return html`<${ConfirmDialog}
    title=${`Approve on ${shortLine(command.agent_id, 40)}?`}
    confirmLabel=${confirmText(busy, signer)}
    tone="danger"
    busy=${busy}
    blocked=${!canAct.value || obstacle !== null}
    problem=${problem ?? obstacle}
    onConfirm=${confirm}
    onCancel=${closeQuestion}
  >
    <${Briefing} command=${command} envelope=${envelope} />
    ${!reading.isLoading && html`<${SigningNote} command=${command} envelope=${envelope} signer=${signer} />`}
    ${keys.length > 1 && html`<${KeyChoice} keys=${keys} signer=${signer} onKey=${setChosenId} />`}
    ${warningsOf(command).map((warning) => html`<p class="note" data-tone="warn" key=${warning}>${warning}</p>`)}
    ${envelope && html`<${Further} envelope=${envelope} comment=${comment} onComment=${setComment} />`}
  </${ConfirmDialog}>`;
}

/**
 * The command's bytes, fetched when the dialog opens and anew when the server says that they changed.
 * @param {Shapes.Command} command
 * @returns {[Reading, () => Promise<void>]}
 */
function useEnvelope(command) {
  const [reading, setReading] = useState(/** @type {Reading} */ ({ envelope: null, isLoading: true, problem: null }));
  const read = async () => setReading(await readingOf(command));
  useEffect(() => {
    void Promise.all([read(), refreshKeys().catch(() => {})]);
  }, [command.id]);
  return [reading, read];
}

/** @param {Shapes.Command} command @returns {Promise<Reading>} */
async function readingOf(command) {
  try {
    return { envelope: await readEnvelope(await fetchEnvelope(command.id), command), isLoading: false, problem: null };
  } catch (error) {
    const hasNone = error instanceof ApiError && (error.status === 404 || error.code === "no_envelope");
    return { envelope: null, isLoading: false, problem: hasNone ? null : error instanceof Error ? error.message : String(error) };
  }
}

/** @param {boolean} busy @param {Shapes.OwnKey | null} signer */
function confirmText(busy, signer) {
  if (!signer) return busy ? "Approving…" : "Approve";
  return busy ? "Signing…" : "Sign and approve";
}

/**
 * Why this person cannot approve here and now, in words.
 * @param {Shapes.Command} command @param {Reading} reading @param {Shapes.OwnKey | null} signer
 */
function obstacleOf(command, reading, signer) {
  const me = operator.value?.name ?? "";
  if (!isWaiting(command)) return endedText(command);
  if (hasApproved(command, me)) return `${progressText(command, me)}.`;
  if (isFourEyes(command, me)) return "You asked for it, so somebody else must approve.";
  if (reading.problem) return oneLine(reading.problem);
  if (reading.isLoading) return null;
  // The note in the dialog says what to do then.
  return isSignatureNeeded(command, reading.envelope) && !signer ? "" : null;
}

/** @param {Shapes.Command} command @param {Shapes.ReadEnvelope | null} envelope */
function isSignatureNeeded(command, envelope) {
  return (envelope?.answer.pc?.approvers_pinned ?? pinnedCount(findAgent(command.agent_id)) ?? 0) > 0;
}

/** @param {{ command: Shapes.Command, envelope: Shapes.ReadEnvelope | null }} props */
function Briefing({ command, envelope }) {
  const { type, payload } = envelope?.fields ?? command;
  return html`<p class="dialog-sentence"><bdi>${sentenceOf(type, payload)}</bdi></p>
    ${envelope ? html`<${EnvelopeFactList} fields=${envelope.fields} />` : html`<${CommandFactList} command=${command} />`}
    ${!isTied(command, envelope) && html`<${ExpectationNote} command=${command} />`}
    <${Progress} command=${command} />`;
}

/** Whether the bytes name the process and the PC compares it. @param {Shapes.Command} command @param {Shapes.ReadEnvelope | null} envelope */
function isTied(command, envelope) {
  return Boolean(envelope?.fields.expect && findAgent(command.agent_id)?.metrics?.journal);
}

/** @param {{ command: Shapes.Command }} props */
function Progress({ command }) {
  if ((command.approvals_required ?? 1) < 2 || !isWaiting(command)) return null;
  return html`<p class="progress">${progressText(command, operator.value?.name ?? "")}</p>`;
}

/** Who checks this approval, and with what. @param {{ command: Shapes.Command, envelope: Shapes.ReadEnvelope | null, signer: Shapes.OwnKey | null }} props */
function SigningNote({ command, envelope, signer }) {
  const isNeeded = isSignatureNeeded(command, envelope);
  if (!isNeeded) {
    const also = signer ? ` Your approval is signed with ${keyName(signer)} all the same; this server checks it.` : "";
    return html`<p class="note unverified">${`A${unverifiedText.slice(1)}`}: it pins no key and believes this server.${also}</p>`;
  }
  if (!signer) return html`<${NextStep} />`;
  const required = envelope?.answer.pc?.approvals_required ?? 1;
  return html`<p class="note verified">
    You sign exactly this with ${keyName(signer)}. The PC checks ${required > 1 ? `${required} signatures` : "the signature"} by itself, against the
    ${" "}${counted(envelope?.answer.pc?.approvers_pinned ?? 1, "key")} that its administrator pinned.
  </p>`;
}

/** What to do where a signature is needed and no key of mine is here. */
function NextStep() {
  if (!hasCrypto) return html`<p class="note" data-tone="warn">This PC obeys only signed approvals, and a page that came without encryption signs nothing. Open it by https, or approve in a terminal with <code>reco3 approve</code>.</p>`;
  const goToKeys = () => {
    closeQuestion();
    place.value = "access";
  };
  return html`<div class="note" data-tone="warn">
    <p>This PC obeys only approvals signed with a key that it pins, and you have none that works here. Make one under Access and have the PC's administrator pin it, or approve in a terminal with <code>reco3 approve</code>.</p>
    <div class="button-row">
      <button type="button" class="button small" onClick=${goToKeys}>Set up a key</button>
      ${!hasPasskeys && isLoopbackAddress && html`<button type="button" class="button small" onClick=${openOnLocalhost}>Open on localhost, for passkeys</button>`}
    </div>
  </div>`;
}

/** @param {{ envelope: Shapes.ReadEnvelope, comment: string, onComment: (text: string) => void }} props */
function Further({ envelope, comment, onComment }) {
  return html`<details class="further">
    <summary>Comment, and the exact bytes</summary>
    <${ReasonField} label="Comment (optional, kept with your approval)" value=${comment} onValue=${onComment} />
    <pre class="output">${visibleLines(envelope.text)}</pre>
    ${envelope.bodySha256 && html`<p class="quiet">SHA-256 <code>${envelope.bodySha256}</code></p>`}
  </details>`;
}

/**
 * @param {{ command: Shapes.Command, envelope: Shapes.ReadEnvelope | null, signer: Shapes.OwnKey | null, comment: string, read: () => Promise<void> }} approval
 */
async function sendApproval({ command, envelope, signer, comment, read }) {
  const clickedMs = performance.now();
  const signature = envelope && signer ? await signEnvelope(signer, envelope) : null;
  const signingMs = performance.now() - clickedMs;
  const body = approvalBody({ command, envelope, signature, comment });
  try {
    const answer = await withProof(() => approveCommand(command.id, body));
    if (answer.status === "pending") return tellSent(command, `Your approval of ${titleOf(command)} is recorded`, partText(answer));
  } catch (error) {
    if (error instanceof ApiError && error.code === changedCode) await read();
    throw error;
  }
  followApproval(command.id, { clickedMs, signingMs });
  tellSent(command, `${titleOf(command)} approved`, "Waiting for the PC…");
}

/**
 * @param {{ command: Shapes.Command, envelope: Shapes.ReadEnvelope | null, signature: Shapes.Signature | null, comment: string }} approval
 * @returns {Shapes.NewApproval}
 */
function approvalBody({ command, envelope, signature, comment }) {
  const expect = envelope ? envelope.fields.expect : shownProcess(command);
  return {
    ...(expect ? { expect } : {}),
    ...(envelope?.bodySha256 ? { body_sha256: envelope.bodySha256 } : {}),
    ...(signature ? { signature } : {}),
    ...(comment ? { comment } : {}),
  };
}

/** @param {Shapes.ApprovalAnswer} answer */
function partText({ approvals = 1, required = 2 }) {
  const missing = required - approvals;
  return `${approvals} of ${required}: needs ${missing === 1 ? "one" : missing} more, not you.`;
}
