/**
 * The commands that this page knows: the newest, those that need a person, and those a filter asks for.
 * It refuses to draw or to act: it loads, and tells of news.
 */
import { computed, signal } from "../vendor/preact-htm-signals.js";
import { selectedId } from "./agents.js";
import { fetchCommands } from "./api.js";
import { payloadText } from "./catalogue.js";
import { actorName, elapsedText, isBad, isFourEyes, isWaiting, measuredText, resultText, titleOf, unknownSentence } from "./outcomes.js";
import { coalesced } from "./refreshing.js";
import { canApprove } from "./roles.js";
import { withNewest, withOlder } from "./rows.js";
import { operator } from "./session.js";
import { counted, shortLine } from "./texts.js";
import { noteServerTime } from "./times.js";
import { dismissToast, showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const pageSize = 50;
const largestPageSize = 500;
const toastsAtOnce = 2;

/** @typedef {{ rows: Shapes.Command[], nextCursor: string | null }} LoadedCommands */
/** @typedef {keyof typeof segments} SegmentName */
/** @typedef {"approve" | "deny" | "cancel" | "resolve"} Decision */
/** @typedef {{ clickedMs: number, signingMs: number }} Click */

export const segments = {
  all: { label: "All", status: null, none: "No command has been sent yet." },
  waiting: { label: "Waiting", status: "pending", none: "No command waits for approval." },
  open: { label: "Open", status: "pending,delivered,running", none: "No command is on its way." },
  unknown: { label: "Unknown", status: "unknown", none: "No command ended unknown." },
  failed: { label: "Not done", status: "failed,rejected,expired,cancelled", none: "No command failed, expired or was cancelled." },
};

const newest = signal(/** @type {LoadedCommands | null} */ (null));
/** Pending and unknown ones however old: a person may have to decide about them. */
const urgent = signal(/** @type {LoadedCommands} */ ({ rows: [], nextCursor: null }));
const chosen = signal(/** @type {LoadedCommands & { key: string } | null} */ (null));
const isLoadingOlder = signal(false);
export const segment = signal(/** @type {SegmentName} */ ("all"));
export const isOnlySelected = signal(false);
/** What a person is being asked, and about which command. */
export const question = signal(/** @type {{ decision: Decision, command: Shapes.Command } | null} */ (null));
/** Commands that this page sent, with the moment of the click. @type {Map<string, number>} */
const followed = new Map();
/** Commands that this page approved, likewise. @type {Map<string, Click>} */
const approved = new Map();
/** How long each approved command took from the click to its result on this page. */
export const measured = signal(/** @type {ReadonlyMap<string, string>} */ (new Map()));

export const commands = computed(() => newest.value?.rows ?? []);
const filterAgentId = computed(() => (isOnlySelected.value ? selectedId.value : null));
/** Names what is filtered for; empty without a filter. */
export const filterKey = computed(() =>
  segment.value === "all" && filterAgentId.value === null ? "" : `${segment.value}@${filterAgentId.value ?? ""}`,
);
/** The list as the server filtered it; null while it is being fetched. */
const shownList = computed(() => {
  if (filterKey.value === "") return newest.value;
  return chosen.value?.key === filterKey.value ? chosen.value : null;
});
export const isShownComplete = computed(() => shownList.value !== null);
/** Until the server has answered, those that are here already. */
export const shownCommands = computed(() => {
  const rows = shownList.value?.rows ?? commands.value.filter(isInFilter);
  return segment.value === "waiting" ? rows.filter(isWaiting) : rows;
});

/** @param {Shapes.Command} command */
function isInFilter({ status, agent_id: agentId }) {
  const statuses = segments[segment.value].status?.split(",");
  return (!statuses || statuses.includes(status)) && (filterAgentId.value === null || agentId === filterAgentId.value);
}

export const olderState = computed(() => {
  if (!shownList.value?.nextCursor) return "none";
  return isLoadingOlder.value ? "loading" : "there";
});
export const urgentCounts = computed(() => ({
  waiting: urgent.value.rows.filter(isWaiting).length,
  unknown: urgent.value.rows.filter(({ status }) => status === "unknown").length,
  hasMore: urgent.value.nextCursor !== null,
}));

export const refreshCommands = coalesced(async () => {
  const before = newest.peek();
  const known = [...urgent.peek().rows, ...(before?.rows ?? [])];
  const [page, urgentPage] = await Promise.all([
    fetchCommands({ limit: limitFor(before) }),
    fetchCommands({ limit: largestPageSize, status: "pending,unknown" }),
    refreshChosen(),
  ]);
  noteServerTime(page.now);
  const [fresh, freshUrgent] = [loadedOf(page), loadedOf(urgentPage)];
  if (before) tellNews(known, [...new Map([...freshUrgent.rows, ...fresh.rows].map((row) => [row.id, row])).values()]);
  const now = newest.peek();
  newest.value = now ? withNewest(now, fresh) : fresh;
  urgent.value = freshUrgent;
});

async function refreshChosen() {
  const key = filterKey.peek();
  if (key === "") return;
  const before = chosen.peek()?.key === key ? chosen.peek() : null;
  const fresh = loadedOf(await fetchCommands({ limit: limitFor(before), ...filterQuery() }));
  if (filterKey.peek() === key) chosen.value = { key, ...(before ? withNewest(before, fresh) : fresh) };
}

function filterQuery() {
  return { status: segments[segment.peek()].status, agent_id: filterAgentId.peek() };
}

/** @param {LoadedCommands | null} before */
function limitFor(before) {
  return Math.min(largestPageSize, Math.max(pageSize, before?.rows.length ?? 0));
}

/** @param {Shapes.CommandsPage} page @returns {LoadedCommands} */
function loadedOf(page) {
  return { rows: page.commands ?? [], nextCursor: page.next_cursor };
}

/** @param {Shapes.Command[] | null} rows */
export function restoreCommands(rows) {
  newest.value = rows && { rows, nextCursor: null };
  urgent.value = { rows: (rows ?? []).filter((command) => isWaiting(command) || command.status === "unknown"), nextCursor: null };
  chosen.value = null;
  segment.value = "all";
  isOnlySelected.value = false;
  question.value = null;
  followed.clear();
  approved.clear();
  measured.value = new Map();
}

export async function loadOlder() {
  const [key, before] = [filterKey.peek(), shownList.peek()];
  if (!before?.nextCursor || isLoadingOlder.peek()) return;
  isLoadingOlder.value = true;
  try {
    const older = loadedOf(await fetchCommands({ limit: pageSize * 2, cursor: before.nextCursor, ...filterQuery() }));
    const list = filterKey.peek() === key ? withOlder(shownList.peek() ?? before, older) : null;
    if (list && key === "") newest.value = list;
    else if (list) chosen.value = { key, ...list };
  } catch (error) {
    showToast({ key: "commands-older", tone: "bad", title: "Older commands could not be loaded", text: String(error) });
  } finally {
    isLoadingOlder.value = false;
  }
}

/** The command as it is known now. @param {Shapes.Command} command */
export function currentOf(command) {
  const lists = [chosen.value, newest.value, urgent.value];
  return lists.flatMap((list) => list?.rows ?? []).find(({ id }) => id === command.id) ?? command;
}

/** Says how the command went once its result is there. @param {string} commandId @param {number} [clickedMs] */
export function followCommand(commandId, clickedMs = performance.now()) {
  followed.set(commandId, clickedMs);
}

/** Measures how long it takes until the result is there. @param {string} commandId @param {Click} click */
export function followApproval(commandId, click) {
  followed.delete(commandId);
  approved.set(commandId, click);
}

/** The measured time, once, for a command that has ended. @param {Shapes.Command} command */
function measure({ id }) {
  const click = approved.get(id);
  if (!click) return null;
  approved.delete(id);
  const text = measuredText({ tookMs: performance.now() - click.clickedMs, signingMs: click.signingMs });
  measured.value = new Map([...measured.peek(), [id, text]]);
  return text;
}

/** @param {Decision} decision @param {Shapes.Command} command */
export function ask(decision, command) {
  question.value = { decision, command };
}

export function closeQuestion() {
  question.value = null;
}

/** @param {Shapes.Command} command */
export function toastKey(command) {
  return `command:${command.id}`;
}

/**
 * @param {Shapes.Command[]} before
 * @param {Shapes.Command[]} now
 */
function tellNews(before, now) {
  const earlier = new Map(before.map((command) => [command.id, command]));
  const newlyWaiting = now.filter((command) => isWaiting(command) && !earlier.has(command.id));
  const newlyBad = now.filter((command) => isBad(command) && earlier.get(command.id)?.status !== command.status);
  for (const command of now) {
    const previous = earlier.get(command.id);
    if (previous && isWaiting(previous) && !isWaiting(command)) dismissToast(toastKey(command));
    if (previous?.status === "unknown" && command.status !== "unknown") dismissToast(toastKey(command));
    if (command.status === "completed") tellCompleted(command);
  }
  toastFew(newlyWaiting, waitingToast, `${counted(newlyWaiting.length, "command")} wait for approval`);
  toastFew(newlyBad, badToast, `${counted(newlyBad.length, "command")} did not complete`);
}

/** @param {Shapes.Command} command */
function tellCompleted(command) {
  const sinceApproval = measure(command);
  const clickedMs = followed.get(command.id);
  if (clickedMs === undefined && sinceApproval === null) return;
  followed.delete(command.id);
  const text = sinceApproval ?? elapsedText(command, performance.now() - (clickedMs ?? 0));
  showToast({ key: toastKey(command), tone: "good", title: `${titleOf(command)} completed`, text, count: 1 });
}

/**
 * @param {Shapes.Command[]} news
 * @param {(command: Shapes.Command) => Shapes.Toast} toastOf
 * @param {string} summary
 */
function toastFew(news, toastOf, summary) {
  if (news.length <= toastsAtOnce) return void news.forEach((command) => showToast(toastOf(command)));
  showToast({ key: `commands:${toastOf.name}`, tone: "warn", title: summary, text: "See the Command Queue.", sticky: true });
}

/** @param {Shapes.Command} command @returns {Shapes.Toast} */
function waitingToast(command) {
  const isMine = canApprove.peek() && !isFourEyes(command, operator.peek()?.name ?? "");
  const action = isMine ? { label: "Approve", run: () => ask("approve", command), isDecision: true } : undefined;
  const asker = `asked by ${shortLine(actorName(command.created_by), 40)}${command.reason ? `: ${shortLine(command.reason, 120)}` : ""}`;
  const text = `${shortLine(command.agent_id, 40)} · ${shortLine(payloadText(command.payload), 120)} · ${asker}`;
  return { key: toastKey(command), tone: "warn", title: `${shortLine(command.type, 40)} waits for approval`, text, ...(action ? { action } : {}), sticky: true, count: 1 };
}

/** @param {Shapes.Command} command @returns {Shapes.Toast} */
function badToast(command) {
  const clickedMs = followed.get(command.id);
  followed.delete(command.id);
  const elapsed = measure(command) ?? (clickedMs === undefined ? null : elapsedText(command, performance.now() - clickedMs));
  const took = elapsed === null ? "" : ` (${elapsed})`;
  const isUnknown = command.status === "unknown";
  const title = `${titleOf(command)} ${isUnknown ? "ended unknown" : command.status}`;
  const text = `${isUnknown ? `${unknownSentence} ` : ""}${shortLine(resultText(command), 240)}${took}`;
  const toast = { key: toastKey(command), title, text, sticky: true, count: 1 };
  if (!isUnknown) return { ...toast, tone: "bad" };
  return { ...toast, tone: "warn", action: { label: "Resolve", run: () => ask("resolve", command), isDecision: true } };
}
