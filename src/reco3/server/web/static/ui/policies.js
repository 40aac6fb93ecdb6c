/**
 * How many people must say yes to what, and where. Approvers and auditors read it, administrators change it.
 * It refuses to reach a PC: what a PC demands stands in its own config.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { fetchPolicies, putPolicy, removePolicy } from "./api.js";
import { ConfirmDialog, useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { withProof } from "./proofs.js";
import { isAdmin } from "./roles.js";
import { counted, oneLine } from "./texts.js";
import { ageText } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const loaded = signal(/** @type {{ policies: Shapes.Policy[], default: Shapes.Terms } | null} */ (null));
const editing = signal(/** @type {Shapes.NewPolicy | null} */ (null));
const strongTypes = ["RESTART_PROCESS", "STOP_PROCESS", "ROLLBACK"];
/** @type {Shapes.NewPolicy} */
const freshPolicy = { command_type: "*", agent_pattern: "*", approvals_required: 1, four_eyes: true, reason_required: false, lifetime_s: null };

export async function refreshPolicies() {
  loaded.value = await fetchPolicies();
}

export function forgetPolicies() {
  loaded.value = null;
  editing.value = null;
}

export function PoliciesSection() {
  const rows = loaded.value?.policies ?? [];
  return html`<section class="panel policies" aria-labelledby="policies-heading">
    <header class="panel-head"><h2 id="policies-heading">Approval policies</h2></header>
    ${loaded.value && html`<p class="panel-words quiet">${rows.length === 0 ? "None is set. Every strong command needs" : "Without a policy, a strong command needs"}: ${policyText(loaded.value.default)}. A PC may demand more.</p>`}
    ${rows.length > 0 && html`<ul class="rows">${rows.map((policy) => html`<${PolicyRow} key=${`${policy.command_type} ${policy.agent_pattern}`} policy=${policy} />`)}</ul>`}
    ${isAdmin.value && html`<div class="panel-foot"><button type="button" class="button" disabled=${!canAct.value} onClick=${() => (editing.value = freshPolicy)}>Add a policy</button></div>`}
    ${editing.value && html`<${PolicyDialog} policy=${editing.value} />`}
  </section>`;
}

/** @param {{ policy: Shapes.Policy }} props */
function PolicyRow({ policy }) {
  return html`<li class="policy">
    <div class="policy-words">
      <p><strong>${policy.command_type === "*" ? "Every strong command" : oneLine(policy.command_type)}</strong> on <strong><bdi>${policy.agent_pattern === "*" ? "every PC" : oneLine(policy.agent_pattern)}</bdi></strong></p>
      <p class="quiet">${policyText(policy)}</p>
      ${!policy.four_eyes && html`<p class="note" data-tone="warn">Four eyes are off: whoever asks may approve it himself.</p>`}
    </div>
    ${isAdmin.value && html`<${PolicyButtons} policy=${policy} />`}
  </li>`;
}

/** @param {{ policy: Shapes.Policy }} props */
function PolicyButtons({ policy }) {
  const about = `${oneLine(policy.command_type)} on ${oneLine(policy.agent_pattern)}`;
  const remove = async () => {
    try {
      await withProof(() => removePolicy(policy.id));
      await refreshPolicies();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      showToast({ key: "policy", tone: "bad", title: "The policy was not removed", text });
    }
  };
  return html`<div class="button-row">
    <button type="button" class="button small" disabled=${!canAct.value} aria-label=${`Change the policy of ${about}`} onClick=${() => (editing.value = policy)}>Change</button>
    <button type="button" class="button small ghost" disabled=${!canAct.value} aria-label=${`Remove the policy of ${about}`} onClick=${remove}>Remove</button>
  </div>`;
}

/** @param {Shapes.Terms} terms */
function policyText({ approvals_required: required, four_eyes: isFourEyes, reason_required: isReasoned, lifetime_s: lifetimeS }) {
  const words = [counted(required, "approval"), isFourEyes ? "not by the one who asked" : "", isReasoned ? "a reason" : "", lifetimeS ? `expires after ${ageText(lifetimeS * 1000)}` : ""];
  return words.filter(Boolean).join(", ");
}

/** @param {{ policy: Shapes.NewPolicy }} props */
function PolicyDialog({ policy }) {
  const [draft, setDraft] = useState(policy);
  const close = () => {
    editing.value = null;
  };
  const save = async () => {
    await withProof(() => putPolicy(written(draft)));
    await refreshPolicies();
  };
  const { busy, problem, confirm } = useSending(save, close);
  return html`<${ConfirmDialog} title="Approval policy" confirmLabel="Save" busy=${busy} problem=${problem} onConfirm=${confirm} onCancel=${close}>
    <${PolicyFields} draft=${draft} onDraft=${setDraft} />
    ${!draft.four_eyes && html`<p class="note" data-tone="warn">Whoever asks may then approve it himself. The audit log keeps that you chose this.</p>`}
  </${ConfirmDialog}>`;
}

/** Only what the server takes. @param {Shapes.NewPolicy} draft @returns {Shapes.NewPolicy} */
function written({ command_type: type, agent_pattern: pattern, approvals_required: required, four_eyes: isFourEyes, reason_required: isReasoned, lifetime_s: lifetimeS }) {
  return { command_type: type, agent_pattern: pattern.trim(), approvals_required: required, four_eyes: isFourEyes, reason_required: isReasoned, lifetime_s: lifetimeS || null };
}

/** @param {{ draft: Shapes.NewPolicy, onDraft: (change: (before: Shapes.NewPolicy) => Shapes.NewPolicy) => void }} props */
function PolicyFields({ draft, onDraft }) {
  /** @param {keyof Shapes.NewPolicy} name @param {(element: HTMLInputElement) => unknown} read */
  const take = (name, read) => (/** @type {{ currentTarget: HTMLInputElement }} */ { currentTarget }) => {
    const value = read(currentTarget);
    onDraft((before) => ({ ...before, [name]: value }));
  };
  return html`<label class="field">
      <span>Command</span>
      <select class="input" value=${draft.command_type} onChange=${take("command_type", ({ value }) => value)}>
        <option value="*">Every strong command</option>
        ${strongTypes.map((type) => html`<option key=${type} value=${type}>${type}</option>`)}
      </select>
    </label>
    <label class="field"><span>PCs, with * for any letters</span><input class="input" type="text" maxlength="64" required value=${draft.agent_pattern} onInput=${take("agent_pattern", ({ value }) => value)} /></label>
    <label class="field"><span>Approvals needed</span><input class="input" type="number" min="1" max="10" step="1" required value=${draft.approvals_required} onInput=${take("approvals_required", ({ value }) => Number(value))} /></label>
    <label class="field"><span>Expires after seconds (empty: the usual)</span><input class="input" type="number" min="60" max="900" step="1" value=${draft.lifetime_s ?? ""} onInput=${take("lifetime_s", ({ value }) => Number(value) || null)} /></label>
    <label class="choice"><input type="checkbox" checked=${draft.four_eyes} onChange=${take("four_eyes", ({ checked }) => checked)} /><span>Four eyes: not by the one who asked</span></label>
    <label class="choice"><input type="checkbox" checked=${draft.reason_required} onChange=${take("reason_required", ({ checked }) => checked)} /><span>A reason must be given</span></label>`;
}
