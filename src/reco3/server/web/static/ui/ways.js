/**
 * The ways to say who one is: an API key, a name with a password, a passkey.
 * It refuses to keep what was typed: only which way was chosen is remembered.
 */
import { html } from "../vendor/preact-htm-signals.js";
import { fetchPasskeyOptions } from "./api.js";
import { bytesOf } from "./bytes.js";
import { assertPasskey, hasPasskeys } from "./passkeys.js";

/** @typedef {"api_key" | "password" | "passkey"} Way */
/** @typedef {{ name: string, password: string, api_key: string }} Credentials */
/** @typedef {(change: (before: Credentials) => Credentials) => void} TakeDraft */

const storageKey = "reco3-way-in";
/** @type {Record<Way, string>} */
const wayTexts = { api_key: "API key", password: "Password", passkey: "Passkey" };

/** @type {Credentials} */
export const noCredentials = { name: "", password: "", api_key: "" };

/** @returns {Way[]} */
function possibleWays() {
  return hasPasskeys ? ["api_key", "password", "passkey"] : ["api_key", "password"];
}

/** @returns {Way} */
export function rememberedWay() {
  try {
    const way = localStorage.getItem(storageKey);
    return possibleWays().find((one) => one === way) ?? "api_key";
  } catch {
    return "api_key";
  }
}

/** @param {Way} way */
export function rememberWay(way) {
  try {
    localStorage.setItem(storageKey, way);
  } catch {
    // Then it is chosen anew next time.
  }
}

/** @param {{ way: Way, onWay: (way: Way) => void }} props */
export function WaySwitch({ way, onWay }) {
  return html`<div class="segments way-switch" role="group" aria-label="Log in with">
    ${possibleWays().map(
      (one) => html`<button type="button" key=${one} class="segment" aria-pressed=${way === one} onClick=${() => onWay(one)}>${wayTexts[one]}</button>`,
    )}
  </div>`;
}

/**
 * What is to be typed for the chosen way; the name only where it is not known already.
 * @param {{ way: Way, draft: Credentials, onDraft: TakeDraft, hasName: boolean, isBad: boolean }} props
 */
export function WayFields({ way, draft, onDraft, hasName, isBad }) {
  const one = { draft, onDraft, isBad };
  return html`${way === "password" && hasName && html`<${WayField} ...${one} name="name" label="Name" kind="text" fills="username" />`}
    ${way === "password" && html`<${WayField} ...${one} name="password" label="Password" kind="password" fills="current-password" />`}
    ${way === "api_key" && html`<${WayField} ...${one} name="api_key" label="API key" kind="password" fills="current-password" />`}`;
}

/**
 * @param {{ name: keyof Credentials, label: string, kind: string, fills: string, draft: Credentials,
 *   onDraft: TakeDraft, isBad: boolean }} props
 */
function WayField({ name, label, kind, fills, draft, onDraft, isBad }) {
  // A password manager fills two fields at once, before the first is drawn: each adds to what is there by then.
  /** @param {{ currentTarget: HTMLInputElement }} event */
  const take = ({ currentTarget: { value } }) => onDraft((before) => ({ ...before, [name]: value }));
  return html`<label class="field">
    <span>${label}</span>
    <input class="input" type=${kind} name=${name} autocomplete=${fills} required autofocus maxlength="500" value=${draft[name]} aria-invalid=${isBad} onInput=${take} />
  </label>`;
}

/** An assertion that says who one is, from any passkey that this device has for the site. */
export async function provePasskey() {
  const options = await fetchPasskeyOptions();
  const credentialIds = (options.allowCredentials ?? []).map(({ id }) => id);
  const rpId = options.rpId ?? location.hostname;
  return assertPasskey({ challenge: bytesOf(options.challenge), credentialIds, rpId });
}
