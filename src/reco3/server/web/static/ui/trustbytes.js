/**
 * The bytes of a trust change: read by this page itself, and compared with what the server's list says.
 * It refuses bytes that could mean one thing here and another on the PC.
 */
import { bytesOf } from "./bytes.js";
import { BadEnvelope, readStrictly, signableOf } from "./envelopes.js";
import { isFacts } from "./evidence.js";
import { readPin, versionOf } from "./pins.js";

/** @import * as Shapes from "./shapes.js" */

const trustType = "application/vnd.reco3.trust.v1+json";
const largestBytes = 32_768;
const names = "v,fleet_id,old,new,requested_by,reason,created_at,expires_at,nonce";
const setNames = "approvers,approvals_required";
const texts = ["fleet_id", "requested_by", "reason", "nonce"];

/**
 * What the server sent, read from its bytes.
 * @param {Shapes.TrustChangeDetail} detail
 * @param {Shapes.TrustChange} change as the server's list has it
 * @returns {Promise<Shapes.ReadTrustChange>}
 */
export async function readTrustChange({ envelope }, change) {
  if (envelope.payload_type !== trustType) throw new BadEnvelope("it is of another type");
  const body = bytesOf(envelope.body);
  if (body.length > largestBytes) throw new BadEnvelope("it is too long");
  const { text, fields } = parse(body);
  compare(fields, change);
  const [old, fresh] = await Promise.all([readSet(fields.old), readSet(fields.new)]);
  return { fields, text, old, fresh, signed_by: envelope.signatures.map(({ key_id: id }) => id), ...(await signableOf(trustType, body)) };
}

/**
 * The fields, when the bytes are the one way to write them.
 * @param {Uint8Array<ArrayBuffer>} body
 * @returns {{ text: string, fields: Shapes.TrustFields }}
 */
function parse(body) {
  const { text, fields } = readStrictly(body);
  if (!isFacts(fields) || Object.keys(fields).join() !== names || fields["v"] !== 1) throw new BadEnvelope("its fields are not those that were agreed");
  if (texts.some((name) => typeof fields[name] !== "string")) throw new BadEnvelope("a field has another type");
  if (!isSet(fields["old"]) || !isSet(fields["new"])) throw new BadEnvelope("a set of keys is none, or is not sorted");
  if (!Number.isSafeInteger(fields["created_at"]) || !Number.isSafeInteger(fields["expires_at"])) throw new BadEnvelope("its times are none");
  return { text, fields: /** @type {Shapes.TrustFields} */ (/** @type {unknown} */ (fields)) };
}

/** @param {unknown} set */
function isSet(set) {
  if (!isFacts(set) || Object.keys(set).join() !== setNames || !Number.isSafeInteger(set["approvals_required"])) return false;
  const pins = set["approvers"];
  if (!Array.isArray(pins) || pins.length === 0 || pins.some((pin) => typeof pin !== "string")) return false;
  return [...new Set(pins)].toSorted().join("\n") === pins.join("\n");
}

/** @param {Shapes.TrustSet} set @returns {Promise<Shapes.ReadTrustSet>} */
async function readSet({ approvers, approvals_required: required }) {
  const pins = await Promise.all(approvers.map(readPin));
  if (pins.some(({ kind }) => kind === null)) throw new BadEnvelope("a key in it is none");
  return { pins, approvals_required: required, version: await versionOf(approvers) };
}

/** The list is the server's word, the bytes are what PCs obey. @param {Shapes.TrustFields} fields @param {Shapes.TrustChange} change */
function compare(fields, change) {
  /** @type {[string, unknown, unknown][]} */
  const pairs = [
    ["another change", fields.nonce, change.id],
    ["other old keys", setText(fields.old), setText(change.old)],
    ["other new keys", setText(fields.new), setText(change.new)],
    ["another reason", fields.reason, change.reason],
  ];
  const different = pairs.find(([, signed, listed]) => signed !== listed);
  if (different) throw new BadEnvelope(`the list shows one thing and the bytes to be signed name ${different[0]}`);
}

/** @param {Shapes.TrustSet} set */
function setText({ approvers, approvals_required: required }) {
  return JSON.stringify([approvers, required]);
}
