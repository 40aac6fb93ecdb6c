/**
 * Speaks to the operator API and turns whatever goes wrong into one of two errors.
 * It refuses to retry or to keep anything: that is for those who ask.
 */

/** @import * as Shapes from "./shapes.js" */

const timeoutMs = 15_000;

/** The server answered, and the answer is no. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {{ message: string, retryAfterS?: number | null }} answer
   */
  constructor(status, code, { message, retryAfterS = null }) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

/** Nothing that RECO3 said came back: no network, no server, or somebody else's page in between. */
export class ConnectionLost extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "ConnectionLost";
  }
}

/** @type {() => void} */
let tellSessionLost = () => {};
/** How many sessions this page has left behind: a refusal that comes late tells nothing about the one after. */
let sessionsLeft = 0;

/** @param {() => void} listener */
export function onSessionLost(listener) {
  tellSessionLost = listener;
}

/** @param {string} path @returns {Promise<any>} */
const get = (path) => request("GET", path);
/** @param {string} path @param {object} [body] @returns {Promise<any>} */
const post = (path, body = {}) => request("POST", path, body);

/** @returns {Promise<Shapes.Config>} */
export const fetchConfig = () => get("/api/config/test-mode");
/** @returns {Promise<Shapes.Operator>} */
export const fetchSession = () => get("/api/session");
/** @param {{ api_key: string } | { name: string, password: string }} credentials @returns {Promise<Shapes.Operator>} */
export const openSession = (credentials) => post("/api/session", credentials);
/** @returns {Promise<Shapes.RequestOptions>} */
export const fetchPasskeyOptions = () => post("/api/session/passkey/options");
/** @param {object} assertion @returns {Promise<Shapes.Operator>} */
export const openPasskeySession = (assertion) => post("/api/session/passkey", { assertion });
/** @param {{ password: string } | { api_key: string } | { assertion: object }} proof */
export const sendProof = (proof) => post("/api/session/proof", proof);
/** @param {string} token @param {string} password @returns {Promise<Shapes.Operator>} */
export const acceptInvitation = (token, password) => post("/api/invitations/accept", { token, password });
export async function closeSession() {
  sessionsLeft += 1;
  await request("DELETE", "/api/session");
}
/** @param {string} token @returns {Promise<{ name: string, api_key: string }>} */
export const setUp = (token) => post("/api/setup", { token });

/** @param {{ limit: number, cursor: string | null }} page @returns {Promise<Shapes.AgentsPage>} */
export const fetchAgents = (page) => get(`/api/r3/agents?${query(page)}`);
/** @param {string} agentId @param {number} minutes @returns {Promise<Shapes.SamplesPage>} */
export const fetchSamples = (agentId, minutes) => get(`/api/r3/agent/${segment(agentId)}/metrics?${query({ minutes })}`);
/** @param {string} agentId @param {{ from: string, to: string, points: number }} stretch @returns {Promise<Shapes.HistoryPage>} */
export const fetchHistory = (agentId, stretch) => get(`/api/r3/agent/${segment(agentId)}/metrics?${query(stretch)}`);
/** @param {string} agentId @param {{ limit: number, cursor?: string | null }} page @returns {Promise<Shapes.LogsPage>} */
export const fetchLogs = (agentId, page) => get(`/api/r3/agent/${segment(agentId)}/logs?${query(page)}`);
/**
 * @param {{ limit: number, cursor?: string | null, status?: string | null, agent_id?: string | null }} page
 * @returns {Promise<Shapes.CommandsPage>}
 */
export const fetchCommands = (page) => get(`/api/agent-commands?${query(page)}`);
/** @param {string} commandId @returns {Promise<Shapes.CommandDetail>} */
export const fetchCommand = (commandId) => get(`/api/agent-commands/${segment(commandId)}`);
/** @param {number} limit @returns {Promise<Shapes.OrphanReportsPage>} */
export const fetchOrphanReports = (limit) => get(`/api/orphan-reports?${query({ limit })}`);
/**
 * @param {{ agent_id: string, type: Shapes.CommandType, payload: Shapes.Payload, reason?: string }} command
 * @returns {Promise<{ id: string }>}
 */
export const createCommand = (command) => post("/api/agent-commands", command);
/** @param {string} commandId @returns {Promise<Shapes.EnvelopeAnswer>} */
export const fetchEnvelope = (commandId) => get(`/api/agent-commands/${segment(commandId)}/envelope`);
/** @param {string} commandId @param {Shapes.NewApproval} approval @returns {Promise<Shapes.ApprovalAnswer>} */
export const approveCommand = (commandId, approval) => post(`/api/agent-commands/${segment(commandId)}/approve`, approval);
/** @param {string} commandId @param {string} reason */
export const denyCommand = (commandId, reason) => post(`/api/agent-commands/${segment(commandId)}/deny`, { reason });
/** @param {string} commandId @param {string} text */
export const commentOn = (commandId, text) => post(`/api/agent-commands/${segment(commandId)}/comments`, { text });
/**
 * @param {string} commandId
 * @param {string} reason may be empty
 * @returns {Promise<{ status: "cancelled" | "cancel_requested" }>}
 */
export const cancelCommand = (commandId, reason) =>
  post(`/api/agent-commands/${segment(commandId)}/cancel`, reason ? { reason } : {});
/** @param {string} commandId @param {{ outcome: Shapes.Outcome, reason: string }} finding @returns {Promise<{ status: string }>} */
export const resolveCommand = (commandId, finding) => post(`/api/agent-commands/${segment(commandId)}/resolve`, finding);
/** @param {{ status: string, limit: number }} page @returns {Promise<Shapes.IncidentsPage>} */
export const fetchIncidents = (page) => get(`/api/incidents?${query(page)}`);
/** @param {string} incidentId */
export const closeIncident = (incidentId) => post(`/api/incidents/${segment(incidentId)}/close`);

/** @returns {Promise<{ sessions: Shapes.OpenSession[] }>} */
export const fetchSessions = () => get("/api/sessions");
/** @param {string} sessionId */
export const endSession = (sessionId) => request("DELETE", `/api/sessions/${segment(sessionId)}`);
/** @param {string} password */
export const setPassword = (password) => post("/api/me/password", { password });
/** @returns {Promise<{ keys: Shapes.OwnKey[] }>} */
export const fetchOwnKeys = () => get("/api/me/keys");
/** @param {"webauthn" | "webcrypto"} kind @returns {Promise<Shapes.CreationOptions | { challenge: string }>} */
export const fetchKeyOptions = (kind) => post("/api/me/keys/options", { kind });
/** @param {object} key @returns {Promise<Shapes.RegisteredKey>} */
export const registerKey = (key) => post("/api/me/keys", key);
/** @param {string} keyId */
export const removeKey = (keyId) => request("DELETE", `/api/me/keys/${segment(keyId)}`);

/** @returns {Promise<{ operators: Shapes.Person[], invitations?: Shapes.Invited[] }>} */
export const fetchPeople = () => get("/api/operators");
/** @param {{ name: string, role: string }} person @returns {Promise<Shapes.Invitation>} */
export const invitePerson = (person) => post("/api/operators", person);
/** @param {string} personName @param {{ role?: string, disabled?: boolean }} change */
export const changePerson = (personName, change) => request("PATCH", `/api/operators/${segment(personName)}`, change);
/** A link with which somebody who has an account sets a new password. @param {string} personName @returns {Promise<Shapes.Invitation>} */
export const invitePersonAgain = (personName) => post(`/api/operators/${segment(personName)}/invitation`);
/** @param {string} personName */
export const withdrawInvitation = (personName) => request("DELETE", `/api/operators/${segment(personName)}/invitation`);
/** @returns {Promise<{ tokens: Shapes.ApiToken[] }>} */
export const fetchTokens = () => get("/api/tokens");
/** @param {{ name: string, role: string, expires_in_days: number }} token @returns {Promise<{ id: string, token: string }>} */
export const createToken = (token) => post("/api/tokens", token);
/** @param {string} tokenId */
export const revokeToken = (tokenId) => request("DELETE", `/api/tokens/${segment(tokenId)}`);
/** @returns {Promise<{ tokens: Shapes.EnrolmentToken[] }>} */
export const fetchEnrolmentTokens = () => get("/api/enrolment-tokens");
/** @param {{ agent_id: string, may_replace: boolean }} token @returns {Promise<Shapes.NewEnrolmentToken>} */
export const createEnrolmentToken = (token) => post("/api/enrolment-tokens", token);
/** @param {string} tokenId */
export const revokeEnrolmentToken = (tokenId) => request("DELETE", `/api/enrolment-tokens/${segment(tokenId)}`);
/** @returns {Promise<{ policies: Shapes.Policy[], default: Shapes.Terms }>} */
export const fetchPolicies = () => get("/api/policies");
/** @param {Shapes.NewPolicy} policy */
export const putPolicy = (policy) => request("PUT", "/api/policies", policy);
/** @param {string} policyId */
export const removePolicy = (policyId) => request("DELETE", `/api/policies/${segment(policyId)}`);
/** @returns {Promise<{ break_glass: Shapes.BreakGlassUse[] }>} */
export const fetchBreakGlass = () => get("/api/break-glass");
/** @param {string} useId @param {string} review */
export const reviewBreakGlass = (useId, review) => post(`/api/break-glass/${segment(useId)}/review`, { review });

/** @param {number} limit @returns {Promise<Shapes.TrustChangesPage>} */
export const fetchTrustChanges = (limit) => get(`/api/trust-changes?${query({ limit })}`);
/** @param {string} changeId @returns {Promise<Shapes.TrustChangeDetail>} */
export const fetchTrustChange = (changeId) => get(`/api/trust-changes/${segment(changeId)}`);
/** @param {string} changeId @param {Shapes.Signature} signature @returns {Promise<Shapes.TrustChange>} */
export const signTrustChange = (changeId, signature) => post(`/api/trust-changes/${segment(changeId)}/sign`, { signature });
/** @param {string} changeId @param {string} reason @returns {Promise<Shapes.TrustChange>} */
export const withdrawTrustChange = (changeId, reason) => post(`/api/trust-changes/${segment(changeId)}/withdraw`, { reason });

function leaveSession() {
  sessionsLeft += 1;
  tellSessionLost();
}

/** @param {string} text */
function segment(text) {
  return encodeURIComponent(text);
}

/** @param {Record<string, string | number | null | undefined>} fields */
function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 */
async function request(method, path, body) {
  const leftBefore = sessionsLeft;
  const response = await answer(method, path, body);
  const content = await json(response);
  if (response.ok && content !== null) return content;
  const error = refusal(response, content);
  const isLogin = method !== "GET" && (path.startsWith("/api/session") || path === "/api/setup" || path === "/api/invitations/accept");
  if (error instanceof ApiError && error.status === 401 && !isLogin && sessionsLeft === leftBefore) leaveSession();
  throw error;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 */
async function answer(method, path, body) {
  /** @type {RequestInit} */
  const options = {
    method,
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
    signal: AbortSignal.timeout(timeoutMs),
  };
  if (method !== "GET") options.headers = { "Content-Type": "application/json" };
  if (body) options.body = JSON.stringify(body);
  try {
    return await fetch(path, options);
  } catch {
    throw new ConnectionLost("The server does not answer.");
  }
}

/** @param {Response} response */
async function json(response) {
  try {
    const content = await response.json();
    return typeof content === "object" ? content : null;
  } catch {
    return null;
  }
}

/**
 * @param {Response} response
 * @param {any} content
 */
function refusal(response, content) {
  if (typeof content?.error !== "string") {
    return new ConnectionLost(`Something that is not RECO3 answered (HTTP ${response.status}).`);
  }
  const message = typeof content.message === "string" ? content.message : content.error;
  const retryAfterS = Number(response.headers.get("Retry-After")) || null;
  return new ApiError(response.status, content.error, { message, retryAfterS });
}
