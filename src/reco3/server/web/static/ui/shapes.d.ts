/** The shapes that the operator API answers with. They describe; nothing here checks what really came. */

export type Mode = "NORMAL" | "SAFE" | "LOCKED";
export type CommandType =
  | "SET_MODE"
  | "SET_RATE_LIMIT"
  | "NOTIFY_OPS"
  | "RESTART_PROCESS"
  | "STOP_PROCESS"
  | "ROLLBACK";
export type Strength = "safe" | "moderate" | "strong";
export type CommandStatus =
  | "pending"
  | "delivered"
  | "running"
  | "completed"
  | "failed"
  | "rejected"
  | "expired"
  | "cancelled"
  | "unknown";
export type Severity = "INFO" | "WARN" | "ERROR" | "CRITICAL";
export type Payload = Record<string, unknown>;

export interface WatchedProcess {
  name: string;
  running?: boolean;
  pid?: number | null;
  status?: string | null;
  count?: number | null;
  pids?: number[] | null;
  restarts?: number | null;
  allow_restart?: boolean | null;
  create_time_ms?: number | null;
}

export interface InterfaceTotals {
  name: string;
  bytes_sent?: number | null;
  bytes_recv?: number | null;
}

export interface Metrics {
  cpu_percent?: number | null;
  cpu_count?: number | null;
  mem_percent?: number | null;
  mem_used_mb?: number | null;
  mem_total_mb?: number | null;
  disk_percent?: number | null;
  disk_used_gb?: number | null;
  disk_total_gb?: number | null;
  net_bytes_sent?: number | null;
  net_bytes_recv?: number | null;
  platform?: string | null;
  hostname?: string | null;
  mode?: string | null;
  apply_enabled?: boolean | null;
  processes?: WatchedProcess[] | null;
  interfaces?: InterfaceTotals[] | null;
  /** The epoch of the agent's journal; an agent without one compares nothing and answers no question. */
  journal?: string | null;
  veto_s?: number | null;
  /** How many keys the PC pins; an older agent says nothing. */
  approvers_pinned?: number | null;
  approvals_required?: number | null;
  trust_version?: string | null;
}

export interface Agent {
  agent_id: string;
  status: "ONLINE" | "OFFLINE";
  last_seen: string | null;
  platform: string | null;
  version: string | null;
  mode: Mode | null;
  apply_enabled: boolean | null;
  recent_error_count: number;
  last_error: string | null;
  last_error_at: string | null;
  metrics: Metrics | null;
}

export interface AgentsPage {
  agents: Agent[];
  count: number;
  online: number;
  offline: number;
  next_cursor: string | null;
  now: string;
}

export interface Sample {
  ts: string;
  cpu_percent: number | null;
  mem_percent: number | null;
  disk_percent: number | null;
  net_bytes_sent: number | null;
  net_bytes_recv: number | null;
}

export interface SamplesPage {
  samples: Sample[];
  count: number;
  now: string;
}

export interface Spread {
  mean: number;
  /** Rates have none. */
  min?: number;
  max: number;
}

/** A stretch of a PC's history that begins at `ts`; stretches without any report are left out. */
export interface HistoryPoint {
  ts: string;
  count: number;
  expected: number;
  cpu_percent: Spread | null;
  mem_percent: Spread | null;
  disk_percent: Spread | null;
  sent_bytes_per_s: Spread | null;
  recv_bytes_per_s: Spread | null;
  restarts: number;
}

export interface HistoryPage {
  agent_id: string;
  from: string;
  to: string;
  resolution_s: number;
  points: HistoryPoint[];
  count: number;
  now: string;
}

export interface LogLine {
  id: number | string;
  agent_id: string;
  ts: string;
  level: string;
  code: string | null;
  msg: string;
  meta_json: string | null;
  created_at: string;
}

export interface LogsPage {
  logs: LogLine[];
  count: number;
  next_cursor: string | null;
  now: string;
}

export interface CommandResult {
  success?: boolean;
  output?: unknown;
  error?: unknown;
  code?: unknown;
  exit_code?: unknown;
  duration_ms?: unknown;
  [further: string]: unknown;
}

export type KeyKind = "ed25519" | "webauthn" | "webcrypto";

export interface Approval {
  id: string;
  approved_by: string;
  approved_at: string;
  kind?: KeyKind | null;
  key_id?: string | null;
  comment?: string | null;
}

/** What an approver signs, as the server relays it; `fields` is the server's own reading and never used. */
export interface EnvelopeAnswer {
  payload_type: string;
  body: string;
  challenge?: string;
  pc?: { approvers_pinned?: number | null; approvals_required?: number | null; trust_version?: string | null } | null;
}

export interface EnvelopeFields {
  [name: string]: unknown;
  v: 1;
  fleet_id: string;
  command_id: string;
  agent_id: string;
  type: string;
  payload: Payload;
  expect: Expectation | null;
  requested_by: string;
  reason: string | null;
  created_at: number;
  expires_at: number;
  nonce: string;
  policy: string;
}

/** What a key signs, and what a passkey is asked; no challenge where the browser computes no digest. */
export interface Signable {
  pae: Uint8Array<ArrayBuffer>;
  challenge: Uint8Array<ArrayBuffer> | null;
}

/** An envelope that this page has read from its bytes. */
export interface ReadEnvelope extends Signable {
  answer: EnvelopeAnswer;
  fields: EnvelopeFields;
  text: string;
  bodySha256: string | null;
}

export interface Signature {
  kind: KeyKind;
  key_id: string;
  sig: string;
  client_data_json?: string;
  authenticator_data?: string;
}

export interface NewApproval {
  expect?: Expectation;
  body_sha256?: string;
  signature?: Signature;
  comment?: string;
}

export interface ApprovalAnswer {
  approval_id?: string;
  status: "approved" | "pending";
  approvals?: number;
  required?: number;
}

/** One of my keys for signing approvals. */
export interface OwnKey {
  key_id: string;
  kind: KeyKind;
  label: string;
  pin: string;
  fingerprint: string;
  created_at: string;
  credential_id?: string | null;
  origin?: string | null;
}

export interface RegisteredKey {
  key_id: string;
  pin: string;
  fingerprint: string;
}

/** WebAuthn's options with its bytes in base64url. */
export type CreationOptions = Omit<PublicKeyCredentialCreationOptions, "challenge" | "user" | "excludeCredentials"> & {
  challenge: string;
  user: { id: string; name: string; displayName: string };
  excludeCredentials?: { id: string }[];
};

export interface RequestOptions {
  challenge: string;
  rpId?: string;
  allowCredentials?: { id: string }[];
}

export interface Person {
  name: string;
  role: string;
  created_at: string;
  created_by?: string | null;
  disabled_at?: string | null;
  has_password?: boolean;
  keys?: number;
}

export interface Invited {
  name: string;
  role: string;
  created_by?: string | null;
  expires_at: string;
}

export interface Invitation extends Invited {
  link: string;
}

/** One of my log-ins. */
export interface OpenSession {
  id: string;
  created_at: string;
  expires_at: string;
  current: boolean;
}

export interface ApiToken {
  id: string;
  name: string;
  role: string;
  expires_at: string;
  last_used_at?: string | null;
}

/** What lets one PC in, once; `agent_id` is null where any name that is not taken will do. */
export interface EnrolmentToken {
  id: string;
  agent_id: string | null;
  may_replace: boolean;
  status: "open" | "used" | "expired";
  created_by: string;
  expires_at: string;
}

/** A token with its text, which is shown once. */
export interface NewEnrolmentToken extends EnrolmentToken {
  agent_id: string;
  token: string;
}

/** What it takes to approve a command. */
export interface Terms {
  approvals_required: number;
  four_eyes: boolean;
  reason_required: boolean;
  lifetime_s?: number | null;
}

export interface NewPolicy extends Terms {
  command_type: string;
  agent_pattern: string;
}

export interface Policy extends NewPolicy {
  id: string;
  updated_by?: string;
  updated_at?: string;
}

/** A sealed command that was used on a PC without this server. */
export interface BreakGlassUse {
  id: string;
  agent_id: string;
  command_type: string;
  payload: Payload | null;
  owners: string[];
  used_at: string;
  reported_at: string;
  result: CommandResult | null;
  reviewed_by?: string | null;
  reviewed_at?: string | null;
  review?: string | null;
}

export type TrustChangeStatus = "open" | "published" | "withdrawn" | "expired";

/** Pins, sorted, and how many of their owners must sign a command. */
export interface TrustSet {
  approvers: string[];
  approvals_required: number;
}

export interface NamedTrustSet extends TrustSet {
  trust_version: string;
  owners: string[];
}

/** A change that hands every PC that pins exactly the old keys to the new ones. */
export interface TrustChange {
  id: string;
  status: TrustChangeStatus;
  old: NamedTrustSet;
  new: NamedTrustSet;
  old_signed: string[];
  old_needed: number;
  new_signed: string[];
  new_needed: number;
  reason: string;
  requested_by: string;
  created_at: string;
  expires_at: string;
  published_at: string | null;
  withdrawn_by: string | null;
  withdrawn_reason: string | null;
}

export interface TrustChangeDetail extends TrustChange {
  envelope: { payload_type: string; body: string; signatures: Signature[] };
}

export interface TrustChangesPage {
  trust_changes: TrustChange[];
  next_cursor: string | null;
}

export interface TrustFields {
  [name: string]: unknown;
  v: 1;
  fleet_id: string;
  old: TrustSet;
  new: TrustSet;
  requested_by: string;
  reason: string;
  created_at: number;
  expires_at: number;
  nonce: string;
}

/** A pin, its key's id computed by this page; what is no pin has only its text. */
export interface ReadPin {
  text: string;
  owner: string;
  kind: KeyKind | null;
  origin: string | null;
  key_id: string | null;
}

export interface ReadTrustSet {
  pins: ReadPin[];
  approvals_required: number;
  version: string | null;
}

/** A trust change that this page has read from its bytes; `fresh` are the new keys. */
export interface ReadTrustChange extends Signable {
  fields: TrustFields;
  text: string;
  old: ReadTrustSet;
  fresh: ReadTrustSet;
  signed_by: string[];
}

export interface Comment {
  id: string;
  author: string;
  text: string;
  created_at: string;
}

export interface Command {
  id: string;
  agent_id: string;
  ts: string;
  type: string;
  strength: Strength;
  payload: Payload | null;
  status: CommandStatus;
  result: CommandResult | null;
  result_json: string | null;
  needs_approval: boolean;
  approved: boolean;
  approval: Approval | null;
  created_by: string | null;
  delivered_at: string | null;
  started_at: string | null;
  finished_at: string | null;
  reason?: string | null;
  expires_at?: string | null;
  delivery_count?: number | null;
  accepted_at?: string | null;
  cancel_requested_at?: string | null;
  expect?: Expectation | null;
  resolution?: Resolution | null;
  approvals?: Approval[];
  approvals_required?: number;
  four_eyes?: boolean;
  rejected_by?: string | null;
  rejection_reason?: string | null;
  /** Null while it is not known. */
  is_verified_by_pc?: boolean | null;
}

/** The process that the approver saw; a null pid means that it was not running. */
export interface Expectation {
  pid?: number | null;
  create_time_ms?: number | null;
}

export type Outcome = "ran" | "did_not_run";

/** What a person found out about a command whose end was unknown. */
export interface Resolution {
  outcome: Outcome;
  reason: string;
  resolved_by: string;
  resolved_at: string;
}

export interface TimelineEntry {
  at: string;
  event: string;
  actor: string | null;
  detail: Record<string, unknown> | null;
}

export interface CommandReport {
  received_at: string;
  status: string;
  result: CommandResult | null;
  verdict: "taken" | "repeated" | "conflict" | "orphan";
}

export interface CommandDetail extends Command {
  timeline: TimelineEntry[];
  reports: CommandReport[];
  comments?: Comment[];
}

/** What a PC reported about a command that this server does not know. */
export interface OrphanReport {
  id: string | number;
  agent_id: string;
  command_id: string;
  received_at: string;
  status: string;
  result: CommandResult | null;
}

export interface OrphanReportsPage {
  orphan_reports: OrphanReport[];
  next_cursor: string | null;
  now: string;
}

export interface CommandsPage {
  commands: Command[];
  count: number;
  next_cursor: string | null;
  now: string;
}

export interface Incident {
  id: string | number;
  ts_open: string;
  ts_close: string | null;
  severity: string;
  title: string;
  summary: string | null;
  status: "open" | "closed";
  agent_id: string | null;
  code: string | null;
  count: number;
  last_seen_at: string | null;
}

export interface IncidentsPage {
  incidents: Incident[];
  count: number;
  next_cursor: string | null;
  now: string;
}

export interface Config {
  test_mode: boolean;
  require_approval: boolean;
  version: string;
  locked: boolean;
}

export interface Operator {
  name: string;
  role: string;
  how: string;
  expires_at?: string;
}

export type Topic = "agents" | "commands" | "logs" | "incidents" | "trust_changes";

/** What the live stream says has changed; no ids means any PC. */
export interface Change {
  topics: Topic[];
  agent_ids: string[];
}

export type ConnectionState = "connecting" | "live" | "polling" | "offline";

export type Tone = "good" | "warn" | "bad" | "plain";

export interface Toast {
  /** A later toast with the same key takes the earlier one's place. */
  key: string;
  tone: Tone;
  title: string;
  text?: string;
  /** A decision stands out, and is offered only while the server can hear it. */
  action?: { label: string; run: () => void; isDecision?: boolean };
  /** Stays until somebody dismisses it or its reason is gone. */
  sticky?: boolean;
  count?: number;
}

export interface Snapshot {
  saved_at_ms: number;
  operator: Operator;
  config: Config;
  agents: AgentsPage;
  commands: Command[];
  incidents: Incident[];
  selected_id: string | null;
  samples: Sample[];
  logs: LogLine[];
}
