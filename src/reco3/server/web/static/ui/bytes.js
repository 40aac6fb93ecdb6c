/**
 * Bytes as the wire writes them, and their digest.
 * It refuses to repair: what is not exactly base64url is an error.
 */

const alphabet = /^[A-Za-z0-9_-]*$/u;

/** Whether this page may compute digests and signatures: only on https and on this very machine. */
export const hasCrypto = globalThis.isSecureContext && globalThis.crypto?.subtle !== undefined;

/** @param {string} text base64url without padding */
export function bytesOf(text) {
  if (!alphabet.test(text)) throw new TypeError("Expected base64url without padding.");
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
}

/** @param {ArrayBuffer | Uint8Array} bytes */
export function base64url(bytes) {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/u, "");
}

/** With padding, as a pin writes a key. @param {ArrayBuffer | Uint8Array} bytes */
export function base64(bytes) {
  return btoa(Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join(""));
}

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

/** @param {Uint8Array} one @param {Uint8Array} other */
export function areSame(one, other) {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}
