/**
 * API tokens of one's own for scripts, each with a role and an end.
 * It refuses to show one twice.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { createToken, fetchTokens, revokeToken } from "./api.js";
import { Copyable } from "./copying.js";
import { useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { RoleChoice } from "./people.js";
import { withProof } from "./proofs.js";
import { oneLine } from "./texts.js";
import { momentText } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const tokens = signal(/** @type {Shapes.ApiToken[]} */ ([]));
const newest = signal(/** @type {string | null} */ (null));

export async function refreshTokens() {
  tokens.value = (await fetchTokens()).tokens;
}

export function forgetTokens() {
  tokens.value = [];
  newest.value = null;
}

export function TokensSection() {
  return html`<section class="panel tokens" aria-labelledby="tokens-heading">
    <header class="panel-head"><h2 id="tokens-heading">API tokens</h2></header>
    <p class="panel-words">For scripts. A token alone cannot sign an approval.</p>
    ${tokens.value.length > 0 && html`<ul class="rows">${tokens.value.map((token) => html`<${TokenRow} key=${token.id} token=${token} />`)}</ul>`}
    <${NewTokenForm} />
    ${newest.value && html`<div class="note"><p>Shown this once:</p><${Copyable} text=${newest.value} name="the token" /></div>`}
  </section>`;
}

/** @param {{ token: Shapes.ApiToken }} props */
function TokenRow({ token }) {
  const revoke = async () => {
    try {
      await withProof(() => revokeToken(token.id));
      await refreshTokens();
    } catch (error) {
      showToast({ key: `token:${token.id}`, tone: "bad", title: "The token was not revoked", text: error instanceof Error ? error.message : String(error) });
    }
  };
  return html`<li class="person">
    <div class="person-words">
      <p><strong><bdi>${oneLine(token.name)}</bdi></strong> <span class="tag">${oneLine(token.role)}</span></p>
      <p class="quiet">until ${momentText(token.expires_at)}, ${token.last_used_at ? `last used ${momentText(token.last_used_at)}` : "never used"}</p>
    </div>
    <button type="button" class="button small" disabled=${!canAct.value} aria-label=${`Revoke ${oneLine(token.name)}`} onClick=${revoke}>Revoke</button>
  </li>`;
}

function NewTokenForm() {
  const [draft, setDraft] = useState({ name: "", role: "viewer", days: "90" });
  const make = async () => {
    const { token } = await withProof(() => createToken({ name: draft.name.trim(), role: draft.role, expires_in_days: Number(draft.days) }));
    newest.value = token;
    setDraft((before) => ({ ...before, name: "" }));
    await refreshTokens();
  };
  const { busy, problem, confirm } = useSending(make, () => {});
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    if (!busy) void confirm();
  };
  /** @param {"name" | "days"} name */
  const take = (name) => (/** @type {{ currentTarget: HTMLInputElement }} */ { currentTarget: { value } }) => setDraft((before) => ({ ...before, [name]: value }));
  return html`<details class="panel-fold">
    <summary>New token</summary>
    <form class="panel-form" onSubmit=${submit}>
      <label class="field"><span>What for</span><input class="input" type="text" maxlength="64" required value=${draft.name} onInput=${take("name")} /></label>
      <${RoleChoice} role=${draft.role} onRole=${(/** @type {string} */ role) => setDraft((before) => ({ ...before, role }))} />
      <label class="field"><span>Days</span><input class="input" type="number" min="1" max="365" step="1" required value=${draft.days} onInput=${take("days")} /></label>
      <button type="submit" class="button" disabled=${busy || !canAct.value}>Create</button>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    </form>
  </details>`;
}
