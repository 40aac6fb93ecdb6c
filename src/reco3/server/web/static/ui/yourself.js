/**
 * Who one is here: role, open log-ins, password.
 * It refuses to keep a password beyond the moment it is sent.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { endSession, fetchSessions, setPassword } from "./api.js";
import { useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { withProof } from "./proofs.js";
import { roleTexts } from "./roles.js";
import { PasswordField, operator } from "./session.js";
import { oneLine } from "./texts.js";
import { Moment, momentText } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const sessions = signal(/** @type {Shapes.OpenSession[]} */ ([]));

/** @type {Record<string, string>} */
const howTexts = {
  "test-mode": "by the test mode: whoever is at this machine",
  session: "with a session of this browser",
  "api-key": "with an API key",
};

export async function refreshSessions() {
  sessions.value = (await fetchSessions()).sessions;
}

export function forgetSessions() {
  sessions.value = [];
}

/** @param {{ onLogOut: () => void }} props */
export function YouSection({ onLogOut }) {
  const who = operator.value;
  if (!who) return null;
  const how = Object.hasOwn(howTexts, who.how) ? howTexts[who.how] : `by ${oneLine(who.how)}`;
  return html`<section class="panel you" aria-labelledby="you-heading">
    <header class="panel-head"><h2 id="you-heading">You</h2></header>
    <p class="panel-words">
      <strong><bdi>${oneLine(who.name)}</bdi></strong> <span class="tag">${oneLine(who.role)}</span> ${roleTexts[who.role] ?? ""}. You are here ${how}.
    </p>
    ${sessions.value.length > 0 && html`<ul class="rows">${sessions.value.map((session) => html`<${SessionRow} key=${session.id} session=${session} onLogOut=${onLogOut} />`)}</ul>`}
    ${who.how === "session" && html`<${PasswordForm} />`}
  </section>`;
}

/** @param {{ session: Shapes.OpenSession, onLogOut: () => void }} props */
function SessionRow({ session, onLogOut }) {
  const end = async () => {
    if (session.current) return onLogOut();
    try {
      await withProof(() => endSession(session.id));
      await refreshSessions();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      showToast({ key: "session", tone: "bad", title: "The log-in was not ended", text });
    }
  };
  return html`<li class="person">
    <div class="person-words">
      <p>${session.current ? html`<strong>This browser</strong>` : "Another browser"}</p>
      <p class="quiet">logged in <${Moment} stamp=${session.created_at} />, ends ${momentText(session.expires_at)} unless used</p>
    </div>
    <button type="button" class="button small" disabled=${!canAct.value} onClick=${end}>${session.current ? "Log out here" : "End"}</button>
  </li>`;
}

function PasswordForm() {
  const [password, setDraft] = useState("");
  const send = async () => {
    await withProof(() => setPassword(password));
    setDraft("");
    await refreshSessions();
    showToast({ key: "password", tone: "good", title: "Password set", text: "Your other log-ins have ended." });
  };
  const { busy, problem, confirm } = useSending(send, () => {});
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    if (!busy) void confirm();
  };
  return html`<details class="panel-fold">
    <summary>Set a password</summary>
    <form class="panel-form" onSubmit=${submit}>
      <${PasswordField} password=${password} onPassword=${setDraft} />
      <button type="submit" class="button" disabled=${busy || !canAct.value}>Set the password</button>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    </form>
  </details>`;
}
