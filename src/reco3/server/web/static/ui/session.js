/**
 * Who is looking: log in, set up the first administrator, log out.
 * It refuses to keep a key: what was typed goes to the server once and is forgotten.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { ApiError, closeSession, openSession, setUp } from "./api.js";
import { Mark } from "./icons.js";
import { oneLine } from "./texts.js";
import { durationText } from "./times.js";

/** @import * as Shapes from "./shapes.js" */

/** @typedef {"starting" | "login" | "setup" | "dashboard"} View */

export const view = signal(/** @type {View} */ ("starting"));
export const operator = signal(/** @type {Shapes.Operator | null} */ (null));
export const config = signal(/** @type {Shapes.Config | null} */ (null));

/** @type {() => void} */
let enter = () => {};

/** @param {() => void} listener called after a login or a set-up */
export function onEntered(listener) {
  enter = listener;
}

/** Takes the one-time token out of the address, so that it stays in no history. */
export function takeSetupToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("setup");
  if (token) history.replaceState(null, "", location.pathname);
  return token;
}

/** @param {() => void} forget what the page must drop before anybody else sees it */
export async function logOut(forget) {
  try {
    await closeSession();
  } finally {
    forget();
  }
}

/** @param {unknown} error */
function refusalText(error) {
  if (!(error instanceof ApiError)) return "The server does not answer. Is it running?";
  if (error.status === 429) {
    const wait = error.retryAfterS ? ` Try again in ${durationText(error.retryAfterS * 1000)}.` : " Try again later.";
    return `Too many attempts.${wait}`;
  }
  if (error.status === 401) return "This key is not right. Check that it was copied completely.";
  return oneLine(error.message);
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
  const [apiKey, setApiKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  /** @param {Event} submit */
  const logIn = async (submit) => {
    submit.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      operator.value = await openSession(apiKey);
      setApiKey("");
      enter();
    } catch (error) {
      setProblem(refusalText(error));
    }
    setBusy(false);
  };
  return html`<${Gate}>
    <h1>Log in</h1>
    ${config.value?.locked && html`<p class="note" data-tone="warn">This server has no operator yet. Open the one-time set-up link that it printed when it started, on the machine it runs on.</p>`}
    <form onSubmit=${logIn}>
      <label class="field">
        <span>API key</span>
        <input
          class="input"
          type="password"
          name="api_key"
          autocomplete="current-password"
          required
          autofocus
          value=${apiKey}
          aria-invalid=${problem !== null}
          aria-describedby="login-problem"
          onInput=${(/** @type {{ currentTarget: HTMLInputElement }} */ { currentTarget }) => setApiKey(currentTarget.value)}
        />
      </label>
      <p id="login-problem" class="problem" role="alert">${problem}</p>
      <button type="submit" class="button primary wide" disabled=${busy}>${busy ? "Checking…" : "Log in"}</button>
    </form>
  </${Gate}>`;
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
  const [copied, setCopied] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(apiKey);
      setCopied("Copied.");
    } catch {
      setCopied("The browser did not allow it: select the key and copy it by hand.");
    }
  };
  return html`<${Gate}>
    <h1>Your administrator key</h1>
    <p>It is shown this once.</p>
    <p class="secret"><code>${apiKey}</code></p>
    <div class="button-row">
      <button type="button" class="button" onClick=${copy}>Copy</button>
      <button type="button" class="button primary" onClick=${() => enter()}>Open the dashboard</button>
    </div>
    <p class="quiet" role="status">${copied}</p>
  </${Gate}>`;
}
