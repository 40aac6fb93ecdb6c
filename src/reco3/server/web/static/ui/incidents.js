/**
 * What is wrong right now: the open incidents.
 * It refuses to open one: incidents come from what PCs report.
 */
import { html, signal } from "../vendor/preact-htm-signals.js";
import { closeIncident, fetchIncidents } from "./api.js";
import { canAct } from "./live.js";
import { coalesced } from "./refreshing.js";
import { canRequest } from "./roles.js";
import { oneLine, shortLine, visibleLines } from "./texts.js";
import { Age, noteServerTime } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const pageSize = 100;

const loaded = signal(/** @type {{ rows: Shapes.Incident[], hasMore: boolean } | null} */ (null));
const closingIds = signal(/** @type {ReadonlySet<string | number>} */ (new Set()));

export const refreshIncidents = coalesced(async () => {
  const page = await fetchIncidents({ status: "open", limit: pageSize });
  noteServerTime(page.now);
  loaded.value = { rows: page.incidents ?? [], hasMore: page.next_cursor !== null };
});

export function openIncidents() {
  return loaded.peek()?.rows ?? [];
}

/** @param {Shapes.Incident[] | null} rows */
export function restoreIncidents(rows) {
  loaded.value = rows && { rows, hasMore: false };
}

/** @param {Shapes.Incident} incident */
async function close(incident) {
  closingIds.value = new Set([...closingIds.value, incident.id]);
  try {
    await closeIncident(String(incident.id));
    showToast({ key: `incident:${incident.id}`, tone: "good", title: "Incident closed", text: shortLine(incident.title, 120) });
    await refreshIncidents();
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    showToast({ key: `incident:${incident.id}`, tone: "bad", title: "The incident was not closed", text });
  } finally {
    closingIds.value = new Set([...closingIds.value].filter((id) => id !== incident.id));
  }
}

export function IncidentsSection() {
  const rows = loaded.value?.rows;
  return html`<section class="panel incidents" aria-labelledby="incidents-heading">
    <header class="panel-head">
      <h2 id="incidents-heading">Incidents</h2>
      ${rows && rows.length > 0 && html`<span class="count-badge" data-tone="bad">${rows.length}${loaded.value?.hasMore ? "+" : ""} open</span>`}
    </header>
    ${!rows && html`<p class="empty">Waiting for the server…</p>`}
    ${rows?.length === 0 && html`<p class="empty">No open incident.</p>`}
    ${rows &&
    rows.length > 0 &&
    html`<ul class="rows">
      ${rows.map((incident) => html`<${IncidentRow} key=${incident.id} incident=${incident} />`)}
    </ul>`}
  </section>`;
}

/** @param {{ incident: Shapes.Incident }} props */
function IncidentRow({ incident }) {
  return html`<li class="incident" data-severity=${incident.severity}>
    <div class="incident-words">
      <p class="incident-title">
        <span class="tag level" data-level=${oneLine(incident.severity)}>${oneLine(incident.severity)}</span>
        <bdi>${shortLine(incident.title, 200)}</bdi>
        ${incident.count > 1 && html`<span class="times" title="times seen">×${incident.count.toLocaleString("en")}</span>`}
      </p>
      ${incident.summary && html`<p class="incident-summary">${visibleLines(shortLine(incident.summary, 600))}</p>`}
      <p class="incident-facts">
        ${incident.agent_id && html`<strong><bdi>${oneLine(incident.agent_id)}</bdi></strong>`}
        ${incident.code && html`<code><bdi>${oneLine(incident.code)}</bdi></code>`}
        <span>opened <${Age} stamp=${incident.ts_open} /></span>
        ${incident.last_seen_at && html`<span>last seen <${Age} stamp=${incident.last_seen_at} /></span>`}
      </p>
    </div>
    ${canRequest.value &&
    html`<button
      type="button"
      class="button small"
      disabled=${!canAct.value || closingIds.value.has(incident.id)}
      aria-label=${`Close incident: ${shortLine(incident.title, 120)}`}
      onClick=${() => close(incident)}
    >
      Close
    </button>`}
  </li>`;
}
