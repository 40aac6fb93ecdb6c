/**
 * Who is looking: log in, accept an invitation, set up the first administrator, log out.
 * It refuses to keep a key: what was typed goes to the server once and is forgotten.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { ApiError, ConnectionLost, acceptInvitation, closeSession, openPasskeySession, openSession, setUp } from "./api.js";
import { Copyable } from "./copying.js";
import { Mark } from "./icons.js";
import { hasPasskeys, isLoopbackAddress, openOnLocalhost } from "./passkeys.js";
import { oneLine } from "./texts.js";
import { durationText } from "./times.js";
import { WayFields, WaySwitch, noCredentials, provePasskey, rememberWay, rememberedWay } from "./ways.js";

/** @import * as Shapes from "./shapes.js" */
/** @import { Credentials, Way } from "./ways.js" */

/** @typedef {"starting" | "login" | "setup" | "invitation" | "dashboard"} View */

export const shortestPassword = 12;

export const view = signal(/** @type {View} */ ("starting"));
export const operator = signal(/** @type {Shapes.Operator | null} */ (null));
export const config = signal(/** @type {Shapes.Config | null} */ (null));

/** @type {() => void} */
let enter = () => {};

/** @param {() => void} listener called after a login or a set-up */
export function onEntered(listener) {
  enter = listener;
}

/** @typedef {{ setup: string | null, invitation: string | null }} Link */

/** Takes the one-time token out of the address, so that it stays in no history. @returns {Link} */
export function takeLink() {
  const words = new URLSearchParams(location.hash.slice(1));
  const link = { setup: words.get("setup"), invitation: words.get("invitation") ?? words.get("invite") };
  if (link.setup || link.invitation) history.replaceState(null, "", location.pathname);
  return link;
}

/** @param {() => void} forget what the page must drop before anybody else sees it */
export async function logOut(forget) {
  try {
    await closeSession();
  } finally {
    forget();
  }
}

/** @param {unknown} error @param {Way} [way] */
function refusalText(error, way = "api_key") {
  if (!(error instanceof ApiError)) return error instanceof ConnectionLost ? "The server does not answer. Is it running?" : oneLine(errorText(error));
  if (error.status === 429) {
    const wait = error.retryAfterS ? ` Try again in ${durationText(error.retryAfterS * 1000)}.` : " Try again later.";
    return `Too many attempts.${wait}`;
  }
  return error.status === 401 ? wrongTexts[way] : oneLine(error.message);
}

/** @type {Record<Way, string>} */
const wrongTexts = {
  api_key: "This key is not right. Check that it was copied completely.",
  password: "Name or password is not right.",
  passkey: "This passkey is not known here.",
};

/** @param {unknown} error */
function errorText(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {{ children: unknown }} props */
function Gate({ children }) {
  return html`<main class="gate">
    <div class="gate-card panel">
      <p class="gate-brand"><${Mark} /> RECO3</p>
      ${children}
    </div>
  </main>`;
}

export function LoginView() {
  const [way, setWay] = useState(rememberedWay);
  const [draft, setDraft] = useState(noCredentials);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  /** @param {Event} submit */
  const logIn = async (submit) => {
    submit.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      operator.value = await openedSession(way, draft);
      rememberWay(way);
      setDraft(noCredentials);
      enter();
    } catch (error) {
      setProblem(refusalText(error, way));
    }
    setBusy(false);
  };
  return html`<${Gate}>
    <h1>Log in</h1>
    ${config.value?.locked && html`<p class="note" data-tone="warn">This server has no operator yet. Open the one-time set-up link that it printed when it started, on the machine it runs on.</p>`}
    <${WaySwitch} way=${way} onWay=${setWay} />
    <form onSubmit=${logIn}>
      <${WayFields} way=${way} draft=${draft} onDraft=${setDraft} hasName isBad=${problem !== null} />
      <p class="problem" role="alert">${problem}</p>
      <button type="submit" class="button primary wide" disabled=${busy}>${busy ? "Checking…" : "Log in"}</button>
    </form>
    ${!hasPasskeys && isLoopbackAddress && html`<button type="button" class="button ghost wide" onClick=${openOnLocalhost}>Open on localhost, for passkeys</button>`}
  </${Gate}>`;
}

/** @param {Way} way @param {Credentials} draft @returns {Promise<Shapes.Operator>} */
async function openedSession(way, { name, password, api_key: apiKey }) {
  if (way === "passkey") return openPasskeySession(await provePasskey());
  return openSession(way === "password" ? { name: name.trim(), password } : { api_key: apiKey });
}

/** A person who was invited chooses a password, once. @param {{ token: string }} props */
export function InvitationView({ token }) {
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  /** @param {Event} submit */
  const accept = async (submit) => {
    submit.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      operator.value = await acceptInvitation(token, password);
      rememberWay("password");
      enter();
    } catch (error) {
      setProblem(error instanceof ApiError && error.status !== 429 ? oneLine(error.message) : refusalText(error));
    }
    setBusy(false);
  };
  return html`<${Gate}>
    <h1>Welcome</h1>
    <p>You were invited to this RECO3. Choose a password; your name is in the invitation.</p>
    <form onSubmit=${accept}>
      <${PasswordField} password=${password} onPassword=${setPassword} />
      <p class="problem" role="alert">${problem}</p>
      <button type="submit" class="button primary wide" disabled=${busy}>${busy ? "Checking…" : "Accept the invitation"}</button>
    </form>
  </${Gate}>`;
}

/** @param {{ password: string, onPassword: (password: string) => void }} props */
export function PasswordField({ password, onPassword }) {
  return html`<label class="field">
    <span>New password, at least ${shortestPassword} characters</span>
    <input
      class="input"
      type="password"
      name="password"
      autocomplete="new-password"
      required
     
      minlength=${shortestPassword}
      maxlength="500"
      value=${password}
      onInput=${(/** @type {{ currentTarget: HTMLInputElement }} */ { currentTarget }) => onPassword(currentTarget.value)}
    />
  </label>`;
}

/** @param {{ token: string }} props */
export function SetupView({ token }) {
  const [apiKey, setApiKey] = useState(/** @type {string | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  const create = async () => {
    setBusy(true);
    setProblem(null);
    try {
      setApiKey((await setUp(token)).api_key);
    } catch (error) {
      setProblem(error instanceof ApiError ? oneLine(error.message) : refusalText(error));
    }
    setBusy(false);
  };
  if (apiKey !== null) return html`<${NewKey} apiKey=${apiKey} />`;
  return html`<${Gate}>
    <h1>Set up RECO3</h1>
    <p>This one-time link creates the administrator's key. The key is shown once; keep it in a password manager.</p>
    <p class="problem" role="alert">${problem}</p>
    <button type="button" class="button primary wide" disabled=${busy} onClick=${create}>Create the administrator key</button>
  </${Gate}>`;
}

/** @param {{ apiKey: string }} props */
function NewKey({ apiKey }) {
  return html`<${Gate}>
    <h1>Your administrator key</h1>
    <p>It is shown this once.</p>
    <${Copyable} text=${apiKey} name="the key" />
    <button type="button" class="button primary wide" onClick=${() => enter()}>Open the dashboard</button>
  </${Gate}>`;
}
