/**
 * Sends commands to the selected PC, and names it wherever a click could hit the wrong one.
 * It refuses to send a strong command without a dialog.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { AgentStatus, findAgent, selectedAgent } from "./agents.js";
import { createCommand } from "./api.js";
import { followCommand, refreshCommands } from "./commands.js";
import { ConfirmDialog, ReasonField, useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { canRequest } from "./roles.js";
import { config } from "./session.js";
import { oneLine, shortLine } from "./texts.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

/** @typedef {{ value: string, text: string }} Choice */
/** @typedef {Record<string, string>} Draft */

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} label
 * @property {"text" | "number" | "choice" | "lines"} kind
 * @property {(agent: Shapes.Agent) => string} initial
 * @property {(agent: Shapes.Agent) => Choice[]} [choices]
 */

/**
 * @typedef {object} Action
 * @property {string} label
 * @property {Shapes.CommandType} type
 * @property {Field[]} [fields] what to ask first; without fields and question the click sends
 * @property {string} [question]
 * @property {boolean} [isStrong]
 * @property {(draft: Draft) => Shapes.Payload} payload
 * @property {(draft: Draft) => string} verb
 * @property {(agent: Shapes.Agent) => string | null} [obstacle] why it cannot be asked of this PC
 */

/** @type {Field} */
const processField = {
  name: "process",
  label: "Watched process",
  kind: "choice",
  initial: (agent) => (restartable(agent) ?? processesOf(agent)[0])?.name ?? "",
  choices: (agent) => processesOf(agent).map((process) => ({ value: process.name, text: processText(process) })),
};

/** @type {Action[]} */
const testActions = [
  modeAction("SAFE"),
  modeAction("NORMAL"),
  {
    label: "Rate Limit",
    type: "SET_RATE_LIMIT",
    fields: [
      { name: "endpoint", label: "Endpoint", kind: "text", initial: () => "/api" },
      { name: "limit_rps", label: "Requests per second", kind: "number", initial: () => "50" },
    ],
    payload: (draft) => ({ endpoint: draft["endpoint"], limit_rps: Number(draft["limit_rps"]) }),
    verb: (draft) => `Limit ${shortLine(draft["endpoint"], 30)} to ${shortLine(draft["limit_rps"], 10)}/s`,
  },
  processAction("RESTART (approval required)", "RESTART_PROCESS", "Ask to restart"),
  {
    label: "ROLLBACK (approval required)",
    type: "ROLLBACK",
    isStrong: true,
    fields: [
      {
        name: "process",
        label: "What to undo",
        kind: "choice",
        initial: () => "",
        choices: (agent) => [
          { value: "", text: "The last change RECO3 made on this PC" },
          ...processesOf(agent).map(({ name }) => ({ value: name, text: `The configured rollback of ${oneLine(name)}` })),
        ],
      },
    ],
    payload: (draft) => (draft["process"] ? { process: draft["process"] } : {}),
    verb: (draft) => (draft["process"] ? `Ask to roll back ${shortLine(draft["process"], 30)}` : "Ask to undo the last change"),
  },
];

/** @type {Action[]} */
const furtherActions = [
  processAction("STOP (approval required)", "STOP_PROCESS", "Ask to stop"),
  {
    label: "Notify Ops",
    type: "NOTIFY_OPS",
    fields: [
      {
        name: "severity",
        label: "Severity",
        kind: "choice",
        initial: () => "INFO",
        choices: () => ["INFO", "WARN", "ERROR", "CRITICAL"].map((value) => ({ value, text: value })),
      },
      { name: "message", label: "Message", kind: "lines", initial: () => "" },
    ],
    payload: (draft) => ({ severity: draft["severity"], message: draft["message"] }),
    verb: () => "Notify operations",
  },
  {
    ...modeAction("LOCKED"),
    question: "In LOCKED mode the PC only reports and takes no command. It is left on the PC itself alone, with: reco3 agent mode NORMAL CONFIG. The PC refuses LOCKED unless its control.safe_modes lists it.",
  },
];

/** @param {Shapes.Mode} mode @returns {Action} */
function modeAction(mode) {
  return { label: `${mode} Mode`, type: "SET_MODE", payload: () => ({ mode }), verb: () => `Set mode ${mode}` };
}

/** @param {string} label @param {Shapes.CommandType} type @param {string} verb @returns {Action} */
function processAction(label, type, verb) {
  return {
    label,
    type,
    isStrong: true,
    fields: [processField],
    payload: (draft) => ({ process: draft["process"] }),
    verb: (draft) => `${verb} ${shortLine(draft["process"], 30)}`,
    obstacle: (agent) => (processesOf(agent).length > 0 ? null : "This PC watches no process. Add one to watch.processes in its config."),
  };
}

/** @param {Shapes.Agent} agent */
function processesOf(agent) {
  return agent.metrics?.processes ?? [];
}

/** @param {Shapes.Agent} agent */
function restartable(agent) {
  return processesOf(agent).find((process) => process.allow_restart);
}

/** @param {Shapes.WatchedProcess} process */
function processText(process) {
  const state = process.running ? `running, pid ${process.pid ?? "unknown"}` : "not running";
  return `${oneLine(process.name)} (${state}${process.allow_restart === false ? ", allow_restart is false" : ""})`;
}

/** The action being asked about, with the PC it was opened for: a later selection does not change it. */
const opened = signal(/** @type {{ action: Action, agentId: string } | null} */ (null));

export function ControlsSection() {
  const isTestMode = config.value?.test_mode ?? false;
  const heading = isTestMode ? "Test Controls" : "Send a command";
  return html`<section class="panel controls" aria-labelledby="controls-heading">
    <header class="panel-head"><h2 id="controls-heading">${heading}</h2></header>
    <${ControlsBody} isTestMode=${isTestMode} />
  </section>`;
}

/** @param {{ isTestMode: boolean }} props */
function ControlsBody({ isTestMode }) {
  const agent = selectedAgent.value;
  if (!agent) return html`<p class="empty">Commands can be sent once a PC is there.</p>`;
  if (!canRequest.value) return html`<p class="empty">Your role looks on; an operator sends commands.</p>`;
  const main = isTestMode ? testActions : [...testActions, ...furtherActions];
  return html`<p class="target">
      <span>To</span> <strong><bdi>${oneLine(agent.agent_id)}</bdi></strong> <${AgentStatus} status=${agent.status} />
    </p>
    <div class="button-row">${main.map((action) => html`<${ActionButton} key=${action.label} action=${action} agent=${agent} />`)}</div>
    ${isTestMode &&
    html`<details class="further">
      <summary>More commands</summary>
      <div class="button-row">
        ${furtherActions.map((action) => html`<${ActionButton} key=${action.label} action=${action} agent=${agent} />`)}
      </div>
    </details>`}`;
}

/** @param {{ action: Action, agent: Shapes.Agent }} props */
function ActionButton({ action, agent }) {
  const start = () => {
    if (action.fields || action.question) opened.value = { action, agentId: agent.agent_id };
    else void sendNow(action, agent.agent_id);
  };
  return html`<button
    type="button"
    class=${`button ${action.isStrong ? "strong" : ""}`}
    disabled=${!canAct.value}
    title=${`${action.type} on ${oneLine(agent.agent_id)}`}
    onClick=${start}
  >
    ${action.label}
  </button>`;
}

/** @param {Action} action @param {string} agentId */
async function sendNow(action, agentId) {
  try {
    await send(action, agentId, {});
  } catch (error) {
    const title = `${action.type} was not sent to ${shortLine(agentId, 40)}`;
    showToast({ key: "send", tone: "bad", title, text: error instanceof Error ? error.message : String(error) });
  }
}

/** @param {Action} action @param {string} agentId @param {Draft} draft */
async function send(action, agentId, { reason: written = "", ...draft }) {
  const reason = written.trim();
  const command = { agent_id: agentId, type: action.type, payload: action.payload(draft) };
  const { id } = await createCommand(reason ? { ...command, reason } : command);
  followCommand(id);
  const title = `${action.type} on ${shortLine(agentId, 40)} sent`;
  showToast({ key: `command:${id}`, tone: "plain", title, text: "Waiting for the PC…", count: 1 });
  refreshCommands().catch(() => {});
}

/** The dialog of the action being asked about. */
export function ControlDialog() {
  if (!opened.value) return null;
  const { action, agentId } = opened.value;
  const agent = findAgent(agentId);
  return agent && html`<${ActionQuestion} key=${`${action.label}@${agentId}`} action=${action} agent=${agent} />`;
}

export function closeControlDialog() {
  opened.value = null;
}

/** @param {{ action: Action, agent: Shapes.Agent }} props */
function ActionQuestion({ action, agent }) {
  const [draft, setDraft] = useState(() => initialDraft(action, agent));
  const obstacle = action.obstacle?.(agent) ?? null;
  const { busy, problem, confirm } = useSending(() => send(action, agent.agent_id, draft), closeControlDialog);
  return html`<${ConfirmDialog}
    title=${action.label}
    confirmLabel=${`${action.verb(draft)} on ${shortLine(agent.agent_id, 40)}`}
    tone=${action.isStrong && config.value?.require_approval === false ? "danger" : "primary"}
    busy=${busy}
    blocked=${!canAct.value || obstacle !== null}
    problem=${problem}
    onConfirm=${confirm}
    onCancel=${closeControlDialog}
  >
    <${QuestionBody} action=${action} agent=${agent} obstacle=${obstacle} draft=${draft} setDraft=${setDraft} />
  </${ConfirmDialog}>`;
}

/** @param {Action} action @param {Shapes.Agent} agent @returns {Draft} */
function initialDraft(action, agent) {
  return Object.fromEntries((action.fields ?? []).map((field) => [field.name, field.initial(agent)]));
}

/**
 * @param {{ action: Action, agent: Shapes.Agent, obstacle: string | null, draft: Draft,
 *   setDraft: (change: (before: Draft) => Draft) => void }} props
 */
function QuestionBody({ action, agent, obstacle, draft, setDraft }) {
  return html`<p class="target">
      <span>On</span> <strong><bdi>${oneLine(agent.agent_id)}</bdi></strong> <${AgentStatus} status=${agent.status} />
    </p>
    ${action.question && html`<p>${action.question}</p>`}
    ${obstacle && html`<p class="note" data-tone="warn">${obstacle}</p>`}
    ${!obstacle &&
    action.fields?.map(
      (field) => html`<${FieldInput}
        key=${field.name}
        field=${field}
        agent=${agent}
        value=${draft[field.name] ?? ""}
        onValue=${(/** @type {string} */ value) => setDraft((before) => ({ ...before, [field.name]: value }))}
      />`,
    )}
    ${!obstacle &&
    html`<${ReasonField}
      label="Reason (optional, shown to whoever approves and kept)"
      value=${draft["reason"] ?? ""}
      onValue=${(/** @type {string} */ reason) => setDraft((before) => ({ ...before, reason }))}
    />`}
    ${action.isStrong && html`<p class="quiet">${approvalText()}</p>`}
    ${action.type !== "SET_MODE" &&
    action.type !== "NOTIFY_OPS" &&
    agent.apply_enabled === false &&
    html`<p class="note" data-tone="warn">apply_enabled is false on this PC: it will refuse this command.</p>`}`;
}

function approvalText() {
  return config.value?.require_approval === false
    ? "Approval is switched off on this server: the PC gets the command at once."
    : "Nothing runs yet: the command waits in the queue until somebody approves it.";
}

/** @param {{ field: Field, agent: Shapes.Agent, value: string, onValue: (value: string) => void }} props */
function FieldInput({ field, agent, value, onValue }) {
  /** @param {{ currentTarget: HTMLInputElement }} event */
  const take = ({ currentTarget }) => onValue(currentTarget.value);
  return html`<label class="field">
    <span>${field.label}</span>
    ${field.kind === "choice" &&
    html`<select class="input" value=${value} onChange=${take}>
      ${(field.choices?.(agent) ?? []).map((choice) => html`<option key=${choice.value} value=${choice.value}>${choice.text}</option>`)}
    </select>`}
    ${field.kind === "lines" && html`<textarea class="input" rows="3" maxlength="2000" required value=${value} onInput=${take}></textarea>`}
    ${field.kind === "text" && html`<input class="input" type="text" maxlength="256" required value=${value} onInput=${take} />`}
    ${field.kind === "number" && html`<input class="input" type="number" min="1" max="1000000" step="1" required value=${value} onInput=${take} />`}
  </label>`;
}
