/**
 * The PCs: which there are, how they are, and which one the other sections are about.
 * It refuses to decide who is ONLINE: the server does.
 */
import { computed, html, signal } from "../vendor/preact-htm-signals.js";
import { fetchAgents } from "./api.js";
import { Icon } from "./icons.js";
import { canAct } from "./live.js";
import { place, wantsEnrolment } from "./places.js";
import { loadTone, wholePercentText, isNumber } from "./quantities.js";
import { coalesced } from "./refreshing.js";
import { isAdmin } from "./roles.js";
import { counted, oneLine, shortLine } from "./texts.js";
import { Age, momentText, noteServerTime } from "./times.js";
import { showToast } from "./toasts.js";
import { WindowedRows } from "./windowing.js";

/** @import * as Shapes from "./shapes.js" */

const firstPageSize = 100;
const largestPageSize = 500;
const filterFrom = 6;
const toastsAtOnce = 2;
const cardHeightPx = 148;
const rowHeightPx = 46;

/** Everything loaded so far, as if it had come in one page; null before the first answer. */
export const agentsPage = signal(/** @type {Shapes.AgentsPage | null} */ (null));
const chosenId = signal(/** @type {string | null} */ (null));
const filterText = signal("");
const isLoadingMore = signal(false);
const narrow = matchMedia("(max-width: 899px)");
const isNarrow = signal(narrow.matches);
narrow.addEventListener("change", () => {
  isNarrow.value = narrow.matches;
});

/** The PC that metrics, logs and controls are about: the chosen one, else the first. */
export const selectedAgent = computed(() => {
  const agents = agentsPage.value?.agents ?? [];
  return agents.find((agent) => agent.agent_id === chosenId.value) ?? agents[0] ?? null;
});
export const selectedId = computed(() => selectedAgent.value?.agent_id ?? null);

const shownAgents = computed(() => {
  const agents = agentsPage.value?.agents ?? [];
  const words = filterText.value.toLowerCase().split(/\s+/u).filter(Boolean);
  if (words.length === 0) return agents;
  return agents.filter((agent) => {
    const text = searchedText(agent);
    return words.every((word) => text.includes(word));
  });
});

/** @param {Shapes.Agent} agent */
function searchedText(agent) {
  const { agent_id: id, status, mode, platform, metrics, last_error: error } = agent;
  return [id, status, mode, platform, metrics?.hostname, error].join(" ").toLowerCase();
}

/** @param {string | null} agentId */
export function chooseAgent(agentId) {
  chosenId.value = agentId;
}

/** @param {string} agentId */
export function findAgent(agentId) {
  return agentsPage.value?.agents.find((agent) => agent.agent_id === agentId) ?? null;
}

export const refreshAgents = coalesced(async () => {
  const before = agentsPage.peek();
  const page = await fetchFirst(before?.agents.length ?? 0);
  tellNews(before, page);
  agentsPage.value = withTail(page, agentsPage.peek());
});

/**
 * PCs that "Load more" brought while the page was being fetched stay.
 * @param {Shapes.AgentsPage} page
 * @param {Shapes.AgentsPage | null} loaded
 */
function withTail(page, loaded) {
  if (!loaded || page.next_cursor === null || loaded.agents.length <= page.agents.length) return page;
  return { ...joined(page, loaded), online: page.online, offline: page.offline, now: page.now };
}

async function loadMore() {
  const loaded = agentsPage.peek();
  if (!loaded?.next_cursor || isLoadingMore.peek()) return;
  isLoadingMore.value = true;
  try {
    const page = await fetchAgents({ limit: largestPageSize, cursor: loaded.next_cursor });
    agentsPage.value = joined(agentsPage.peek() ?? loaded, page);
  } catch (error) {
    showToast({ key: "agents-more", tone: "bad", title: "More PCs could not be loaded", text: String(error) });
  } finally {
    isLoadingMore.value = false;
  }
}

/**
 * As many PCs as are loaded already, page by page.
 * @param {number} wanted
 */
async function fetchFirst(wanted) {
  let page = await fetchAgents({ limit: wanted > firstPageSize ? largestPageSize : firstPageSize, cursor: null });
  noteServerTime(page.now);
  while (page.next_cursor && page.agents.length < wanted) {
    page = joined(page, await fetchAgents({ limit: largestPageSize, cursor: page.next_cursor }));
  }
  return page;
}

/**
 * @param {Shapes.AgentsPage} loaded
 * @param {Shapes.AgentsPage} next
 */
function joined(loaded, next) {
  const known = new Set(loaded.agents.map((agent) => agent.agent_id));
  return { ...next, agents: [...loaded.agents, ...next.agents.filter((agent) => !known.has(agent.agent_id))] };
}

/**
 * @param {Shapes.AgentsPage | null} before
 * @param {Shapes.AgentsPage} page
 */
function tellNews(before, page) {
  if (!before) return;
  const earlier = new Map(before.agents.map((agent) => [agent.agent_id, agent]));
  const failing = page.agents.filter((agent) => isNewError(earlier.get(agent.agent_id), agent));
  const lost = page.agents.filter((agent) => earlier.get(agent.agent_id)?.status === "ONLINE" && agent.status === "OFFLINE");
  toastFew(failing, errorToast, { key: "errors", tone: "bad", title: `${counted(failing.length, "PC")} reported new errors` });
  toastFew(lost, lostToast, { key: "lost", tone: "warn", title: `${counted(lost.length, "PC")} went OFFLINE` });
}

/**
 * @param {Shapes.Agent | undefined} earlier
 * @param {Shapes.Agent} agent
 */
function isNewError(earlier, agent) {
  if (!earlier || !agent.last_error_at) return false;
  return !earlier.last_error_at || Date.parse(agent.last_error_at) > Date.parse(earlier.last_error_at);
}

/**
 * @param {Shapes.Agent[]} agents
 * @param {(agent: Shapes.Agent) => Shapes.Toast} toastOf
 * @param {Shapes.Toast} summary
 */
function toastFew(agents, toastOf, summary) {
  if (agents.length > toastsAtOnce) showToast({ ...summary, text: agents.map((agent) => shortLine(agent.agent_id, 24)).slice(0, 8).join(", ") });
  else for (const agent of agents) showToast(toastOf(agent));
}

/** @param {Shapes.Agent} agent @returns {Shapes.Toast} */
function errorToast(agent) {
  const title = `New error on ${shortLine(agent.agent_id, 40)}`;
  return { key: `error:${agent.agent_id}`, tone: "bad", title, text: shortLine(agent.last_error, 200), action: showAction(agent) };
}

/** @param {Shapes.Agent} agent @returns {Shapes.Toast} */
function lostToast(agent) {
  const title = `${shortLine(agent.agent_id, 40)} is OFFLINE`;
  return { key: `lost:${agent.agent_id}`, tone: "warn", title, text: `Last seen ${momentText(agent.last_seen)}`, action: showAction(agent) };
}

/** @param {Shapes.Agent} agent */
function showAction(agent) {
  return { label: "Show", run: () => chooseAgent(agent.agent_id) };
}

export function AgentsSection() {
  const page = agentsPage.value;
  return html`<section class="panel agents" aria-labelledby="agents-heading">
    <header class="panel-head">
      <h2 id="agents-heading">PC Agents</h2>
      ${page && page.agents.length > 0 && html`<${Totals} page=${page} />`}
      ${page && page.agents.length >= filterFrom && html`<${FilterBox} page=${page} />`}
    </header>
    <${AgentsBody} page=${page} />
  </section>`;
}

/** @param {{ page: Shapes.AgentsPage | null }} props */
function AgentsBody({ page }) {
  if (!page) return html`<p class="empty">Waiting for the server…</p>`;
  if (page.agents.length === 0) return html`<${NoAgents} />`;
  const shown = shownAgents.value;
  return html`${shown.length === 0 && html`<p class="empty">No loaded PC matches “${oneLine(filterText.value)}”.</p>`}
    ${shown.length > 0 && html`<${AgentTable} agents=${shown} />`}
    ${page.next_cursor &&
    html`<div class="panel-foot">
      <button type="button" class="button" disabled=${isLoadingMore.value || !canAct.value} onClick=${loadMore}>
        ${isLoadingMore.value ? "Loading…" : "Load more"}
      </button>
      <span class="quiet">${page.agents.length.toLocaleString("en")} of ${totalOf(page).toLocaleString("en")} loaded</span>
    </div>`}`;
}

/** @param {Shapes.AgentsPage} page */
function totalOf(page) {
  return Math.max(page.agents.length, page.online + page.offline);
}

/** @param {{ page: Shapes.AgentsPage }} props */
function Totals({ page }) {
  return html`<p class="totals">
    <${Total} status="ONLINE" count=${page.online} />
    <${Total} status="OFFLINE" count=${page.offline} />
  </p>`;
}

/** None of a kind is no news and has no colour. @param {{ status: string, count: number }} props */
function Total({ status, count }) {
  return html`<span class="status" data-status=${status} data-none=${count === 0}>
    <span class="status-mark" aria-hidden="true"></span>${count.toLocaleString("en")} ${status}
  </span>`;
}

/** @param {{ page: Shapes.AgentsPage }} props */
function FilterBox({ page }) {
  const hint = page.next_cursor ? `Filter the ${page.agents.length.toLocaleString("en")} loaded PCs` : "Filter PCs";
  return html`<input
    type="search"
    class="input filter"
    placeholder=${hint}
    aria-label=${hint}
    value=${filterText.value}
    onInput=${(/** @type {{ currentTarget: HTMLInputElement }} */ { currentTarget }) => {
      filterText.value = currentTarget.value;
    }}
  />`;
}

function openAccess() {
  wantsEnrolment.value = true;
  place.value = "access";
}

function NoAgents() {
  return html`<div class="empty">
    <p class="empty-title">No agents (offline)</p>
    <p>
      Start one on a PC: copy <code>agent/common/config.example.yaml</code> to <code>config.yaml</code>, set${" "}
      <code>base_url: "${location.origin}"</code>, an <code>agent_id</code> and its <code>api_key</code>, then run:
    </p>
    <pre class="snippet"><code>python agent/common/reco_agent.py agent/common/config.yaml</code></pre>
    <p>It appears here within 10 seconds.</p>
    ${isAdmin.value && html`<p>Without a key to copy: <button type="button" class="button small" onClick=${openAccess}>Let a PC in</button></p>`}
  </div>`;
}

const columns = ["PC", "Status", "CPU", "MEM", "DISK", "Mode", "apply_enabled", "Last error", "Last seen"];

/** @param {{ agents: Shapes.Agent[] }} props */
function AgentTable({ agents }) {
  return html`<div class="agent-table" role="table" aria-label="PC Agents" aria-rowcount=${agents.length + 1}>
    <div class="agent-row agent-head" role="row" aria-rowindex="1">
      ${columns.map((column) => html`<span role="columnheader" key=${column}>${column}</span>`)}
    </div>
    <${WindowedRows}
      key=${filterText.value}
      rows=${agents}
      rowHeightPx=${isNarrow.value ? cardHeightPx : rowHeightPx}
      draw=${(/** @type {Shapes.Agent} */ agent, /** @type {number} */ index) =>
        html`<${AgentRow} key=${agent.agent_id} agent=${agent} index=${index} isSelected=${agent.agent_id === selectedId.value} />`}
    />
  </div>`;
}

/** @param {{ agent: Shapes.Agent, index: number, isSelected: boolean }} props */
function AgentRow({ agent, index, isSelected }) {
  const { agent_id: agentId, metrics } = agent;
  const choose = () => chooseAgent(agentId);
  const hostname = metrics?.hostname && metrics.hostname !== agentId ? oneLine(metrics.hostname) : "";
  return html`<div class=${`agent-row ${isSelected ? "selected" : ""}`} role="row" aria-rowindex=${index + 2} onClick=${choose}>
    <div class="cell-name" role="cell">
      <button type="button" class="agent-name" aria-current=${isSelected ? "true" : undefined} onClick=${choose} title=${oneLine(agentId)}>
        <bdi>${oneLine(agentId)}</bdi>
      </button>
      <span class="agent-host" title=${hostname}><bdi>${hostname || oneLine(agent.platform)}</bdi></span>
    </div>
    <div class="cell-status" role="cell"><${AgentStatus} status=${agent.status} /></div>
    <${LoadCell} label="CPU" percent=${metrics?.cpu_percent} />
    <${LoadCell} label="MEM" percent=${metrics?.mem_percent} />
    <${LoadCell} label="DISK" percent=${metrics?.disk_percent} />
    <div class="cell-mode" role="cell"><${ModeTag} mode=${agent.mode} /></div>
    <div class="cell-lock" role="cell"><${LockState} isOpen=${agent.apply_enabled} /></div>
    <div class="cell-error" role="cell"><${LastError} agent=${agent} /></div>
    <div class="cell-seen" role="cell"><${Age} stamp=${agent.last_seen} /></div>
  </div>`;
}

/** @param {{ status: string }} props */
export function AgentStatus({ status }) {
  return html`<span class="status" data-status=${status}>
    <span class="status-mark" aria-hidden="true"></span>${oneLine(status)}
  </span>`;
}

/** @param {{ label: string, percent: number | null | undefined }} props */
function LoadCell({ label, percent }) {
  return html`<div class="cell-load" role="cell" data-label=${label}>
    <span class="load-text" data-tone=${loadTone(percent)}>${wholePercentText(percent)}</span>
    <${LoadBar} percent=${percent} />
  </div>`;
}

/** @param {{ percent: number | null | undefined }} props */
export function LoadBar({ percent }) {
  const width = isNumber(percent) ? Math.min(100, Math.max(0, percent)) : 0;
  return html`<svg class="load-bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect class="load-track" width="100" height="6" />
    <rect class="load-fill" data-tone=${loadTone(percent)} width=${width} height="6" />
  </svg>`;
}

/** @param {{ mode: string | null }} props */
export function ModeTag({ mode }) {
  if (!mode) return html`<span class="quiet" title="This PC does not say its mode.">–</span>`;
  return html`<span class="tag mode" data-mode=${mode}>${oneLine(mode)}</span>`;
}

const lockTitles = {
  open: "This PC's own config allows approved strong commands.",
  closed: "This PC's own config refuses strong commands, approved or not. Only its administrator can change that.",
  unknown: "This PC does not say whether its config allows strong commands.",
};

/** @param {{ isOpen: boolean | null }} props */
export function LockState({ isOpen }) {
  const state = isOpen === true ? "open" : isOpen === false ? "closed" : "unknown";
  const words = { open: "true", closed: "false", unknown: "unknown" }[state];
  return html`<span class="lock" data-lock=${state} title=${lockTitles[state]}>
    ${state !== "unknown" && html`<${Icon} shape=${state === "open" ? "unlock" : "lock"} />`}<span>${words}</span>
  </span>`;
}

/** @param {{ agent: Shapes.Agent }} props */
function LastError({ agent }) {
  if (!agent.last_error) return html`<span class="quiet">No error</span>`;
  return html`<span class="last-error" title=${oneLine(agent.last_error)}>
    ${agent.recent_error_count > 0 &&
    html`<span class="count-badge" title="errors in the last hour">${agent.recent_error_count.toLocaleString("en")}</span>`}
    <bdi>${shortLine(agent.last_error, 400)}</bdi>
  </span>`;
}
