/**
 * Which stretch of the past the charts show: the last quarter of an hour report by report, or longer in steps.
 * It refuses to guess: a step without a report is a gap, and what is not loaded yet is said to be so.
 */
import { computed, html, signal } from "../vendor/preact-htm-signals.js";
import { selectedId } from "./agents.js";
import { fetchHistory } from "./api.js";
import { isNumber } from "./quantities.js";
import { counted } from "./texts.js";
import { ageText, noteServerTime, serverNowMs } from "./times.js";

/** @import * as Shapes from "./shapes.js" */
/** @import { Point } from "./sparklines.js" */

/** @typedef {{ name: string, text: string, durationMs: number }} Range */
/** @typedef {{ agentId: string, range: Range, answer: Shapes.HistoryPage }} Loaded */

const minuteMs = 60_000;
const dayMs = 1440 * minuteMs;
const mostPoints = 300;
const shortestRestMs = 10_000;
const longestRestMs = 5 * minuteMs;

/** @type {[Range, ...Range[]]} */
const ranges = [
  { name: "15 min", text: "last 15 minutes", durationMs: 15 * minuteMs },
  { name: "1 h", text: "last hour", durationMs: 60 * minuteMs },
  { name: "24 h", text: "last 24 hours", durationMs: dayMs },
  { name: "7 d", text: "last 7 days", durationMs: 7 * dayMs },
  { name: "30 d", text: "last 30 days", durationMs: 30 * dayMs },
  { name: "1 y", text: "last year", durationMs: 365 * dayMs },
];

export const liveRange = ranges[0];
export const range = signal(liveRange);

const loaded = signal(/** @type {Loaded | null} */ (null));
const current = computed(() =>
  loaded.value?.agentId === selectedId.value && loaded.value.range === range.value ? loaded.value.answer : null,
);

/** What the tiles draw of a longer range, or null while it is not loaded. */
export const longChart = computed(() => (current.value ? chartOf(current.value) : null));

/** @param {string} agentId */
export async function refreshHistory(agentId) {
  const wanted = range.peek();
  if (wanted === liveRange || !isStale(agentId, wanted)) return;
  const toMs = serverNowMs.peek();
  const from = new Date(toMs - wanted.durationMs).toISOString();
  const answer = await fetchHistory(agentId, { from, to: new Date(toMs).toISOString(), points: mostPoints });
  noteServerTime(answer.now);
  loaded.value = { agentId, range: wanted, answer };
}

export function forgetHistory() {
  loaded.value = null;
}

/** A year's chart does not change with every report. @param {string} agentId @param {Range} wanted */
function isStale(agentId, wanted) {
  const last = loaded.peek();
  if (last?.agentId !== agentId || last.range !== wanted) return true;
  const restMs = Math.min(longestRestMs, Math.max(shortestRestMs, last.answer.resolution_s * 300));
  return serverNowMs.peek() - Date.parse(last.answer.now) >= restMs;
}

/** @param {{ onChosen: () => void }} props */
export function RangeChoice({ onChosen }) {
  return html`<div class="segments" role="group" aria-label="Range">
    ${ranges.map(
      (one) => html`<button
        type="button"
        key=${one.name}
        class="segment"
        aria-pressed=${range.value === one}
        onClick=${() => {
          range.value = one;
          onChosen();
        }}
      >
        ${one.name}
      </button>`,
    )}
  </div>`;
}

/** What a point of a longer range stands for, and what is missing in it. */
export function HistoryNote() {
  if (range.value === liveRange) return null;
  const answer = current.value;
  if (!answer) return html`<p class="quiet small-note" role="status">The ${range.value.text} is not loaded yet.</p>`;
  const points = answer.points;
  if (points.length === 0) return html`<p class="quiet small-note">Nothing was reported in the ${range.value.text}.</p>`;
  const step = ageText(answer.resolution_s * 1000);
  return html`<p class="quiet small-note">
    One point is ${step}: the line is the mean, the band lowest to highest. ${arrivedText(points)}${restartText(points)}
  </p>`;
}

/** @param {Shapes.HistoryPoint[]} points */
function arrivedText(points) {
  const came = points.reduce((sum, point) => sum + Math.min(point.count, point.expected), 0);
  const expected = points.reduce((sum, point) => sum + point.expected, 0);
  if (came >= expected) return "While it was on, every report came.";
  return `While it was on, ${((100 * came) / expected).toFixed(1)} % of the reports came.`;
}

/** @param {Shapes.HistoryPoint[]} points */
function restartText(points) {
  const restarts = points.reduce((sum, point) => sum + point.restarts, 0);
  return restarts > 0 ? ` ${counted(restarts, "restart")} of the PC or its agent, marked.` : "";
}

/** @param {Shapes.HistoryPage} answer */
function chartOf(answer) {
  const stepMs = answer.resolution_s * 1000;
  const toMs = Date.parse(answer.to);
  const isRaw = answer.resolution_s === 10;
  const at = (/** @type {Shapes.HistoryPoint} */ point) =>
    isRaw ? Date.parse(point.ts) : Math.min(toMs, Date.parse(point.ts) + stepMs / 2);
  const column = (/** @type {(point: Shapes.HistoryPoint) => Shapes.Spread | null} */ pick) =>
    answer.points.flatMap((point) => pointOf(at(point), pick(point)));
  return {
    fromMs: toMs - range.value.durationMs,
    toMs,
    longestStepMs: isRaw ? 2.5 * stepMs : 1.5 * stepMs,
    shares: {
      cpu_percent: column((point) => point.cpu_percent),
      mem_percent: column((point) => point.mem_percent),
      disk_percent: column((point) => point.disk_percent),
    },
    received: column((point) => point.recv_bytes_per_s),
    sent: column((point) => point.sent_bytes_per_s),
    restarts: answer.points.filter((point) => point.restarts > 0).map(at),
  };
}

/** @param {number} atMs @param {Shapes.Spread | null} spread @returns {Point[]} */
function pointOf(atMs, spread) {
  if (!spread || !isNumber(spread.mean) || Number.isNaN(atMs)) return [];
  return [{ atMs, value: spread.mean, low: spread.min ?? spread.mean, high: spread.max }];
}
