/**
 * One command's life, step by step, with who did it, how long it took and what the PC reported.
 * It refuses to tidy up: contradicting reports are all shown.
 */
import { html, signal, useEffect } from "../vendor/preact-htm-signals.js";
import { ConnectionLost, fetchCommand } from "./api.js";
import { Comments } from "./comments.js";
import { Evidence, FactList, isFacts } from "./evidence.js";
import { actorName, expectText, unfinished } from "./outcomes.js";
import { coalesced } from "./refreshing.js";
import { counted, oneLine } from "./texts.js";
import { Moment, Remaining, durationText, momentText } from "./times.js";

/** @import * as Shapes from "./shapes.js" */

/** @typedef {{ detail: Shapes.CommandDetail | null, problem: string | null }} Opened */

/** The timelines that are open, by command id. */
const opened = signal(/** @type {ReadonlyMap<string, Opened>} */ (new Map()));

/** @type {Record<string, string>} */
const titles = {
  requested: "Asked for",
  approved: "Approved",
  delivered: "Sent to the PC",
  redelivered: "Sent again, as a question: what became of it?",
  accepted: "Accepted by the PC",
  running: "Begun on the PC",
  completed: "Completed",
  failed: "Failed",
  rejected: "Denied; it did not run",
  commented: "Comment",
  unknown: "We do not know whether it ran",
  cancel_requested: "Cancel requested",
  cancelled: "Cancelled; it did not run",
  expired: "Expired; it did not run",
  resolved: "Resolved by a person",
  report_conflict: "The PC reported something else",
  orphan_report: "The PC reported a command unknown here",
};
const verdictTexts = {
  taken: "recorded",
  repeated: "said again, changes nothing",
  conflict: "contradicts what is recorded; kept as evidence",
  orphan: "came while this server did not know the command",
};
/** What the server notes with a step and the page says elsewhere. */
const saidElsewhere = ["type", "payload", "approval_id", "command_ids", "status", "ended", "requested_by", "expires_at", "journal"];
const resultNames = ["success", "error", "output", "exit_code", "code", "duration_ms", "verification", "evidence", "before", "after"];
const toldApart = new Set([...resultNames, ...saidElsewhere, "reason", "acts_at", "expect", "outcome", "result", "delivery"]);

export const refreshTimelines = coalesced(async () => {
  await Promise.all([...opened.peek().keys()].map(load));
});

/** @param {string} commandId */
async function load(commandId) {
  try {
    const detail = await fetchCommand(commandId);
    keep(commandId, { detail, problem: null });
  } catch (error) {
    if (error instanceof ConnectionLost) throw error;
    keep(commandId, { detail: null, problem: error instanceof Error ? error.message : String(error) });
  }
}

/** @param {string} commandId @param {Opened} content */
function keep(commandId, content) {
  if (opened.peek().has(commandId)) opened.value = new Map([...opened.peek(), [commandId, content]]);
}

/** @param {string} commandId */
function open(commandId) {
  if (opened.peek().has(commandId)) return;
  opened.value = new Map([...opened.peek(), [commandId, { detail: null, problem: null }]]);
  load(commandId).catch((error) => keep(commandId, { detail: null, problem: oneLine(error.message) }));
}

/** @param {string} commandId */
function shut(commandId) {
  opened.value = new Map([...opened.peek()].filter(([id]) => id !== commandId));
}

export function closeTimelines() {
  opened.value = new Map();
}

/** @param {{ command: Shapes.Command }} props */
export function CommandTimeline({ command }) {
  useEffect(() => () => shut(command.id), [command.id]);
  const content = opened.value.get(command.id);
  /** @param {{ currentTarget: HTMLDetailsElement }} event */
  const toggle = ({ currentTarget }) => (currentTarget.open ? open(command.id) : shut(command.id));
  return html`<details class="timeline-fold" open=${content !== undefined} onToggle=${toggle}>
    <summary>Timeline</summary>
    ${content && html`<${TimelineBody} command=${command} content=${content} />`}
  </details>`;
}

/** @param {{ command: Shapes.Command, content: Opened }} props */
function TimelineBody({ command, content: { detail, problem } }) {
  if (problem !== null) return html`<p class="problem">The timeline could not be loaded: ${oneLine(problem)}</p>`;
  if (!detail) return html`<p class="quiet">Loading…</p>`;
  const entries = detail.timeline ?? [];
  return html`<ol class="timeline">
      ${entries.map((entry, index) => html`<${Entry} key=${index} entry=${entry} before=${entries[index - 1] ?? null} command=${detail} />`)}
      ${unfinished.has(detail.status) && html`<${OpenEnd} command=${command} />`}
    </ol>
    <${Reports} reports=${detail.reports ?? []} />
    <${Comments} command=${detail} onSent=${() => void load(command.id).catch(() => {})} />
    <p class="timeline-id">Command <code>${oneLine(command.id)}</code></p>`;
}

/** @param {{ entry: Shapes.TimelineEntry, before: Shapes.TimelineEntry | null, command: Shapes.CommandDetail }} props */
function Entry({ entry, before, command }) {
  const detail = fullDetail(entry, command);
  const title = Object.hasOwn(titles, entry.event) ? titles[entry.event] : oneLine(entry.event);
  return html`<li class="step" data-event=${oneLine(entry.event)}>
    <span class="step-mark" aria-hidden="true"></span>
    <div class="step-time"><${Moment} stamp=${entry.at} /> <${Gap} from=${before?.at} to=${entry.at} /></div>
    <div class="step-words">
      <p class="step-title">${title} <span class="step-actor"><bdi>${actorText(entry, command.agent_id)}</bdi></span></p>
      <${Words} detail=${detail} event=${entry.event} />
      <${FactList} facts=${furtherFacts(detail)} />
    </div>
  </li>`;
}

/**
 * The step's own words, with the report that made it and what the approver saw.
 * @param {Shapes.TimelineEntry} entry
 * @param {Shapes.CommandDetail} command
 * @returns {Record<string, unknown>}
 */
function fullDetail({ at, event, detail }, { reports, expect }) {
  const own = isFacts(detail) ? detail : {};
  const report = (reports ?? []).find(({ received_at: receivedAt, verdict }) => receivedAt === at && verdict === "taken");
  if (report && isFacts(report.result)) return { ...own, acts_at: report.result["acts_at"], result: report.result };
  return event === "approved" && expect ? { ...own, expect } : own;
}

/** Who did it; that the PC did what only it can do is in the title. @param {Shapes.TimelineEntry} entry @param {string} agentId */
function actorText({ actor, event }, agentId) {
  if (actor !== `agent:${agentId}`) return `by ${oneLine(actorName(actor))}`;
  return ["completed", "failed", "unknown"].includes(event) ? "says the PC" : "";
}

/** How long it took since the step before. @param {{ from: string | undefined, to: string }} props */
function Gap({ from, to }) {
  const gapMs = Date.parse(to) - Date.parse(from ?? "");
  return Number.isNaN(gapMs) || gapMs < 0 ? null : html`<span class="step-gap">+${durationText(gapMs)}</span>`;
}

/** What is known by name, in words. @param {{ detail: Record<string, unknown>, event: string }} props */
function Words({ detail, event }) {
  const { reason, acts_at: actsAt, expect, outcome, delivery, expires_at: expiresAt } = detail;
  const result = resultOf(detail);
  return html`${typeof outcome === "string" && html`<p>${outcome === "ran" ? "It ran." : outcome === "did_not_run" ? "It did not run." : oneLine(outcome)}</p>`}
    ${Boolean(reason) && html`<p class="command-reason">“<bdi>${oneLine(reason)}</bdi>”</p>`}
    ${typeof expiresAt === "string" && html`<p>It may begin until ${momentText(expiresAt)}.</p>`}
    ${event === "report_conflict" && html`<${Contradiction} detail=${detail} />`}
    ${typeof actsAt === "string" && html`<p>It acts at ${momentText(actsAt)} unless somebody at the PC stops it.</p>`}
    ${isFacts(expect) && html`<p>For the process as it was then: <bdi>${expectText(expect)}</bdi>. If it changed, the PC refuses.</p>`}
    ${typeof delivery === "number" && delivery > 1 && html`<p>Delivery ${delivery.toLocaleString("en")}.</p>`}
    ${result && html`<${Evidence} result=${result} />`}`;
}

/** @param {{ detail: Record<string, unknown> }} props */
function Contradiction({ detail: { status, ended } }) {
  return html`<p>It says <strong>${oneLine(status)}</strong>; recorded is <strong>${oneLine(ended ?? "another end")}</strong>.</p>`;
}

/** A result inside a step's detail, or the detail itself when it reads like one. @param {Record<string, unknown>} detail */
function resultOf(detail) {
  if (isFacts(detail["result"])) return { ...detail["result"], acts_at: undefined };
  const found = resultNames.filter((name) => name in detail);
  return found.length > 0 ? Object.fromEntries(found.map((name) => [name, detail[name]])) : null;
}

/** @param {Record<string, unknown>} detail */
function furtherFacts(detail) {
  return Object.fromEntries(Object.entries(detail).filter(([name]) => !toldApart.has(name)));
}

/** Where an unfinished command stands now. @param {{ command: Shapes.Command }} props */
function OpenEnd({ command }) {
  const expiresAt = command.status === "pending" ? command.expires_at : null;
  const words = { pending: "Not sent to the PC yet", delivered: "The PC has not said that it began", running: "The PC is at it" };
  return html`<li class="step" data-event="now">
    <span class="step-mark" aria-hidden="true"></span>
    <div class="step-time">now</div>
    <div class="step-words">
      <p class="step-title">${words[/** @type {keyof typeof words} */ (command.status)] ?? ""}</p>
      ${expiresAt && html`<p>Expires <${Remaining} stamp=${expiresAt} />, at ${momentText(expiresAt)}.</p>`}
    </div>
  </li>`;
}

/** Everything the PC said, as it came. @param {{ reports: Shapes.CommandReport[] }} props */
function Reports({ reports }) {
  if (reports.length === 0) return null;
  const hasConflict = reports.some(({ verdict }) => verdict === "conflict");
  return html`<details class="reports" open=${hasConflict}>
    <summary>${counted(reports.length, "report")} from the PC${hasConflict ? ", contradicting each other" : ""}</summary>
    <ol class="report-list">
      ${reports.map((report, index) => html`<${Report} key=${index} report=${report} />`)}
    </ol>
  </details>`;
}

/** @param {{ report: Shapes.CommandReport }} props */
function Report({ report: { received_at: at, status, verdict, result } }) {
  const words = Object.hasOwn(verdictTexts, verdict) ? verdictTexts[verdict] : oneLine(verdict);
  return html`<li class="report" data-verdict=${oneLine(verdict)}>
    <p><${Moment} stamp=${at} /> <strong>${oneLine(status)}</strong> <span class="report-verdict">${words}</span></p>
    ${isFacts(result) && html`<${Evidence} result=${result} />`}
  </li>`;
}
