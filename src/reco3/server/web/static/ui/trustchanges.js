/**
 * The changes that hand PCs from old approvers' keys to new ones: from which to which, and whose signature is missing.
 * It refuses to propose one: that is done in a terminal, by whoever knows what the PCs pin.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { fetchTrustChanges, withdrawTrustChange } from "./api.js";
import { ConfirmDialog, ReasonField, useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { KeyChanges, readPin } from "./pins.js";
import { withProof } from "./proofs.js";
import { coalesced } from "./refreshing.js";
import { canApprove, isAdmin } from "./roles.js";
import { counted, oneLine } from "./texts.js";
import { Moment, Remaining, momentText } from "./times.js";
import { groupsOf } from "./trust.js";
import { SignDialog, progressText } from "./trustsigning.js";

/** @import * as Shapes from "./shapes.js" */

/** @typedef {{ change: Shapes.TrustChange, old: Shapes.ReadPin[], fresh: Shapes.ReadPin[] }} Row */

const rowsShown = 20;
const rows = signal(/** @type {Row[]} */ ([]));
const hasOlder = signal(false);
const question = signal(/** @type {{ decision: "sign" | "withdraw", change: Shapes.TrustChange } | null} */ (null));

/** @type {Record<Shapes.TrustChangeStatus, string>} */
const tones = { open: "warn", published: "good", withdrawn: "bad", expired: "plain" };

export const refreshTrustChanges = coalesced(async () => {
  const page = await fetchTrustChanges(rowsShown);
  rows.value = await Promise.all(page.trust_changes.map(readRow));
  hasOlder.value = page.next_cursor !== null;
});

export function forgetTrustChanges() {
  rows.value = [];
  question.value = null;
}

/** @param {Shapes.TrustChange} change @returns {Promise<Row>} */
async function readRow(change) {
  const [old, fresh] = await Promise.all([change.old, change.new].map((set) => Promise.all(set.approvers.map(readPin))));
  return { change, old: old ?? [], fresh: fresh ?? [] };
}

export function TrustChangesSection() {
  if (rows.value.length === 0 && !isAdmin.value) return null;
  return html`<section class="panel trust-changes" aria-labelledby="trust-changes-heading">
    <header class="panel-head"><h2 id="trust-changes-heading">Trust changes</h2></header>
    ${isAdmin.value && html`<p class="panel-words quiet">${rows.value.length === 0 ? "There is none. One" : "One"} that replaces approvers' keys on every PC is made in a terminal, with <code>reco3 trust propose</code>.</p>`}
    ${rows.value.length > 0 && html`<ul class="rows">${rows.value.map((row) => html`<${ChangeRow} key=${row.change.id} row=${row} />`)}</ul>`}
    ${hasOlder.value && html`<p class="panel-words quiet">Older ones are listed by <code>reco3 trust list</code>.</p>`}
    <${Question} />
  </section>`;
}

/** @param {{ row: Row }} props */
function ChangeRow({ row: { change, old, fresh } }) {
  return html`<li class="trust-change" data-status=${change.status}>
    <p><span class="tag" data-tone=${tones[change.status] ?? "plain"}>${oneLine(change.status)}</span> <bdi>${setText(change.old)}</bdi> → <bdi>${setText(change.new)}</bdi></p>
    <${KeyChanges} old=${old} fresh=${fresh} />
    <p class="quiet">Trust version <code>${groupsOf(change.old.trust_version)}</code> → <code>${groupsOf(change.new.trust_version)}</code></p>
    <p class=${change.status === "open" ? "progress" : "quiet"}><bdi>${progressText(change)}</bdi></p>
    <p>“<bdi>${oneLine(change.reason)}</bdi>” <span class="quiet">asked for by <bdi>${oneLine(change.requested_by)}</bdi> at <${Moment} stamp=${change.created_at} /></span></p>
    <${End} change=${change} />
    <${Buttons} change=${change} />
  </li>`;
}

/** Whose keys, and how many must sign. @param {Shapes.NamedTrustSet} set */
function setText({ owners, approvals_required: required }) {
  return `${oneLine(owners.join(", "))} (${counted(required, "signature")} required)`;
}

/** What ends it, or ended it. @param {{ change: Shapes.TrustChange }} props */
function End({ change }) {
  const { status, expires_at: expiresAt, published_at: publishedAt } = change;
  const published = publishedAt && html`Published at <${Moment} stamp=${publishedAt} />. `;
  if (status === "withdrawn") return html`<p class="quiet">${published}Withdrawn by <bdi>${oneLine(change.withdrawn_by)}</bdi>: “<bdi>${oneLine(change.withdrawn_reason)}</bdi>”</p>`;
  if (status === "expired") return html`<p class="quiet">${published}Expired at <${Moment} stamp=${expiresAt} />.</p>`;
  return html`<p class="quiet">${published}Expires <${Remaining} stamp=${expiresAt} />, at ${momentText(expiresAt)}.</p>`;
}

/** @param {{ change: Shapes.TrustChange }} props */
function Buttons({ change }) {
  const maySign = canApprove.value && change.status === "open";
  const mayWithdraw = isAdmin.value && (change.status === "open" || change.status === "published");
  if (!maySign && !mayWithdraw) return null;
  /** @param {"sign" | "withdraw"} decision */
  const ask = (decision) => () => {
    question.value = { decision, change };
  };
  return html`<div class="button-row">
    ${maySign && html`<button type="button" class="button small primary" disabled=${!canAct.value} onClick=${ask("sign")}>Sign</button>`}
    ${mayWithdraw && html`<button type="button" class="button small ghost" disabled=${!canAct.value} onClick=${ask("withdraw")}>Withdraw</button>`}
  </div>`;
}

/** The dialog, when a change is being decided about. */
function Question() {
  if (!question.value) return null;
  const { decision, change } = question.value;
  const current = rows.value.find((row) => row.change.id === change.id)?.change ?? change;
  const close = () => {
    question.value = null;
  };
  const Dialog = decision === "sign" ? SignDialog : WithdrawDialog;
  return html`<${Dialog} key=${`${decision}:${change.id}`} change=${current} onSent=${refreshTrustChanges} onClose=${close} />`;
}

/** @param {{ change: Shapes.TrustChange, onSent: () => Promise<void>, onClose: () => void }} props */
function WithdrawDialog({ change, onSent, onClose }) {
  const [reason, setReason] = useState("");
  const send = async () => {
    await withProof(() => withdrawTrustChange(change.id, reason.trim()));
    await onSent();
  };
  const { busy, problem, confirm } = useSending(send, onClose);
  return html`<${ConfirmDialog}
    title="Withdraw this trust change?"
    confirmLabel=${busy ? "Withdrawing…" : "Withdraw"}
    tone="danger"
    dismissLabel="Keep it"
    busy=${busy}
    blocked=${!canAct.value || reason.trim() === ""}
    problem=${problem}
    onConfirm=${confirm}
    onCancel=${onClose}
  >
    <p class="dialog-sentence plain"><bdi>${setText(change.old)}</bdi> → <bdi>${setText(change.new)}</bdi></p>
    ${change.status === "published" && html`<p class="note" data-tone="warn">It was published: a PC that has taken it keeps the new keys. Withdrawn, it reaches no further PC.</p>`}
    <${ReasonField} label="Why? (required, kept with your name)" value=${reason} onValue=${setReason} isRequired />
  </${ConfirmDialog}>`;
}
