/**
 * What the operator on this page may do, so that buttons which the server would refuse are not shown.
 * It refuses to be a lock: the server checks every request itself.
 */
import { computed } from "../vendor/preact-htm-signals.js";
import { operator } from "./session.js";

/** @type {Record<string, string[]>} */
const granted = {
  viewer: ["viewer"],
  auditor: ["viewer", "auditor"],
  operator: ["viewer", "operator"],
  approver: ["viewer", "operator", "approver"],
  admin: ["viewer", "auditor", "operator", "approver", "admin"],
};

export const roleNames = ["viewer", "operator", "approver", "auditor", "admin"];

/** @type {Record<string, string>} */
export const roleTexts = {
  viewer: "looks on",
  operator: "asks for commands",
  approver: "asks and approves",
  auditor: "looks on and reads the audit log",
  admin: "everything, and people",
};

/** @param {string} role */
function has(role) {
  const own = operator.value?.role ?? "";
  return Object.hasOwn(granted, own) && Boolean(granted[own]?.includes(role));
}

export const canRequest = computed(() => has("operator"));
export const canApprove = computed(() => has("approver"));
export const canAudit = computed(() => has("auditor"));
export const isAdmin = computed(() => has("admin"));
