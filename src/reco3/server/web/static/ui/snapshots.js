/**
 * Keeps the last known state in this browser, for the day the server does not answer.
 * It refuses to keep it beyond the session: logging out or losing the session forgets it.
 */

/** @import * as Shapes from "./shapes.js" */

const storageKey = "reco3-last-known-state-1";
const shortestGapMs = 1_500;
const keptAgents = 100;
const keptRows = 50;
/** @type {number | undefined} */
let timer;

/**
 * Saves soon, once for many wishes.
 * @param {() => Shapes.Snapshot | null} take called when it is time to save
 */
export function saveSnapshot(take) {
  timer ??= setTimeout(() => {
    timer = undefined;
    const snapshot = take();
    if (snapshot) write(trimmed(snapshot));
  }, shortestGapMs);
}

export function clearSnapshot() {
  clearTimeout(timer);
  timer = undefined;
  try {
    localStorage.removeItem(storageKey);
  } catch {
    // Nothing was kept where nothing can be kept.
  }
}

/** @returns {Shapes.Snapshot | null} */
export function loadSnapshot() {
  try {
    const snapshot = JSON.parse(localStorage.getItem(storageKey) ?? "null");
    return Array.isArray(snapshot?.agents?.agents) && snapshot.operator && snapshot.config ? snapshot : null;
  } catch {
    return null;
  }
}

/** @param {Shapes.Snapshot} snapshot @returns {Shapes.Snapshot} */
function trimmed(snapshot) {
  return {
    ...snapshot,
    agents: { ...snapshot.agents, agents: keptOf(snapshot).map(withoutDuplicate), next_cursor: null },
    commands: snapshot.commands.slice(0, keptRows),
    incidents: snapshot.incidents.slice(0, keptRows),
    logs: snapshot.logs.slice(0, keptRows),
  };
}

/** The first PCs, and the selected one wherever it stands. @param {Shapes.Snapshot} snapshot */
function keptOf({ agents: { agents }, selected_id: selectedId }) {
  return agents.filter((agent, index) => index < keptAgents || agent.agent_id === selectedId);
}

/** `payload_json` says the metrics a second time. @param {Shapes.Agent} agent @returns {Shapes.Agent} */
function withoutDuplicate(agent) {
  return { ...agent, ...{ payload_json: undefined } };
}

/** @param {Shapes.Snapshot} snapshot */
function write(snapshot) {
  try {
    localStorage.setItem(storageKey, JSON.stringify(snapshot));
  } catch {
    // Too large, or not allowed: an old state is worse than none.
    clearSnapshot();
  }
}
