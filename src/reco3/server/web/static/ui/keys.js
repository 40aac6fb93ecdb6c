/**
 * The keys with which one signs approvals: make one, compare it by voice, have it pinned, take it back.
 * It refuses to trust the server's word about a key that was made here: it computes the pin itself.
 */
import { computed, html, signal, useRef, useState } from "../vendor/preact-htm-signals.js";
import { fetchKeyOptions, fetchOwnKeys, registerKey, removeKey } from "./api.js";
import { createKey, dropKey, keepKey, keptKeyIds, keyIdOf, signWithKey } from "./browserkeys.js";
import { base64, bytesOf, hasCrypto } from "./bytes.js";
import { Copyable } from "./copying.js";
import { ConfirmDialog, useSending } from "./dialogs.js";
import { paeOf } from "./envelopes.js";
import { canAct } from "./live.js";
import { createPasskey, hasPasskeys, isLoopbackAddress, openOnLocalhost } from "./passkeys.js";
import { withProof } from "./proofs.js";
import { oneLine, shortLine } from "./texts.js";
import { Moment } from "./times.js";
import { groupsOf } from "./trust.js";

/** @import * as Shapes from "./shapes.js" */

const proofType = "application/vnd.reco3.key-proof.v1";
const ownKeys = signal(/** @type {Shapes.OwnKey[] | null} */ (null));
const keptIds = signal(/** @type {ReadonlySet<string>} */ (new Set()));
/** The key that was made just now; its pin is shown at once. */
const newestId = signal(/** @type {string | null} */ (null));
const removing = signal(/** @type {Shapes.OwnKey | null} */ (null));

/** @type {Record<Shapes.KeyKind, string>} */
export const kindTexts = { webauthn: "passkey", webcrypto: "browser key", ed25519: "key file" };

/** The keys that can sign on this page, in this browser; passkeys first. */
export const usableKeys = computed(() =>
  (ownKeys.value ?? []).filter(isUsable).toSorted((one, other) => one.kind.localeCompare(other.kind)),
);

/** @param {Shapes.OwnKey} key */
function isUsable(key) {
  if (key.kind === "webauthn") return hasPasskeys && Boolean(key.credential_id) && originOf(key) === location.origin;
  return key.kind === "webcrypto" && hasCrypto && keptIds.value.has(key.key_id);
}

/** The origin is the last word of a pin. @param {Shapes.OwnKey} key */
function originOf(key) {
  return key.origin ?? key.pin.split(" ")[1] ?? null;
}

/** @param {Shapes.OwnKey} key */
export function keyName(key) {
  return `your ${kindTexts[key.kind] ?? "key"} “${shortLine(key.label, 40)}”`;
}

/** Which of several keys signs. @param {{ keys: Shapes.OwnKey[], signer: Shapes.OwnKey | null, onKey: (keyId: string) => void }} props */
export function KeyChoice({ keys, signer, onKey }) {
  return html`<label class="field">
    <span>Sign with</span>
    <select class="input" value=${signer?.key_id} onChange=${(/** @type {{ currentTarget: HTMLSelectElement }} */ { currentTarget }) => onKey(currentTarget.value)}>
      ${keys.map((key) => html`<option key=${key.key_id} value=${key.key_id}>${keyName(key)}</option>`)}
    </select>
  </label>`;
}

export async function refreshKeys() {
  const [page, kept] = await Promise.all([fetchOwnKeys(), hasCrypto ? keptKeyIds() : []]);
  keptIds.value = new Set(kept);
  ownKeys.value = page.keys;
}

export function forgetKeys() {
  ownKeys.value = null;
  newestId.value = null;
  removing.value = null;
}

export function KeysSection() {
  const keys = ownKeys.value;
  return html`<section class="panel keys" aria-labelledby="keys-heading">
    <header class="panel-head"><h2 id="keys-heading">Your keys</h2></header>
    <p class="panel-words">With a key you sign what you approve, and a PC that pins the key checks it by itself: the server alone cannot approve in your name.</p>
    <${NewKeyForm} />
    ${keys && keys.length === 0 && html`<p class="empty">You have no key yet.</p>`}
    ${keys && keys.length > 0 && html`<ul class="rows">${keys.map((key) => html`<${KeyRow} key=${key.key_id} ownKey=${key} />`)}</ul>`}
    ${removing.value && html`<${RemoveDialog} key=${removing.value.key_id} ownKey=${removing.value} />`}
  </section>`;
}

function NewKeyForm() {
  const [label, setLabel] = useState("");
  const kind = useRef(/** @type {"webauthn" | "webcrypto"} */ ("webcrypto"));
  const make = async () => {
    newestId.value = await (kind.current === "webauthn" ? makePasskey(label.trim()) : makeBrowserKey(label.trim()));
    setLabel("");
    await refreshKeys();
  };
  const { busy, problem, confirm } = useSending(make, () => {});
  if (!hasCrypto) return html`<p class="note" data-tone="warn">This page came without encryption, so the browser makes no keys. Open it by https, or make a key file with <code>reco3 keys init</code>.</p>`;
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    if (!busy) void confirm();
  };
  /** @param {{ currentTarget: HTMLInputElement }} event */
  const take = ({ currentTarget }) => setLabel(currentTarget.value);
  return html`<form class="new-key" onSubmit=${submit}>
    <label class="field"><span>Name of the new key</span><input class="input" type="text" maxlength="60" required placeholder="my phone" value=${label} onInput=${take} /></label>
    <div class="button-row">
      ${hasPasskeys && html`<button type="submit" class="button primary" disabled=${busy || !canAct.value} onClick=${() => (kind.current = "webauthn")}>Register a passkey</button>`}
      <button type="submit" class=${`button ${hasPasskeys ? "" : "primary"}`} disabled=${busy || !canAct.value} onClick=${() => (kind.current = "webcrypto")}>Make a browser key</button>
    </div>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <${PlaceHint} />
  </form>`;
}

/** Which kind is possible at this address, and what it stops. */
function PlaceHint() {
  if (hasPasskeys) return html`<p class="quiet">A passkey stays in your phone, computer or stick and asks for your finger, face or PIN each time. A browser key stays in this browser and asks nothing.</p>`;
  return html`<p class="quiet">At an address of numbers the browser allows no passkeys. A browser key stays in this browser; clearing the site's data loses it.</p>
    ${isLoopbackAddress && html`<button type="button" class="button small" onClick=${openOnLocalhost}>Open on localhost, for passkeys</button>`}`;
}

/** @param {string} label @returns {Promise<string>} the new key's id */
async function makePasskey(label) {
  const options = await withProof(() => fetchKeyOptions("webauthn"));
  const { attestation, publicKey } = await createPasskey(/** @type {Shapes.CreationOptions} */ (options));
  const registered = await withProof(() => registerKey({ kind: "webauthn", attestation, label }));
  if (publicKey) await insist(registered, publicKey);
  return registered.key_id;
}

/** @param {string} label @returns {Promise<string>} the new key's id */
async function makeBrowserKey(label) {
  const { challenge } = await withProof(() => fetchKeyOptions("webcrypto"));
  const key = await createKey();
  // Signed under a type of its own, whatever the server calls a challenge, this can never be the yes to a command.
  const proof = await signWithKey(key, paeOf(proofType, bytesOf(challenge)));
  const registered = await withProof(() => registerKey({ kind: "webcrypto", public_key: base64(key.public_key), proof, label }));
  await insist(registered, key.public_key);
  await keepKey(key);
  return registered.key_id;
}

/** The server must have kept this very key. @param {Shapes.RegisteredKey} registered @param {Uint8Array<ArrayBuffer>} publicKey */
async function insist(registered, publicKey) {
  const isSame = registered.key_id === (await keyIdOf(publicKey)) && registered.pin.includes(`:${base64(publicKey)} ${location.origin}`);
  if (!isSame) throw new Error("The server names another key than the one made here. Do not pin it; tell whoever runs this server.");
}

/** @param {{ ownKey: Shapes.OwnKey }} props */
function KeyRow({ ownKey }) {
  const { key_id: keyId, label, kind, pin, fingerprint, created_at: createdAt } = ownKey;
  return html`<li class="own-key" data-usable=${isUsable(ownKey)}>
    <p class="own-key-head">
      <strong><bdi>${oneLine(label)}</bdi></strong>
      <span class="tag">${kindTexts[kind] ?? oneLine(kind)}</span>
      <span class="quiet"><bdi>${placeText(ownKey)}</bdi></span>
      <span class="quiet">made <${Moment} stamp=${createdAt} /></span>
      <button type="button" class="button small ghost" disabled=${!canAct.value} aria-label=${`Remove ${oneLine(label)}`} onClick=${() => (removing.value = ownKey)}>Remove</button>
    </p>
    <p class="fingerprint" title="Read it aloud to the PC's administrator, who compares it."><span class="quiet">Fingerprint</span> <code>${groupsOf(fingerprint.replaceAll(/[\s-]/gu, ""))}</code></p>
    <details class="pin-fold" open=${newestId.value === keyId}>
      <summary>Pin it on a PC</summary>
      <p>The PC's administrator runs this on the PC, and compares the fingerprint with you by voice:</p>
      <${Copyable} text=${`reco3 agent trust add CONFIG "${oneLine(pin)}"`} name="the command" />
      <p class="quiet">The pin alone, for <code>control.approvers</code> or an installer:</p>
      <${Copyable} text=${oneLine(pin)} name="the pin" />
    </details>
  </li>`;
}

/** Where it can sign. @param {Shapes.OwnKey} key */
function placeText(key) {
  if (isUsable(key)) return "works here";
  if (key.kind === "ed25519") return "works in a terminal";
  return originOf(key) === location.origin ? "works in the browser that made it" : `works at ${oneLine(originOf(key))}`;
}

/** @param {{ ownKey: Shapes.OwnKey }} props */
function RemoveDialog({ ownKey }) {
  const close = () => {
    removing.value = null;
  };
  const remove = async () => {
    await withProof(() => removeKey(ownKey.key_id));
    if (hasCrypto) await dropKey(ownKey.key_id);
    await refreshKeys();
  };
  const { busy, problem, confirm } = useSending(remove, close);
  return html`<${ConfirmDialog} title="Remove this key?" confirmLabel="Remove" tone="danger" busy=${busy} problem=${problem} onConfirm=${confirm} onCancel=${close}>
    <p>This server takes no more signatures by ${keyName(ownKey)}.</p>
    <p class="note" data-tone="warn">PCs go on trusting it until their administrator runs <code>reco3 agent trust remove</code> there.</p>
  </${ConfirmDialog}>`;
}
