/**
 * Reports about commands that this server does not know, as after its database was restored from a copy.
 * It refuses to match them to anything: they are evidence for a person.
 */
import { html, signal } from "../vendor/preact-htm-signals.js";
import { fetchOrphanReports } from "./api.js";
import { Evidence, isFacts } from "./evidence.js";
import { coalesced } from "./refreshing.js";
import { counted, oneLine } from "./texts.js";
import { Moment } from "./times.js";

/** @import * as Shapes from "./shapes.js" */

const shownAtMost = 50;

const loaded = signal(/** @type {{ rows: Shapes.OrphanReport[], hasMore: boolean }} */ ({ rows: [], hasMore: false }));

export const refreshOrphans = coalesced(async () => {
  const page = await fetchOrphanReports(shownAtMost);
  loaded.value = { rows: page.orphan_reports ?? [], hasMore: page.next_cursor !== null };
});

export function forgetOrphans() {
  loaded.value = { rows: [], hasMore: false };
}

export function OrphanNotice() {
  const { rows, hasMore } = loaded.value;
  if (rows.length === 0) return null;
  return html`<details class="note orphans" data-tone="warn">
    <summary>${hasMore ? "More than " : ""}${counted(rows.length, "report")} about commands this server does not know</summary>
    <p>PCs carried these out or refused them, but this server has no record of asking: usually its database was restored from an older copy.</p>
    <ol class="report-list">
      ${rows.map((row) => html`<${OrphanRow} key=${row.id} row=${row} />`)}
    </ol>
  </details>`;
}

/** @param {{ row: Shapes.OrphanReport }} props */
function OrphanRow({ row }) {
  return html`<li class="report" data-verdict="orphan">
    <p>
      <${Moment} stamp=${row.received_at} /> <strong><bdi>${oneLine(row.agent_id)}</bdi></strong> reported${" "}
      <strong>${oneLine(row.status)}</strong> for <code><bdi>${oneLine(row.command_id)}</bdi></code>
    </p>
    ${isFacts(row.result) && html`<${Evidence} result=${row.result} />`}
  </li>`;
}
