/**
 * Lets a PC in: makes a token that is good once, and says what to run on the PC. For administrators.
 * It refuses to write the token into a command line, where others on the PC could read it.
 */
import { html, signal, useEffect, useRef, useState } from "../vendor/preact-htm-signals.js";
import { createEnrolmentToken, fetchEnrolmentTokens, revokeEnrolmentToken } from "./api.js";
import { Copyable } from "./copying.js";
import { useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { wantsEnrolment } from "./places.js";
import { withProof } from "./proofs.js";
import { oneLine } from "./texts.js";
import { momentText } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

/** @typedef {"linux" | "macos" | "windows"} System */

const lookAgainMs = 3000;
/** @type {Record<System, string>} */
const systemTexts = { linux: "Linux", macos: "macOS", windows: "Windows" };
const systems = /** @type {System[]} */ (Object.keys(systemTexts));

const tokens = signal(/** @type {Shapes.EnrolmentToken[]} */ ([]));
const newest = signal(/** @type {Shapes.NewEnrolmentToken | null} */ (null));
const draft = signal({ agentId: "", mayReplace: false });

export async function refreshEnrolments() {
  tokens.value = (await fetchEnrolmentTokens()).tokens;
}

export function forgetEnrolments() {
  tokens.value = [];
  newest.value = null;
  draft.value = { agentId: "", mayReplace: false };
}

export function EnrolmentsSection() {
  const open = tokens.value.filter(({ status, id }) => status === "open" && id !== newest.value?.id);
  return html`<section class="panel enrolments" aria-labelledby="enrolments-heading">
    <header class="panel-head"><h2 id="enrolments-heading">Let a PC in</h2></header>
    <p class="panel-words">A token lets one PC in, once, within 15 minutes. The PC makes its own key.</p>
    <${NewTokenForm} />
    ${newest.value && html`<${Instructions} key=${newest.value.id} made=${newest.value} />`}
    ${open.length > 0 && html`<ul class="rows">${open.map((token) => html`<${TokenRow} key=${token.id} token=${token} />`)}</ul>`}
  </section>`;
}

function NewTokenForm() {
  const { agentId, mayReplace } = draft.value;
  const make = async () => {
    const made = await withProof(() => createEnrolmentToken({ agent_id: agentId.trim(), may_replace: mayReplace }));
    tokens.value = [made, ...tokens.peek()];
    newest.value = made;
    draft.value = { agentId: "", mayReplace: false };
    await refreshEnrolments();
  };
  const { busy, problem, confirm } = useSending(make, () => {});
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => {
    if (!wantsEnrolment.peek()) return;
    wantsEnrolment.value = false;
    input.current?.focus();
  }, []);
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    if (!busy) void confirm();
  };
  const takeName = (/** @type {{ currentTarget: HTMLInputElement }} */ { currentTarget: { value } }) => {
    draft.value = { ...draft.peek(), agentId: value };
  };
  const turn = () => {
    draft.value = { ...draft.peek(), mayReplace: !mayReplace };
  };
  return html`<form class="panel-form" onSubmit=${submit}>
    <label class="field">
      <span>Its name</span>
      <input ref=${input} class="input" type="text" maxlength="64" required pattern="[A-Za-z0-9._\\-]+" title="letters, digits, dots, dashes and underscores" placeholder="pc-001" autocapitalize="none" spellcheck=${false} value=${agentId} onInput=${takeName} />
    </label>
    <label class="choice"><input type="checkbox" checked=${mayReplace} onChange=${turn} /><span>It takes the place of a PC of this name, whose key ends</span></label>
    <button type="submit" class="button" disabled=${busy || !canAct.value}>Make a token</button>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
  </form>`;
}

/** @param {{ made: Shapes.NewEnrolmentToken }} props */
function Instructions({ made }) {
  const [system, setSystem] = useState(/** @type {System} */ ("linux"));
  const status = tokens.value.find(({ id }) => id === made.id)?.status ?? "taken back";
  useEffect(() => {
    if (status !== "open") return undefined;
    const timer = setInterval(() => void refreshEnrolments().catch(() => {}), lookAgainMs);
    return () => clearInterval(timer);
  }, [status]);
  const name = oneLine(made.agent_id);
  if (status === "used") return html`<p class="note verified" role="status"><strong><bdi>${name}</bdi></strong> is in. It is ONLINE as soon as its agent reports.</p>`;
  if (status !== "open") return html`<p class="note" data-tone="warn" role="status">The token for <strong><bdi>${name}</bdi></strong> is over and opens nothing. Make another one.</p>`;
  return html`<div class="note enrolment">
    <div class="segments" role="group" aria-label="System of the PC">
      ${systems.map((one) => html`<button type="button" key=${one} class="segment" aria-pressed=${system === one} onClick=${() => setSystem(one)}>${systemTexts[one]}</button>`)}
    </div>
    <p>1. Copy the token. It is shown this once.</p>
    <${Copyable} text=${made.token} name="the token" />
    <p>2. On <strong><bdi>${name}</bdi></strong>, in RECO3's folder, run this${pasteTexts[system]}</p>
    <${Copyable} text=${commandFor(system, made.agent_id)} name="the command" />
    <p class="quiet" role="status">Waiting for it until ${momentText(made.expires_at)}.</p>
  </div>`;
}

/** What becomes of the copied token. @type {Record<System, string>} */
const pasteTexts = {
  linux: ", paste the token, then press Enter and Ctrl+D:",
  macos: "; it takes the token from the clipboard:",
  windows: " as Administrator in PowerShell; it takes the token from the clipboard:",
};

/** @param {System} system @param {string} agentId letters, digits, dots, dashes and underscores alone */
function commandFor(system, agentId) {
  const server = location.origin;
  if (system === "linux") return `sudo agent/linux/install_systemd.sh --token-file - ${server} ${agentId}`;
  if (system === "macos") return `pbpaste | sudo agent/macos/install_launchd.sh ${server} ${agentId} --token-file -`;
  return `Get-Clipboard | agent\\windows\\install_service.ps1 -TokenFile - -BaseUrl ${server} -AgentId ${agentId}`;
}

/** @param {{ token: Shapes.EnrolmentToken }} props */
function TokenRow({ token }) {
  const name = oneLine(token.agent_id ?? "any PC");
  const revoke = async () => {
    try {
      await withProof(() => revokeEnrolmentToken(token.id));
      await refreshEnrolments();
    } catch (error) {
      showToast({ key: `enrolment:${token.id}`, tone: "bad", title: "The token was not taken back", text: error instanceof Error ? error.message : String(error) });
    }
  };
  return html`<li class="person">
    <div class="person-words">
      <p><strong><bdi>${name}</bdi></strong>${token.may_replace && html` <span class="tag">replaces</span>`}</p>
      <p class="quiet">made by <bdi>${oneLine(token.created_by)}</bdi>, good until ${momentText(token.expires_at)}</p>
    </div>
    <button type="button" class="button small" disabled=${!canAct.value} aria-label=${`Take back the token for ${name}`} onClick=${revoke}>Take back</button>
  </li>`;
}
