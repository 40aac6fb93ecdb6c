/**
 * Draws a small line of the last minutes; where nothing was measured there is a gap, never a guess.
 * It refuses to know what the numbers mean.
 */
import { html } from "../vendor/preact-htm-signals.js";
import { isNumber } from "./quantities.js";

// Agents report every 10 s; more than two missed reports is a gap.
const longestReportStepMs = 25_000;
const width = 300;
const height = 56;
const margin = 3;

/** A point of many reports also has the lowest and the highest. @typedef {{ atMs: number, value: number, low?: number, high?: number }} Point */
/** @typedef {{ name: string, points: Point[] }} Line */
/** @typedef {{ fromMs: number, toMs: number, top: number, longestStepMs: number }} Frame */

/**
 * Points of one column; samples without a number leave a gap.
 * @param {{ ts: string }[]} samples
 * @param {string} column
 * @returns {Point[]}
 */
export function pointsOf(samples, column) {
  return samples.flatMap((sample) => {
    const value = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (sample))[column];
    const atMs = Date.parse(sample.ts);
    return isNumber(value) && !Number.isNaN(atMs) ? [{ atMs, value }] : [];
  });
}

/**
 * Rates per second of a counter; a counter that went down was reset by a reboot, which is a gap.
 * @param {Point[]} totals
 * @returns {Point[]}
 */
export function ratesOf(totals) {
  return totals.flatMap((point, index) => {
    const previous = totals[index - 1];
    if (!previous || point.value < previous.value) return [];
    const stepMs = point.atMs - previous.atMs;
    if (stepMs <= 0 || stepMs > longestReportStepMs) return [];
    return [{ atMs: point.atMs, value: ((point.value - previous.value) * 1000) / stepMs }];
  });
}

/**
 * The runs of points without a gap between them.
 * @param {Point[]} points
 * @param {number} longestStepMs
 * @returns {Point[][]}
 */
export function runsOf(points, longestStepMs) {
  /** @type {Point[][]} */
  const runs = [];
  let previousMs = -Infinity;
  for (const point of points) {
    if (point.atMs - previousMs > longestStepMs) runs.push([]);
    runs.at(-1)?.push(point);
    previousMs = point.atMs;
  }
  return runs;
}

/** @param {Point[]} points */
export function peakOf(points) {
  return points.length > 0 ? Math.max(...points.map(highestOf)) : null;
}

/** @param {Point} point */
function highestOf(point) {
  return point.high ?? point.value;
}

/**
 * @param {{ lines: Line[], fromMs: number, toMs: number, top?: number, label: string, longestStepMs?: number, marksMs?: number[] }} props
 */
export function Sparkline({ lines, fromMs, toMs, top, label, longestStepMs = longestReportStepMs, marksMs = [] }) {
  const highest = Math.max(0, ...lines.flatMap((line) => line.points.map(highestOf)));
  const frame = { fromMs, toMs, top: top ?? (highest * 1.15 || 1), longestStepMs };
  return html`<svg
    class="sparkline"
    viewBox=${`0 0 ${width} ${height}`}
    preserveAspectRatio="none"
    role="img"
    aria-label=${label}
  >
    <line class="spark-base" x1="0" x2=${width} y1=${height - 0.5} y2=${height - 0.5} />
    ${lines.map((line, index) => html`<${SparkLine} key=${line.name} line=${line} frame=${frame} index=${index} />`)}
    ${marksMs.length > 0 && html`<path class="spark-mark" d=${marksOf(marksMs, frame)} vector-effect="non-scaling-stroke" />`}
  </svg>`;
}

/** @param {{ line: Line, frame: Frame, index: number }} props */
function SparkLine({ line, frame, index }) {
  const shown = line.points.filter((point) => point.atMs >= frame.fromMs && point.atMs <= frame.toMs);
  const runs = runsOf(shown, frame.longestStepMs);
  const strokes = runs.map((run) => strokeOf(run, frame)).join("");
  const areas = runs.map((run) => (run.some(isBand) ? bandOf(run, frame) : areaOf(run, frame))).join("");
  return html`<g class=${`spark spark-${index}`}>
    ${areas && html`<path class=${shown.some(isBand) ? "spark-band" : "spark-area"} d=${areas} />`}
    ${strokes && html`<path class="spark-line" d=${strokes} vector-effect="non-scaling-stroke" />`}
  </g>`;
}

/** @param {Point} point */
function isBand(point) {
  return point.low !== undefined || point.high !== undefined;
}

/** @param {Point} point @param {Frame} frame @param {number} [value] */
function placeOf(point, frame, value = point.value) {
  const x = ((point.atMs - frame.fromMs) / (frame.toMs - frame.fromMs)) * width;
  const share = Math.min(1, Math.max(0, value / frame.top));
  return { x: x.toFixed(1), y: (height - margin - share * (height - 2 * margin)).toFixed(1) };
}

/** A lone point becomes a dot, which a stroke with round ends draws. @param {Point[]} run @param {Frame} frame */
function strokeOf(run, frame) {
  const places = run.map((point) => placeOf(point, frame));
  const [first, ...others] = places;
  if (!first) return "";
  const steps = others.length > 0 ? others : [first];
  return `M${first.x} ${first.y}${steps.map(({ x, y }) => `L${x} ${y}`).join("")}`;
}

/** @param {Point[]} run @param {Frame} frame */
function areaOf(run, frame) {
  const [first, ...others] = run.map((point) => placeOf(point, frame));
  const last = others.at(-1);
  if (!first || !last) return "";
  const steps = others.map(({ x, y }) => `L${x} ${y}`).join("");
  return `M${first.x} ${height}L${first.x} ${first.y}${steps}L${last.x} ${height}Z`;
}

/** From the highest forwards to the lowest backwards. @param {Point[]} run @param {Frame} frame */
function bandOf(run, frame) {
  const highs = run.map((point) => placeOf(point, frame, highestOf(point)));
  const lows = run.map((point) => placeOf(point, frame, point.low ?? point.value)).reverse();
  return `M${[...highs, ...lows].map(({ x, y }) => `${x} ${y}`).join("L")}Z`;
}

/** @param {number[]} marksMs @param {Frame} frame */
function marksOf(marksMs, frame) {
  return marksMs.map((atMs) => `M${placeOf({ atMs, value: 0 }, frame).x} 0V${height}`).join("");
}
