/**
 * Wires the page: who is looking, what is fetched when, and what is remembered.
 * It refuses to draw or to know a rule: each noun under `ui/` has its own file.
 */
import { effect, html, render } from "./vendor/preact-htm-signals.js";
import { agentsPage, chooseAgent, refreshAgents, selectedId } from "./ui/agents.js";
import { ApiError, ConnectionLost, fetchConfig, fetchSession, onSessionLost } from "./ui/api.js";
import { commands, filterKey, refreshCommands, restoreCommands } from "./ui/commands.js";
import { forgetBreakGlass, refreshBreakGlass } from "./ui/breakglass.js";
import { closeControlDialog } from "./ui/controls.js";
import { Page } from "./ui/dashboard.js";
import { forgetEnrolments } from "./ui/enrolments.js";
import { openIncidents, refreshIncidents, restoreIncidents } from "./ui/incidents.js";
import { forgetKeys } from "./ui/keys.js";
import { connectionState, lastDataMs, startLive, stopLive } from "./ui/live.js";
import { logLines, refreshLogs, restoreLogs } from "./ui/logs.js";
import { refreshMetrics, restoreSamples, samples } from "./ui/metrics.js";
import { forgetOrphans, refreshOrphans } from "./ui/orphans.js";
import { forgetPeople } from "./ui/people.js";
import { place } from "./ui/places.js";
import { forgetPolicies } from "./ui/policies.js";
import { forgetProof } from "./ui/proofs.js";
import { config, logOut, onEntered, operator, takeLink, view } from "./ui/session.js";
import { clearSnapshot, loadSnapshot, saveSnapshot } from "./ui/snapshots.js";
import { closeTimelines, refreshTimelines } from "./ui/timelines.js";
import { serverNowMs, startTicking } from "./ui/times.js";
import { dismissAllToasts, dismissToast, showToast } from "./ui/toasts.js";
import { forgetTokens } from "./ui/tokens.js";
import { forgetTrustChanges, refreshTrustChanges } from "./ui/trustchanges.js";
import { registerWorker } from "./ui/workers.js";
import { forgetSessions } from "./ui/yourself.js";

/** @import * as Shapes from "./ui/shapes.js" */

let isSessionKnown = false;
/** How often the page forgot its session: an answer to a question from before is about somebody who left. */
let forgettings = 0;

/**
 * Asks who we are, once, and again after the server was away: it may be another one now.
 * @returns {Promise<boolean>} false when the page forgot its session meanwhile
 */
async function learnSession() {
  if (isSessionKnown) return true;
  const forgettingsBefore = forgettings;
  config.value = await fetchConfig();
  const found = await fetchSession();
  if (forgettings !== forgettingsBefore) return false;
  operator.value = found;
  isSessionKnown = true;
  view.value = "dashboard";
  return true;
}

/** @param {Shapes.Change} change */
async function refreshTopics(change) {
  try {
    if (!(await learnSession())) return;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return;
    throw error;
  }
  const outcomes = await Promise.allSettled(wantedLoads(change));
  const failures = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
  const lost = failures.find((reason) => reason instanceof ConnectionLost);
  if (lost) throw lost;
  tellRefusals(failures);
  saveSnapshot(takeSnapshot);
}

/** @param {Shapes.Change} change */
function wantedLoads(change) {
  const { topics } = change;
  const loads = pcLoads(change);
  if (topics.includes("commands")) loads.push(refreshCommands(), refreshTimelines(), refreshOrphans());
  if (topics.includes("incidents")) loads.push(refreshIncidents(), refreshBreakGlass());
  if (topics.includes("trust_changes") && place.peek() === "access") loads.push(refreshTrustChanges());
  return loads;
}

/** @param {Shapes.Change} change */
function pcLoads({ topics, agent_ids: agentIds }) {
  const chosen = selectedId.peek();
  const isAboutChosen = agentIds.length === 0 || (chosen !== null && agentIds.includes(chosen));
  const loads = [];
  if (topics.includes("agents")) loads.push(refreshAgents());
  if (topics.includes("agents") && isAboutChosen) loads.push(refreshMetrics());
  if (topics.includes("logs") && isAboutChosen) loads.push(refreshLogs());
  if (topics.includes("logs") && !topics.includes("agents")) loads.push(refreshAgents());
  return loads;
}

/** @param {unknown[]} failures */
function tellRefusals(failures) {
  const refusal = failures.find((reason) => !(reason instanceof ApiError && reason.status === 401));
  if (!refusal) return dismissToast("refresh");
  const text = refusal instanceof Error ? refusal.message : String(refusal);
  showToast({ key: "refresh", tone: "bad", title: "Something could not be refreshed", text, count: 1 });
}

/** @returns {Shapes.Snapshot | null} */
function takeSnapshot() {
  const page = agentsPage.peek();
  if (!page || !operator.peek() || !config.peek() || view.peek() !== "dashboard") return null;
  return {
    saved_at_ms: serverNowMs.peek(),
    operator: /** @type {Shapes.Operator} */ (operator.peek()),
    config: /** @type {Shapes.Config} */ (config.peek()),
    agents: page,
    commands: commands.peek(),
    incidents: openIncidents(),
    selected_id: selectedId.peek(),
    samples: samples.peek(),
    logs: logLines.peek(),
  };
}

function showSnapshot() {
  const snapshot = loadSnapshot();
  view.value = "dashboard";
  if (!snapshot) return;
  operator.value = snapshot.operator;
  config.value = snapshot.config;
  agentsPage.value = snapshot.agents;
  chooseAgent(snapshot.selected_id);
  restoreCommands(snapshot.commands);
  restoreIncidents(snapshot.incidents);
  restoreSamples(snapshot.selected_id, snapshot.samples);
  restoreLogs(snapshot.selected_id, snapshot.logs);
  lastDataMs.value = snapshot.saved_at_ms;
}

/** Drops everything that belonged to the session. */
function forget() {
  stopLive();
  clearSnapshot();
  dismissAllToasts();
  closeControlDialog();
  forgettings += 1;
  isSessionKnown = false;
  operator.value = null;
  agentsPage.value = null;
  chooseAgent(null);
  restoreCommands(null);
  closeTimelines();
  forgetOrphans();
  forgetAccess();
  restoreIncidents(null);
  restoreSamples(null, []);
  restoreLogs(null, []);
  lastDataMs.value = null;
  connectionState.value = "connecting";
  view.value = "login";
}

/** Drops what the other half of the page showed. */
function forgetAccess() {
  forgetProof();
  forgetKeys();
  forgetSessions();
  forgetTokens();
  forgetPeople();
  forgetEnrolments();
  forgetPolicies();
  forgetBreakGlass();
  forgetTrustChanges();
  place.value = "dashboard";
}

/** @param {Shapes.ConnectionState} before @param {Shapes.ConnectionState} now */
function tellConnection(before, now) {
  if (now === "offline") {
    isSessionKnown = false;
    if (before !== "connecting") {
      showToast({ key: "connection", tone: "bad", title: "Connection lost", text: "The server does not answer.", count: 1 });
    }
  } else if (before === "offline") {
    showToast({ key: "connection", tone: "good", title: "Connected again", count: 1 });
  }
}

function watchConnection() {
  let before = connectionState.peek();
  effect(() => {
    const now = connectionState.value;
    if (now !== before) tellConnection(before, now);
    before = now;
  });
}

/** Another PC was chosen: its numbers and lines are wanted at once. */
function watchSelection() {
  effect(() => {
    if (selectedId.value === null || !isSessionKnown) return;
    Promise.all([refreshMetrics(), refreshLogs()]).then(
      () => saveSnapshot(takeSnapshot),
      () => {},
    );
  });
}

/** Another filter of the queue: its commands are wanted at once. */
function watchFilter() {
  effect(() => {
    if (filterKey.value !== "" && isSessionKnown) refreshCommands().catch(() => {});
  });
}

async function enter() {
  try {
    if (!(await learnSession())) return;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return;
    showSnapshot();
  }
  startLive(refreshTopics);
}

function start() {
  const link = takeLink();
  startTicking();
  onSessionLost(forget);
  onEntered(() => void enter());
  watchConnection();
  watchSelection();
  watchFilter();
  addEventListener("offline", () => startLive(refreshTopics));
  addEventListener("online", () => startLive(refreshTopics));
  const root = document.getElementById("page");
  if (root) render(html`<${Page} link=${link} onLogOut=${() => void logOut(forget)} />`, root);
  if (link.setup !== null) view.value = "setup";
  else if (link.invitation !== null) view.value = "invitation";
  else void enter();
  void registerWorker();
}

start();
