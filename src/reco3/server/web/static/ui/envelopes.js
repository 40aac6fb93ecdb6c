/**
 * The bytes that an approver signs: read by this page itself, and compared with what the server's list says.
 * It refuses bytes that could mean one thing here and another on the PC.
 */
import { bytesOf, hasCrypto, hex, sha256 } from "./bytes.js";
import { payloadText } from "./catalogue.js";
import { isFacts } from "./evidence.js";

/** @import * as Shapes from "./shapes.js" */

export const payloadType = "application/vnd.reco3.command.v1+json";
const largestBytes = 8192;
const names = "v,fleet_id,command_id,agent_id,agent_epoch,type,payload,expect,requested_by,reason,created_at,expires_at,nonce,policy";
const texts = ["fleet_id", "command_id", "agent_id", "type", "requested_by", "nonce", "policy"];

/** The bytes cannot be trusted to say what they seem to say. */
export class BadEnvelope extends Error {
  /** @param {string} what */
  constructor(what) {
    super(`Not to be signed: ${what}. Nothing was signed; tell whoever runs this server.`);
    this.name = "BadEnvelope";
  }
}

/** DSSE's pre-authentication encoding. @param {string} type @param {Uint8Array} body */
export function paeOf(type, body) {
  const encoder = new TextEncoder();
  const typeBytes = encoder.encode(type);
  const head = encoder.encode(`DSSEv1 ${typeBytes.length} ${type} ${body.length} `);
  return Uint8Array.from([...head, ...body]);
}

/**
 * What the server sent, read from its bytes.
 * @param {Shapes.EnvelopeAnswer} answer
 * @param {Shapes.Command} command as the server's list has it
 * @returns {Promise<Shapes.ReadEnvelope>}
 */
export async function readEnvelope(answer, command) {
  if (answer.payload_type !== payloadType) throw new BadEnvelope("it is of another type");
  const body = bytesOf(answer.body);
  if (body.length > largestBytes) throw new BadEnvelope("it is too long");
  const fields = parseBody(body);
  compare(fields, command);
  const bodySha256 = hasCrypto ? hex(await sha256(body)) : null;
  return { answer, fields, text: textOf(body), bodySha256, ...(await signableOf(payloadType, body)) };
}

/**
 * What a key signs over these bytes, and what a passkey is asked.
 * @param {string} type
 * @param {Uint8Array} body
 * @returns {Promise<Shapes.Signable>}
 */
export async function signableOf(type, body) {
  const pae = paeOf(type, body);
  // Without encryption the browser computes no digest: such a page can say yes, as it says the process, and sign nothing.
  return { pae, challenge: hasCrypto ? await sha256(pae) : null };
}

/**
 * The text of bytes and what it says, when they are the one way to write it.
 * @param {Uint8Array<ArrayBuffer>} body
 */
export function readStrictly(body) {
  const text = textOf(body);
  const said = parseJson(text);
  // A key written twice, a blank or a number in another form would come back different.
  if (JSON.stringify(said) !== text || !hasOnlyIntegers(said)) throw new BadEnvelope("its bytes are not written the one agreed way");
  return { text, fields: said };
}

/**
 * The fields, when the bytes are the one way to write them.
 * @param {Uint8Array<ArrayBuffer>} body
 * @returns {Shapes.EnvelopeFields}
 */
export function parseBody(body) {
  const { fields } = readStrictly(body);
  if (!isFacts(fields) || Object.keys(fields).join() !== names || fields["v"] !== 1) throw new BadEnvelope("its fields are not those that were agreed");
  if (texts.some((name) => typeof fields[name] !== "string") || !isFacts(fields["payload"])) throw new BadEnvelope("a field has another type");
  if (!Number.isSafeInteger(fields["created_at"]) || !Number.isSafeInteger(fields["expires_at"])) throw new BadEnvelope("its times are none");
  return /** @type {Shapes.EnvelopeFields} */ (/** @type {unknown} */ (fields));
}

/** @param {Uint8Array<ArrayBuffer>} body */
function textOf(body) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw new BadEnvelope("its bytes are no text");
  }
}

/** @param {string} text @returns {unknown} */
function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new BadEnvelope("its bytes are no JSON");
  }
}

/** @param {unknown} value @returns {boolean} */
function hasOnlyIntegers(value) {
  if (typeof value === "number") return Number.isSafeInteger(value);
  return typeof value !== "object" || value === null || Object.values(value).every(hasOnlyIntegers);
}

/** The list is the server's word, the bytes are what the PC obeys. @param {Shapes.EnvelopeFields} fields @param {Shapes.Command} command */
function compare(fields, command) {
  /** @type {[string, unknown, unknown][]} */
  const pairs = [
    ["another command", fields.command_id, command.id],
    ["another PC", fields.agent_id, command.agent_id],
    ["another action", fields.type, command.type],
    ["another payload", payloadText(fields.payload), payloadText(command.payload)],
  ];
  const different = pairs.find(([, signed, listed]) => signed !== listed);
  if (different) throw new BadEnvelope(`the list shows one thing and the bytes to be signed name ${different[0]}`);
}
