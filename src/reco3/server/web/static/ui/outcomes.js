/**
 * What has become of a command, in words a person decides by.
 * It refuses to guess: what nobody knows is called unknown.
 */
import { isNumber } from "./quantities.js";
import { oneLine, shortLine } from "./texts.js";
import { durationText, momentText } from "./times.js";

/** @import * as Shapes from "./shapes.js" */

const badStatuses = new Set(["failed", "rejected", "expired", "unknown"]);
export const unfinished = new Set(["pending", "delivered", "running"]);
/** A person at a passkey takes longer than that; a signature alone does not. */
const askingFromMs = 300;
export const unknownSentence = "We do not know whether it ran.";

/** Whether a person has to say yes before anything happens. @param {Shapes.Command} command */
export function isWaiting({ status, needs_approval: isNeeded, approved }) {
  return status === "pending" && isNeeded && !approved;
}

/** The human yeses so far. @param {Shapes.Command} command */
export function approvalsOf({ approvals, approval }) {
  return approvals?.length ? approvals : approval ? [approval] : [];
}

/** @param {Shapes.Command} command @param {string} me */
export function hasApproved(command, me) {
  return approvalsOf(command).some(({ approved_by: who }) => actorName(who) === me);
}

/** Whether somebody else than the one who looks must approve, because he asked himself. @param {Shapes.Command} command @param {string} me */
export function isFourEyes({ four_eyes: isOn, created_by: asker }, me) {
  return isOn === true && actorName(asker) === me;
}

/** How many yeses there are, and whose is missing. @param {Shapes.Command} command @param {string} me */
export function progressText(command, me) {
  const required = command.approvals_required ?? 1;
  const given = approvalsOf(command).length;
  const missing = Math.max(1, required - given);
  const isMine = hasApproved(command, me);
  const notYou = isMine ? ", not you" : isFourEyes(command, me) ? ": you asked, so somebody else must approve" : "";
  return `${given} of ${required}: needs ${missing === 1 ? "one" : missing} more${notYou}`;
}

/** @param {Shapes.Command} command */
export function isBad({ status }) {
  return badStatuses.has(status);
}

/** Whether asking to cancel can still make a difference. @param {Shapes.Command} command */
export function isCancellable({ status, cancel_requested_at: askedAt }) {
  return status === "pending" || (status === "delivered" && !askedAt);
}

/** The server writes actors as `user:name`, `agent:id`, `system:part`. @param {string | null | undefined} actor */
export function actorName(actor) {
  const [, kind, name] = /^(user|agent|system):(.*)$/su.exec(actor ?? "unknown") ?? ["", "", actor ?? "unknown"];
  if (kind === "agent") return `the PC ${name}`;
  return kind === "system" ? `the server (${name})` : String(name);
}

/** @param {Shapes.Command} command */
export function titleOf(command) {
  return `${shortLine(command.type, 40)} on ${shortLine(command.agent_id, 40)}`;
}

/** @param {Shapes.Command} command */
export function resultText(command) {
  const { result, status, result_json: raw } = command;
  if (status === "rejected" && !result) return deniedText(command);
  if (result?.error) return oneLine(result.error);
  if (status === "unknown") return "Look at the PC before asking again.";
  if (status === "expired") return "It expired before it began; it did not run.";
  if (status === "cancelled") return "It was cancelled before it began; it did not run.";
  if (status === "rejected") return "It was rejected; it did not run.";
  if (!result) return raw ? oneLine(raw) : "";
  return [result.success === false ? "not successful" : "", exitText(result), tookText(result)].filter(Boolean).join(", ");
}

/** @param {Shapes.Command} command */
function deniedText({ rejected_by: who, rejection_reason: reason }) {
  if (!who) return "It was rejected; it did not run.";
  return `Denied by ${shortLine(actorName(who), 60)}${reason ? `: “${oneLine(reason)}”` : ""}. It did not run.`;
}

/** @param {Shapes.CommandResult} result */
export function exitText({ exit_code: code }) {
  return isNumber(code) ? `exit code ${code}` : "";
}

/** @param {Shapes.CommandResult} result */
export function tookText({ duration_ms: durationMs }) {
  return isNumber(durationMs) ? `took ${durationText(durationMs)}` : "";
}

/**
 * How long the command took, by the server's own stamps where it has both.
 * @param {Shapes.Command} command
 * @param {number} measuredMs what this page measured
 */
export function elapsedText(command, measuredMs) {
  const startedAt = command.approval?.approved_at ?? command.ts;
  const stampedMs = Date.parse(command.finished_at ?? "") - Date.parse(startedAt);
  return `${durationText(Number.isNaN(stampedMs) ? measuredMs : stampedMs)} after ${command.approval ? "approval" : "sending"}`;
}

/**
 * What this page measured, from the click to the result; the time that a passkey took is said apart.
 * @param {{ tookMs: number, signingMs: number }} measured
 */
export function measuredText({ tookMs, signingMs }) {
  const asked = signingMs >= askingFromMs ? `, ${secondsText(signingMs)} of it at the passkey` : "";
  return `${secondsText(tookMs)} after your approval${asked}`;
}

/** @param {number} durationMs */
function secondsText(durationMs) {
  return durationMs < 60_000 ? `${(durationMs / 1000).toFixed(2)} s` : durationText(durationMs);
}

/** @param {Shapes.Resolution} resolution */
export function resolutionText({ outcome, resolved_by: who, resolved_at: at }) {
  const finding = outcome === "ran" ? "it ran" : "it did not run";
  return `Unknown at first. ${shortLine(actorName(who), 60)} found at ${momentText(at)} that ${finding}:`;
}

/** The process that the approver saw. @param {Shapes.Expectation} expect */
export function expectText({ pid, create_time_ms: createdMs }) {
  if (!isNumber(pid)) return "not running";
  return isNumber(createdMs) ? `pid ${pid}, started ${epochText(createdMs)}` : `pid ${pid}`;
}

/** A PC's clock time; a number that is no time stays a number. @param {number} timeMs */
export function epochText(timeMs) {
  const time = new Date(timeMs);
  return Number.isNaN(time.getTime()) ? String(timeMs) : momentText(time.toISOString());
}
