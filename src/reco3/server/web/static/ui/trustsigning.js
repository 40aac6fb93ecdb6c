/**
 * The dialog in which an owner of a key signs a trust change.
 * It refuses to show one thing and sign another: everything to decide by is read from the bytes.
 */
import { html, useEffect, useState } from "../vendor/preact-htm-signals.js";
import { fetchTrustChange, signTrustChange } from "./api.js";
import { hasCrypto } from "./bytes.js";
import { ConfirmDialog, useSending } from "./dialogs.js";
import { KeyChoice, keyName, refreshKeys, usableKeys } from "./keys.js";
import { canAct } from "./live.js";
import { KeyChanges } from "./pins.js";
import { withProof } from "./proofs.js";
import { signEnvelope } from "./signers.js";
import { counted, oneLine, visibleLines } from "./texts.js";
import { Remaining, momentText } from "./times.js";
import { showToast } from "./toasts.js";
import { groupsOf } from "./trust.js";
import { readTrustChange } from "./trustbytes.js";

/** @import * as Shapes from "./shapes.js" */

/** @typedef {{ read: Shapes.ReadTrustChange | null, problem: string | null }} Reading */

/** How many of either side have signed. @param {Shapes.TrustChange} change */
export function progressText({ old_signed: oldSigned, old_needed: oldNeeded, new_signed: newSigned, new_needed: newNeeded }) {
  return `old keys: ${sideText(oldSigned, oldNeeded)}; new keys: ${sideText(newSigned, newNeeded)}`;
}

/** @param {string[]} signed @param {number} needed */
function sideText(signed, needed) {
  return `${signed.length} of ${needed}${signed.length > 0 ? ` signed (${oneLine(signed.join(", "))})` : ""}`;
}

/** @param {{ change: Shapes.TrustChange, onSent: () => Promise<void>, onClose: () => void }} props */
export function SignDialog({ change, onSent, onClose }) {
  const { read, problem: unreadable } = useBytes(change);
  const [chosenId, setChosenId] = useState(/** @type {string | null} */ (null));
  const keys = keysFor(read);
  const signer = keys.find(({ key_id: id }) => id === chosenId) ?? keys[0] ?? null;
  const obstacle = change.status === "open" ? unreadable : `This trust change is ${change.status} already.`;
  const { busy, problem, confirm } = useSending(() => sendSignature({ change, read, signer, onSent }), onClose);
  return html`<${ConfirmDialog}
    title="Sign this trust change?"
    confirmLabel=${busy ? "Signing…" : "Sign"}
    tone="danger"
    busy=${busy}
    blocked=${!canAct.value || obstacle !== null || !signer}
    problem=${problem ?? obstacle}
    onConfirm=${confirm}
    onCancel=${onClose}
  >
    ${read && html`<${Briefing} read=${read} />`}
    <p class="progress"><bdi>${progressText(change)}</bdi></p>
    ${read && html`<${SigningNote} read=${read} signer=${signer} />`}
    ${keys.length > 1 && html`<${KeyChoice} keys=${keys} signer=${signer} onKey=${setChosenId} />`}
    ${read && html`<${Bytes} text=${read.text} />`}
  </${ConfirmDialog}>`;
}

/** My keys here that can sign it and have not. @param {Shapes.ReadTrustChange | null} read */
function keysFor(read) {
  if (!read) return [];
  return usableKeys.value.filter(({ key_id: id }) => sidesOf(read, id) !== null && !read.signed_by.includes(id));
}

/** @param {{ text: string }} props */
function Bytes({ text }) {
  return html`<details class="further">
    <summary>The exact bytes</summary>
    <pre class="output">${visibleLines(text)}</pre>
  </details>`;
}

/** The change's bytes, fetched when the dialog opens. @param {Shapes.TrustChange} change @returns {Reading} */
function useBytes(change) {
  const [reading, setReading] = useState(/** @type {Reading} */ ({ read: null, problem: null }));
  useEffect(() => {
    void Promise.all([readingOf(change).then(setReading), refreshKeys().catch(() => {})]);
  }, [change.id]);
  return reading;
}

/** @param {Shapes.TrustChange} change @returns {Promise<Reading>} */
async function readingOf(change) {
  try {
    return { read: await readTrustChange(await fetchTrustChange(change.id), change), problem: null };
  } catch (error) {
    return { read: null, problem: oneLine(error instanceof Error ? error.message : error) };
  }
}

/** For which side a key signs, in words; null for a key of neither. @param {Shapes.ReadTrustChange} read @param {string} keyId */
function sidesOf({ old, fresh }, keyId) {
  const [isOld, isNew] = [old, fresh].map(({ pins }) => pins.some(({ key_id: id }) => id === keyId));
  if (isOld) return isNew ? "the old and the new keys" : "the old keys";
  return isNew ? "the new keys" : null;
}

/** What the bytes say, and nothing else. @param {{ read: Shapes.ReadTrustChange }} props */
function Briefing({ read: { fields, old, fresh } }) {
  const expiresAt = new Date(fields.expires_at * 1000).toISOString();
  return html`<p class="dialog-sentence plain">Every PC that pins exactly the old keys replaces them with the new ones.</p>
    <dl class="dialog-facts">
      <dt>Old keys</dt>
      <dd><${SetFacts} set=${old} /></dd>
      <dt>New keys</dt>
      <dd><${SetFacts} set=${fresh} /></dd>
      <dt>Asked by</dt>
      <dd><bdi>${oneLine(fields.requested_by)}</bdi></dd>
      <dt>Reason</dt>
      <dd><bdi>${oneLine(fields.reason)}</bdi></dd>
      <dt>Valid until</dt>
      <dd>${momentText(expiresAt)}, <${Remaining} stamp=${expiresAt} /></dd>
      <dt>Fleet</dt>
      <dd><code>${oneLine(fields.fleet_id)}</code></dd>
    </dl>
    <${KeyChanges} old=${old.pins} fresh=${fresh.pins} />
    <p class="note" data-tone="warn">Whoever holds the new keys can approve commands on these PCs: compare each added fingerprint by voice with its owner.</p>`;
}

/** @param {{ set: Shapes.ReadTrustSet }} props */
function SetFacts({ set: { pins, approvals_required: required, version } }) {
  const owners = [...new Set(pins.map(({ owner }) => owner))];
  return html`<bdi>${oneLine(owners.join(", "))}</bdi>: ${counted(pins.length, "key")}, ${counted(required, "signature")} required
    ${version && html`, trust version <code>${groupsOf(version)}</code>`}`;
}

/** Who checks this signature, or why there is none to give. @param {{ read: Shapes.ReadTrustChange, signer: Shapes.OwnKey | null }} props */
function SigningNote({ read, signer }) {
  if (signer) {
    return html`<p class="note verified">You sign exactly this with ${keyName(signer)}, for ${sidesOf(read, signer.key_id)}. Each PC checks every signature by itself, against the keys that it pins.</p>`;
  }
  if (!hasCrypto) return html`<p class="note" data-tone="warn">A page that came without encryption signs nothing. Open it by https, or sign in a terminal: <${TerminalWords} read=${read} />.</p>`;
  const hasSigned = usableKeys.value.some(({ key_id: id }) => read.signed_by.includes(id));
  if (hasSigned) return html`<p class="note">You have signed this already; it needs somebody else.</p>`;
  return html`<p class="note" data-tone="warn">None of your keys that work here is among the old or the new ones. With a key file, sign in a terminal: <${TerminalWords} read=${read} />.</p>`;
}

/** @param {{ read: Shapes.ReadTrustChange }} props */
function TerminalWords({ read }) {
  return html`<code>reco3 trust sign ${oneLine(read.fields.nonce)}</code>`;
}

/**
 * @param {{ change: Shapes.TrustChange, read: Shapes.ReadTrustChange | null, signer: Shapes.OwnKey | null, onSent: () => Promise<void> }} signing
 */
async function sendSignature({ change, read, signer, onSent }) {
  if (!read || !signer) return;
  const signature = await signEnvelope(signer, read);
  const after = await withProof(() => signTrustChange(change.id, signature));
  const isPublished = after.status === "published";
  showToast({ key: `trust:${change.id}`, tone: isPublished ? "good" : "plain", title: isPublished ? "The trust change is published" : "Your signature is recorded", text: isPublished ? "Each PC verifies it by itself and takes the new keys." : progressText(after), count: 1 });
  await onSent();
}
