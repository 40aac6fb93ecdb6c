/**
 * Pins as people compare them: whose key it is, of what kind, and the fingerprint that this page computes itself.
 * It refuses to believe anybody about a fingerprint; where the browser computes none, none is shown.
 */
import { html } from "../vendor/preact-htm-signals.js";
import { keyIdOf } from "./browserkeys.js";
import { hasCrypto, hex, sha256 } from "./bytes.js";
import { kindTexts } from "./keys.js";
import { counted, oneLine } from "./texts.js";
import { groupsOf } from "./trust.js";

/** @import * as Shapes from "./shapes.js" */

const pattern = /^([\w.@-]{1,64}):(ed25519|webauthn|webcrypto):([A-Za-z\d+/]+={0,2})(?: (https?:\/\/\S+))?$/u;
const versionDigits = 16;

/** What is no pin has neither kind nor id, and its whole text for an owner. @param {string} text @returns {Promise<Shapes.ReadPin>} */
export async function readPin(text) {
  const [, owner, kind, key, origin] = pattern.exec(text) ?? [];
  if (!owner || !kind || !key) return { text, owner: text, kind: null, origin: null, key_id: null };
  return { text, owner, kind: /** @type {Shapes.KeyKind} */ (kind), origin: origin ?? null, key_id: await idOf(key) };
}

/** @param {string} key in base64, with padding */
async function idOf(key) {
  if (!hasCrypto) return null;
  try {
    return await keyIdOf(Uint8Array.from(atob(key), (character) => character.charCodeAt(0)));
  } catch {
    return null;
  }
}

/** The name of a set of pins, as each PC computes it. @param {string[]} texts */
export async function versionOf(texts) {
  if (!hasCrypto) return null;
  const lines = texts.toSorted().map((text) => `${text}\n`);
  return hex(await sha256(new TextEncoder().encode(lines.join("")))).slice(0, versionDigits);
}

/** @param {{ old: Shapes.ReadPin[], fresh: Shapes.ReadPin[] }} props */
export function KeyChanges({ old, fresh }) {
  const [before, after] = [old, fresh].map((pins) => new Set(pins.map(({ text }) => text)));
  const removed = old.filter(({ text }) => !after?.has(text));
  const added = fresh.filter(({ text }) => !before?.has(text));
  const kept = old.length - removed.length;
  return html`<div class="key-changes">
    <${PinList} sign="−" title=${`${counted(removed.length, "key")} removed`} pins=${removed} />
    <${PinList} sign="+" title=${`${counted(added.length, "key")} added`} pins=${added} />
    ${kept > 0 && html`<p class="quiet">${counted(kept, "key")} ${kept === 1 ? "stays" : "stay"}.</p>`}
  </div>`;
}

/** @param {{ sign: string, title: string, pins: Shapes.ReadPin[] }} props */
function PinList({ sign, title, pins }) {
  if (pins.length === 0) return null;
  return html`<p class="quiet">${title}</p>
    <ul class="pin-list">${pins.map((pin) => html`<${PinLine} key=${pin.text} sign=${sign} pin=${pin} />`)}</ul>`;
}

/** @param {{ sign: string, pin: Shapes.ReadPin }} props */
function PinLine({ sign, pin: { owner, kind, origin, key_id: keyId } }) {
  const place = origin ? `, ${oneLine(origin)}` : "";
  return html`<li>
    <span aria-hidden="true">${sign}</span> <strong><bdi>${oneLine(owner)}</bdi></strong>
    <span class="quiet"> ${kind ? `${kindTexts[kind]}${place}` : "no pin"}</span>
    ${keyId && html`<code class="pin-fingerprint">${groupsOf(keyId)}</code>`}
  </li>`;
}
