/**
 * The error lines of the selected PC, newest first.
 * It refuses to interpret them: they are hostile text and shown as such.
 */
import { computed, html, signal } from "../vendor/preact-htm-signals.js";
import { selectedId } from "./agents.js";
import { fetchLogs } from "./api.js";
import { canAct } from "./live.js";
import { coalesced } from "./refreshing.js";
import { withNewest, withOlder } from "./rows.js";
import { oneLine, visibleLines } from "./texts.js";
import { Moment, clockText, momentText, noteServerTime } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const pageSize = 50;
const foldedAfterChars = 400;
const leadingTime = /^\[?(?:(\d{4}-\d\d-\d\d)[T ])?(\d\d:\d\d:\d\d)(?!\d)/u;
const levels = ["All", "CRITICAL", "ERROR", "WARN"];

/** @typedef {{ agentId: string | null, rows: Shapes.LogLine[], nextCursor: string | null }} LoadedLogs */

const loaded = signal(/** @type {LoadedLogs} */ ({ agentId: null, rows: [], nextCursor: null }));
const level = signal("All");
const isLoadingOlder = signal(false);

const current = computed(() => (loaded.value.agentId === selectedId.value ? loaded.value : null));
export const logLines = computed(() => current.value?.rows ?? []);
const shownLines = computed(() =>
  level.value === "All" ? logLines.value : logLines.value.filter((line) => line.level === level.value),
);

export const refreshLogs = coalesced(async () => {
  const agentId = selectedId.peek();
  if (agentId === null) return;
  const page = await fetchLogs(agentId, { limit: pageSize });
  noteServerTime(page.now);
  const fresh = { rows: page.logs ?? [], nextCursor: page.next_cursor };
  const before = loaded.peek();
  loaded.value = { agentId, ...(before.agentId === agentId ? withNewest(before, fresh) : fresh) };
});

/** @param {string | null} agentId @param {Shapes.LogLine[]} rows */
export function restoreLogs(agentId, rows) {
  loaded.value = { agentId, rows, nextCursor: null };
}

async function loadOlder() {
  const before = current.peek();
  if (!before?.agentId || !before.nextCursor || isLoadingOlder.peek()) return;
  isLoadingOlder.value = true;
  try {
    const page = await fetchLogs(before.agentId, { limit: pageSize * 2, cursor: before.nextCursor });
    const older = { rows: page.logs ?? [], nextCursor: page.next_cursor };
    if (loaded.peek().agentId === before.agentId) loaded.value = { agentId: before.agentId, ...withOlder(loaded.peek(), older) };
  } catch (error) {
    showToast({ key: "logs-older", tone: "bad", title: "Older lines could not be loaded", text: String(error) });
  } finally {
    isLoadingOlder.value = false;
  }
}

export function LogsSection() {
  const agentId = selectedId.value;
  return html`<section class="panel logs" aria-labelledby="logs-heading">
    <header class="panel-head">
      <h2 id="logs-heading">Agent Logs</h2>
      ${agentId !== null && html`<span class="panel-subject"><bdi>${oneLine(agentId)}</bdi></span>`}
      <${LevelFilter} />
    </header>
    <${LogList} />
  </section>`;
}

function LevelFilter() {
  return html`<div class="segments" role="group" aria-label="Level">
    ${levels.map(
      (one) => html`<button
        type="button"
        key=${one}
        class="segment"
        aria-pressed=${level.value === one}
        onClick=${() => {
          level.value = one;
        }}
      >
        ${one}
      </button>`,
    )}
  </div>`;
}

function LogList() {
  const lines = shownLines.value;
  return html`${lines.length === 0 ? html`<p class="empty">${emptyText()}</p>` : null}
    ${lines.length > 0 &&
    html`<ol class="rows log-lines" data-times=${lines.every(saysItsTime) ? "said" : "shown"}>
      ${lines.map((line) => html`<${LogRow} key=${line.id} line=${line} />`)}
    </ol>`}
    ${current.value?.nextCursor &&
    html`<div class="panel-foot">
      <button type="button" class="button" disabled=${isLoadingOlder.value || !canAct.value} onClick=${loadOlder}>
        ${isLoadingOlder.value ? "Loading…" : "Load older"}
      </button>
    </div>`}`;
}

function emptyText() {
  if (selectedId.value === null) return "No PC to show yet.";
  if (!current.value) return "Loading…";
  if (logLines.value.length > 0) return `No ${level.value} line among those loaded.`;
  return "No ERROR, WARN or CRITICAL line from this PC.";
}

/** @param {{ line: Shapes.LogLine }} props */
function LogRow({ line }) {
  return html`<li class="log-line">
    <span class="log-time">${!saysItsTime(line) && html`<${Moment} stamp=${line.ts} />`}</span>
    <span class="tag level" data-level=${oneLine(line.level)}>${oneLine(line.level)}</span>
    <div class="log-text">
      <${Foldable} text=${line.msg} />
      ${line.code && html`<code class="log-code"><bdi>${oneLine(line.code)}</bdi></code>`}
      ${hasMeta(line) &&
      html`<details class="log-meta">
        <summary>Details</summary>
        <pre class="output">${visibleLines(line.meta_json)}</pre>
      </details>`}
    </div>
  </li>`;
}

/**
 * Whether the line begins with the very time that would stand before it.
 * @param {Shapes.LogLine} line
 */
function saysItsTime({ ts, msg }) {
  const [, date, clock] = leadingTime.exec(String(msg ?? "")) ?? [];
  const timeMs = Date.parse(ts);
  if (clock !== clockText(timeMs)) return false;
  return date === undefined ? momentText(ts) === clock : date === dateText(new Date(timeMs));
}

/** @param {Date} day */
function dateText(day) {
  return [day.getFullYear(), day.getMonth() + 1, day.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}

/** @param {Shapes.LogLine} line */
function hasMeta({ meta_json: meta }) {
  return Boolean(meta) && meta !== "{}" && meta !== "null";
}

/** A long text folded after its beginning, with all of it one click away. @param {{ text: string }} props */
function Foldable({ text }) {
  const shown = visibleLines(text);
  if (shown.length <= foldedAfterChars) return html`<p class="log-message">${shown}</p>`;
  const beginning = Array.from(shown).slice(0, foldedAfterChars / 2).join("");
  return html`<details class="fold">
    <summary>
      <span class="log-message">${beginning}…</span>
      <span class="fold-hint">${shown.length.toLocaleString("en")} characters</span>
    </summary>
    <pre class="output">${shown}</pre>
  </details>`;
}
