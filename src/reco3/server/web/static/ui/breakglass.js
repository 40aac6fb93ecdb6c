/**
 * Sealed commands that were used on a PC without this server: shown to everybody until a person has reviewed them.
 * It refuses to make one: that is done in a terminal, by those who sign.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { fetchBreakGlass, reviewBreakGlass } from "./api.js";
import { sentenceOf } from "./catalogue.js";
import { ConfirmDialog, ReasonField, useSending } from "./dialogs.js";
import { Evidence } from "./evidence.js";
import { canAct } from "./live.js";
import { actorName } from "./outcomes.js";
import { withProof } from "./proofs.js";
import { coalesced } from "./refreshing.js";
import { canApprove } from "./roles.js";
import { counted, oneLine, shortLine } from "./texts.js";
import { Moment } from "./times.js";

/** @import * as Shapes from "./shapes.js" */

const uses = signal(/** @type {Shapes.BreakGlassUse[]} */ ([]));
const reviewing = signal(/** @type {Shapes.BreakGlassUse | null} */ (null));

export const refreshBreakGlass = coalesced(async () => {
  uses.value = (await fetchBreakGlass()).break_glass;
});

export function forgetBreakGlass() {
  uses.value = [];
  reviewing.value = null;
}

/** @param {Shapes.BreakGlassUse} use */
function isOpen({ reviewed_at: reviewedAt }) {
  return !reviewedAt;
}

/** A line that stays until somebody has looked into it. */
export function BreakGlassBanner() {
  const unreviewed = uses.value.filter(isOpen);
  const [first] = unreviewed;
  if (!first) return null;
  const further = unreviewed.length > 1 ? ` and ${counted(unreviewed.length - 1, "more")}` : "";
  return html`<p class="alarm-banner" role="alert">
    <span><strong>Break-glass was used</strong> on <bdi>${shortLine(first.agent_id, 40)}</bdi>${further}, and nobody has reviewed it yet.</span>
    <${ReviewButton} use=${first} />
  </p>`;
}

/** @param {{ use: Shapes.BreakGlassUse }} props */
function ReviewButton({ use }) {
  if (!canApprove.value) return null;
  const review = () => {
    reviewing.value = use;
  };
  return html`<button type="button" class="button small" disabled=${!canAct.value} onClick=${review}>Review</button>`;
}

export function BreakGlassSection() {
  if (uses.value.length === 0) return null;
  return html`<section class="panel break-glass" aria-labelledby="break-glass-heading">
    <header class="panel-head"><h2 id="break-glass-heading">Break-glass uses</h2></header>
    <ul class="rows">${uses.value.map((use) => html`<${UseRow} key=${use.id} use=${use} />`)}</ul>
  </section>`;
}

/** @param {{ use: Shapes.BreakGlassUse }} props */
function UseRow({ use }) {
  return html`<li class="use" data-open=${isOpen(use)}>
    <div class="use-words">
      <p><bdi>${sentenceOf(use.command_type, use.payload)}</bdi> on <strong><bdi>${oneLine(use.agent_id)}</bdi></strong></p>
      <p class="quiet">used <${Moment} stamp=${use.used_at} />, signed by <bdi>${ownersText(use)}</bdi></p>
      ${use.reviewed_at && html`<p class="quiet">reviewed by <bdi>${oneLine(actorName(use.reviewed_by))}</bdi> at <${Moment} stamp=${use.reviewed_at} />: “<bdi>${oneLine(use.review)}</bdi>”</p>`}
    </div>
    ${isOpen(use) && html`<${ReviewButton} use=${use} />`}
  </li>`;
}

/** @param {Shapes.BreakGlassUse} use */
function ownersText({ owners }) {
  return oneLine(owners.join(", "));
}

/** The dialog, while a use is being reviewed. */
export function ReviewDialog() {
  return reviewing.value && html`<${ReviewQuestion} key=${reviewing.value.id} use=${reviewing.value} />`;
}

/** @param {{ use: Shapes.BreakGlassUse }} props */
function ReviewQuestion({ use }) {
  const [review, setReview] = useState("");
  const close = () => {
    reviewing.value = null;
  };
  const send = async () => {
    await withProof(() => reviewBreakGlass(use.id, review.trim()));
    await refreshBreakGlass();
  };
  const { busy, problem, confirm } = useSending(send, close);
  return html`<${ConfirmDialog}
    title=${`Break-glass on ${shortLine(use.agent_id, 40)}`}
    confirmLabel="Record the review"
    busy=${busy}
    blocked=${!canAct.value || review.trim() === ""}
    problem=${problem}
    onConfirm=${confirm}
    onCancel=${close}
  >
    <p class="dialog-sentence"><bdi>${sentenceOf(use.command_type, use.payload)}</bdi></p>
    <dl class="dialog-facts">
      <dt>PC</dt>
      <dd><bdi>${oneLine(use.agent_id)}</bdi></dd>
      <dt>Used at</dt>
      <dd><${Moment} stamp=${use.used_at} />, told to this server at <${Moment} stamp=${use.reported_at} /></dd>
      <dt>Signed by</dt>
      <dd><bdi>${ownersText(use)}</bdi></dd>
    </dl>
    ${use.result && html`<div><${Evidence} result=${use.result} /></div>`}
    <${ReasonField} label="What happened, and was it right? (required, kept with your name)" value=${review} onValue=${setReview} isRequired />
  </${ConfirmDialog}>`;
}
