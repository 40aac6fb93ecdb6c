/**
 * What a person must have in sight before deciding about a command.
 * It refuses to decide or to send.
 */
import { html } from "../vendor/preact-htm-signals.js";
import { findAgent } from "./agents.js";
import { payloadText } from "./catalogue.js";
import { refreshCommands, toastKey } from "./commands.js";
import { actorName, expectText } from "./outcomes.js";
import { oneLine } from "./texts.js";
import { refreshTimelines } from "./timelines.js";
import { Age, Moment, Remaining, momentText } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

/** @param {Shapes.Command} command @param {string} title @param {string} text */
export function tellSent(command, title, text) {
  showToast({ key: toastKey(command), tone: "plain", title, text, count: 1 });
  refreshCommands().catch(() => {});
  refreshTimelines().catch(() => {});
}

/** Why there is nothing left to decide. @param {Shapes.Command} command */
export function endedText({ status, cancel_requested_at: cancelAskedAt }) {
  if (status === "pending") return "This command is approved already.";
  return cancelAskedAt && status === "delivered" ? "Cancelling it was requested already." : `This command is ${status} already.`;
}

/** The process that the page shows, as the server compares it. @param {Shapes.Command} command @returns {Shapes.Expectation | null} */
export function shownProcess(command) {
  const name = command.payload?.["process"];
  const process = findAgent(command.agent_id)?.metrics?.processes?.find((one) => one.name === name);
  if (!process) return null;
  return process.running
    ? { pid: process.pid ?? null, create_time_ms: process.create_time_ms ?? null }
    : { pid: null, create_time_ms: null };
}

/** The command as the server's list has it. @param {{ command: Shapes.Command }} props */
export function CommandFactList({ command }) {
  const hostname = findAgent(command.agent_id)?.metrics?.hostname;
  return html`<dl class="dialog-facts">
    <dt>PC</dt>
    <dd><bdi>${oneLine(command.agent_id)}</bdi>${hostname && html` <span class="quiet"><bdi>${oneLine(hostname)}</bdi></span>`}</dd>
    <dt>Command</dt>
    <dd><bdi>${oneLine(command.type)}</bdi> <span class="tag strength" data-strength=${command.strength}>${oneLine(command.strength)}</span></dd>
    <dt>Payload</dt>
    <dd><code class="payload">${payloadText(command.payload)}</code></dd>
    <dt>Asked by</dt>
    <dd><bdi>${oneLine(actorName(command.created_by))}</bdi></dd>
    <dt>Reason</dt>
    <dd>${command.reason ? html`<bdi>${oneLine(command.reason)}</bdi>` : html`<span class="quiet">none given</span>`}</dd>
    <dt>Asked at</dt>
    <dd><${Moment} stamp=${command.ts} />, <${Age} stamp=${command.ts} /></dd>
    ${command.expires_at &&
    command.status === "pending" &&
    html`<dt>Expires</dt>
      <dd><${Remaining} stamp=${command.expires_at} />, at ${momentText(command.expires_at)}</dd>`}
    <dt>Id</dt>
    <dd><code>${oneLine(command.id)}</code></dd>
  </dl>`;
}

/**
 * The command as its bytes say it, and nothing that is not in them but the PC's host name.
 * @param {{ fields: Shapes.EnvelopeFields }} props
 */
export function EnvelopeFactList({ fields }) {
  const hostname = findAgent(fields.agent_id)?.metrics?.hostname;
  const [askedAt, expiresAt] = [fields.created_at, fields.expires_at].map((seconds) => new Date(seconds * 1000).toISOString());
  return html`<dl class="dialog-facts">
    <dt>PC</dt>
    <dd><strong><bdi>${oneLine(fields.agent_id)}</bdi></strong>${hostname && html` <span class="quiet"><bdi>${oneLine(hostname)}</bdi></span>`}</dd>
    <dt>Action</dt>
    <dd><bdi>${oneLine(fields.type)}</bdi> <code class="payload">${payloadText(fields.payload)}</code></dd>
    ${fields.expect &&
    html`<dt>Process</dt>
      <dd><bdi>${expectText(fields.expect)}</bdi> <span class="quiet">or the PC refuses</span></dd>`}
    <dt>Asked by</dt>
    <dd><bdi>${oneLine(actorName(fields.requested_by))}</bdi> at ${momentText(askedAt)}, <${Age} stamp=${askedAt} /></dd>
    <dt>Reason</dt>
    <dd>${fields.reason ? html`<bdi>${oneLine(fields.reason)}</bdi>` : html`<span class="quiet">none given</span>`}</dd>
    <dt>Valid until</dt>
    <dd>${momentText(expiresAt)}, <${Remaining} stamp=${expiresAt} /></dd>
    <dt>Command id</dt>
    <dd><code>${oneLine(fields.command_id)}</code></dd>
  </dl>`;
}

/** What the process is like now; the server records it with the approval. @param {{ command: Shapes.Command }} props */
export function ExpectationNote({ command }) {
  const name = command.payload?.["process"];
  const metrics = findAgent(command.agent_id)?.metrics;
  if (typeof name !== "string" || !metrics) return null;
  const process = metrics.processes?.find((one) => one.name === name);
  if (!process) return html`<p class="note" data-tone="warn">The PC does not report <bdi>${oneLine(name)}</bdi>, so it cannot be said what it is doing now.</p>`;
  const state = process.running ? html`runs now as <strong>${expectText(process)}</strong>` : html`is <strong>not running</strong> now`;
  return html`<p class="note expectation"><bdi>${oneLine(name)}</bdi> ${state}. ${metrics.journal ? "The command is refused if it changes before the command arrives." : "An older agent runs on this PC: it does not check that this is still so."}</p>`;
}

/** Why the PC may refuse in spite of the approval. @param {Shapes.Command} command */
export function warningsOf({ agent_id: agentId }) {
  const agent = findAgent(agentId);
  if (!agent) return [];
  const warnings = [];
  if (agent.status === "OFFLINE") warnings.push("This PC is OFFLINE: the command runs when it is back, unless it expires before.");
  if (agent.apply_enabled === false) warnings.push("apply_enabled is false on this PC: it will refuse the command.");
  if (agent.mode === "SAFE" || agent.mode === "LOCKED") warnings.push(`This PC is in ${agent.mode} mode: it will refuse strong commands.`);
  return warnings;
}
