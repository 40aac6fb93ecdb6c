/**
 * Hears from the server what changed, and asks every five seconds when it hears nothing.
 * It refuses to fetch rows itself: it names the topics and whoever shows them refreshes.
 */
import { computed, html, signal } from "../vendor/preact-htm-signals.js";
import { ConnectionLost } from "./api.js";
import { ageText, clockText, serverNowMs } from "./times.js";

/** @import * as Shapes from "./shapes.js" */

const pollPeriodMs = 5_000;
// A stream can hang without an error, so even a live page looks now and then.
const livePeriodMs = 30_000;
const longestRetryMs = 30_000;

/** @type {Shapes.Change} */
const everything = { topics: ["agents", "commands", "logs", "incidents"], agent_ids: [] };

export const connectionState = signal(/** @type {Shapes.ConnectionState} */ ("connecting"));
/** When the server last answered, by the server's clock. */
export const lastDataMs = signal(/** @type {number | null} */ (null));
/** Whether a command sent now can reach the server. */
export const canAct = computed(() => connectionState.value === "live" || connectionState.value === "polling");

/** @type {EventSource | null} */
let stream = null;
/** @type {number | undefined} */
let pollTimer;
/** @type {number | undefined} */
let retryTimer;
let retryMs = pollPeriodMs;
/** How often listening was ended: a look that is still waiting for its answer then plans no other. */
let endings = 0;
/** @type {(change: Shapes.Change) => Promise<void>} */
let refresh = async () => {};

/**
 * Starts listening; `refreshTopics` is called for every change and must reject when the server does not answer.
 * @param {(change: Shapes.Change) => Promise<void>} refreshTopics
 */
export function startLive(refreshTopics) {
  stopLive();
  refresh = refreshTopics;
  openStream();
  void look();
}

export function stopLive() {
  endings += 1;
  stream?.close();
  stream = null;
  clearTimeout(pollTimer);
  clearTimeout(retryTimer);
  retryMs = pollPeriodMs;
}

/** Refreshes everything now, after a person's action for instance. */
export function lookNow() {
  return tell(everything);
}

function openStream() {
  const opened = new EventSource("/api/live");
  stream = opened;
  opened.addEventListener("hello", () => {
    retryMs = pollPeriodMs;
    connectionState.value = "live";
    void tell(everything);
  });
  opened.addEventListener("changed", (event) => void tell(changeOf(event.data)));
  opened.addEventListener("error", () => {
    if (stream === opened) loseStream();
  });
}

function loseStream() {
  stream?.close();
  stream = null;
  if (connectionState.value === "live") connectionState.value = "polling";
  clearTimeout(retryTimer);
  retryTimer = setTimeout(openStream, retryMs * (0.75 + Math.random() / 2));
  retryMs = Math.min(retryMs * 2, longestRetryMs);
  void look();
}

/** One look at everything, and the next one planned. */
async function look() {
  const endingsBefore = endings;
  clearTimeout(pollTimer);
  const isHeard = await tell(everything);
  if (endings !== endingsBefore) return;
  clearTimeout(pollTimer);
  pollTimer = setTimeout(look, connectionState.value === "live" && isHeard ? livePeriodMs : pollPeriodMs);
}

/**
 * @param {Shapes.Change} change
 * @returns {Promise<boolean>} whether the server answered
 */
async function tell(change) {
  const endingsBefore = endings;
  try {
    await refresh(change);
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    if (endings !== endingsBefore) return false;
    connectionState.value = "offline";
    return false;
  }
  if (endings !== endingsBefore) return true;
  lastDataMs.value = serverNowMs.peek();
  if (connectionState.value !== "live") connectionState.value = stream?.readyState === EventSource.OPEN ? "live" : "polling";
  return true;
}

/**
 * @param {unknown} text
 * @returns {Shapes.Change}
 */
function changeOf(text) {
  try {
    const change = JSON.parse(String(text));
    if (!Array.isArray(change.topics)) return everything;
    return { topics: change.topics, agent_ids: Array.isArray(change.agent_ids) ? change.agent_ids : [] };
  } catch {
    return everything;
  }
}

/** What the connection is like, in words. */
export const connectionText = computed(() => {
  const state = connectionState.value;
  if (state === "live") return "Live";
  if (state === "polling") return "Polling";
  if (state === "connecting") return "Connecting";
  if (lastDataMs.value === null) return "Offline, no data yet";
  return `Offline, last data ${clockText(lastDataMs.value)}, ${ageText(serverNowMs.value - lastDataMs.value)} old`;
});

const explanations = {
  connecting: "Asking the server for the first time.",
  live: "The server tells this page at once when something changes.",
  polling: "The live stream is interrupted; this page asks every 5 seconds.",
  offline: "The server does not answer. What you see is the last known state.",
};

export function ConnectionPill() {
  const state = connectionState.value;
  return html`<span class="pill connection" data-state=${state} title=${explanations[state]} role="status">
    <span class="pill-mark" aria-hidden="true"></span>
    <span class="connection-text">${state === "offline" ? "Offline" : connectionText.value}</span>
  </span>`;
}

/** A line across the page that cannot be overlooked while what it shows is old. */
export function OfflineBanner() {
  if (connectionState.value !== "offline") return null;
  return html`<p class="offline-banner">
    <strong>${connectionText.value}.</strong> This is the last known state. Commands are disabled until the server
    answers.
  </p>`;
}
