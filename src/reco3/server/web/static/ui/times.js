/**
 * Knows what time it is on the server, and says how old a thing is.
 * It refuses to trust the browser's clock: ages are counted from the server's `now`.
 */
import { html, signal } from "../vendor/preact-htm-signals.js";

const missing = "–";
let skewMs = 0;

/** The server's time, moved on every second. */
export const serverNowMs = signal(Date.now());

/** @param {string | null | undefined} now */
export function noteServerTime(now) {
  const serverMs = Date.parse(now ?? "");
  if (Number.isNaN(serverMs)) return;
  skewMs = serverMs - Date.now();
  serverNowMs.value = serverMs;
}

export function startTicking() {
  setInterval(() => {
    serverNowMs.value = Date.now() + skewMs;
  }, 1000);
}

/** @param {number} ageMs */
export function ageText(ageMs) {
  const seconds = Math.max(0, Math.floor(ageMs / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}

/** @param {number} durationMs */
export function durationText(durationMs) {
  if (durationMs < 1000) return `${Math.max(0, Math.round(durationMs))} ms`;
  if (durationMs < 60_000) return `${(durationMs / 1000).toFixed(durationMs < 10_000 ? 2 : 1)} s`;
  if (durationMs >= 3_600_000) return ageText(durationMs);
  const seconds = Math.round(durationMs / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

/** @param {number} timeMs */
export function clockText(timeMs) {
  if (!Number.isFinite(timeMs)) return missing;
  const time = new Date(timeMs);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/**
 * The hour and minute until which something holds, with the date when that is not today.
 * @param {string} stamp
 */
export function untilText(stamp) {
  return momentText(stamp).replace(/:\d\d$/u, "");
}

/**
 * The clock for today, the date before it for any other day.
 * @param {string | null | undefined} stamp
 */
export function momentText(stamp) {
  const timeMs = Date.parse(stamp ?? "");
  if (Number.isNaN(timeMs)) return missing;
  const time = new Date(timeMs);
  const isToday = time.toDateString() === new Date(serverNowMs.peek()).toDateString();
  if (isToday) return clockText(timeMs);
  const month = time.toLocaleString("en", { month: "short" });
  return `${time.getDate()} ${month} ${clockText(timeMs)}`;
}

/**
 * An age that ticks, with the exact time as its title.
 * @param {{ stamp: string | null | undefined, suffix?: string }} props
 */
export function Age({ stamp, suffix = " ago" }) {
  const timeMs = Date.parse(stamp ?? "");
  if (Number.isNaN(timeMs)) return html`<span class="quiet">never</span>`;
  const iso = new Date(timeMs).toISOString();
  return html`<time class="age" datetime=${iso} title=${iso}>${ageText(serverNowMs.value - timeMs)}${suffix}</time>`;
}

/**
 * What is left until a moment, ticking; past it, that it is due.
 * @param {{ stamp: string }} props
 */
export function Remaining({ stamp }) {
  const leftMs = Date.parse(stamp) - serverNowMs.value;
  if (Number.isNaN(leftMs)) return missing;
  return html`<time class="remaining" datetime=${stamp} title=${stamp}>${leftMs <= 0 ? "any moment" : `in ${remainingText(leftMs)}`}</time>`;
}

/** Minutes with their seconds below ten, so that it can be seen to run. @param {number} leftMs */
export function remainingText(leftMs) {
  const seconds = Math.ceil(leftMs / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
  return ageText(leftMs);
}

/**
 * A moment, with the exact time as its title.
 * @param {{ stamp: string | null | undefined }} props
 */
export function Moment({ stamp }) {
  const timeMs = Date.parse(stamp ?? "");
  if (Number.isNaN(timeMs)) return html`<span class="quiet">${missing}</span>`;
  const iso = new Date(timeMs).toISOString();
  return html`<time class="moment" datetime=${iso} title=${iso}>${momentText(stamp)}</time>`;
}
