/**
 * Whether a PC checks approvals by itself, and whether it pins the same keys as the others.
 * It refuses to know which keys: the PC tells how many, and a digest to compare.
 */
import { html } from "../vendor/preact-htm-signals.js";
import { agentsPage } from "./agents.js";
import { Icon } from "./icons.js";
import { counted, oneLine } from "./texts.js";

/** @import * as Shapes from "./shapes.js" */

export const unverifiedText = "approvals not verified by this PC";

/** How many keys the PC pins; null when it does not say. @param {Shapes.Agent | null} agent */
export function pinnedCount(agent) {
  const count = agent?.metrics?.approvers_pinned;
  return Number.isSafeInteger(count) ? Number(count) : null;
}

/** @param {{ agent: Shapes.Agent }} props */
export function TrustFacts({ agent }) {
  const count = pinnedCount(agent);
  const { approvals_required: required, trust_version: version } = agent.metrics ?? {};
  if (!count) return html`<p class="trust" data-trust="none"><${Icon} shape="unlock" /><span>${sentence(unverifiedText)}: it pins no key and believes this server.</span></p>`;
  return html`<p class="trust" data-trust="pinned">
    <${Icon} shape="key" />
    <span>
      This PC verifies approvals itself: <strong>${counted(count, "key")} pinned</strong>, ${counted(required ?? 1, "signature")} required, trust
      version <code>${groupsOf(version)}</code>. ${comparisonText(agent)}
    </span>
  </p>`;
}

/** @param {string} text */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** In groups of four, to be read aloud. @param {unknown} text */
export function groupsOf(text) {
  return oneLine(text ?? "unknown").replace(/(.{4})(?=.)/gu, "$1 ");
}

/** @param {Shapes.Agent} agent */
function comparisonText({ agent_id: agentId, metrics }) {
  const others = (agentsPage.value?.agents ?? []).filter((other) => other.agent_id !== agentId && pinnedCount(other));
  const same = others.filter((other) => other.metrics?.trust_version === metrics?.trust_version).length;
  const different = others.length - same;
  if (others.length === 0) return "No other loaded PC pins any.";
  if (different === 0) return `${counted(same, "other PC")} with pins ${same === 1 ? "has" : "have"} the same version.`;
  return `It differs from ${counted(different, "other PC")}${same > 0 ? `, and is the same as on ${counted(same, "PC")}` : ""}.`;
}
