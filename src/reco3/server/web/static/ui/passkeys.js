/**
 * Speaks to the browser's passkeys and writes what they answer as the server takes it.
 * It refuses to go without the user being verified: a passkey that lies about must not be enough.
 */
import { base64url, bytesOf } from "./bytes.js";

/** @import * as Shapes from "./shapes.js" */

const isAddress = /^[\d.]+$|^\[/u.test(location.hostname);

/** Browsers refuse passkeys on addresses that are numbers, and where the connection is not safe. */
export const hasPasskeys = globalThis.isSecureContext && !isAddress && typeof PublicKeyCredential === "function";

/** Where this very machine can have passkeys, when this address cannot. */
export const isLoopbackAddress = location.hostname === "127.0.0.1" || location.hostname === "[::1]";

/** The same page by the name that passkeys work with. */
export function openOnLocalhost() {
  const port = location.port === "" ? "" : `:${location.port}`;
  location.assign(`${location.protocol}//localhost${port}${location.pathname}`);
}

/** The person said no, waited too long, or the device has no such key. */
export class PasskeyRefused extends Error {
  /** @param {unknown} error */
  constructor(error) {
    super(textOf(error));
    this.name = "PasskeyRefused";
  }
}

/** @param {unknown} error */
function textOf(error) {
  const errorName = error instanceof DOMException ? error.name : "";
  if (errorName === "NotAllowedError") return "The passkey was not used: the question was closed, timed out, or this device has none that fits.";
  if (errorName === "InvalidStateError") return "This device has a passkey for you already.";
  if (errorName === "SecurityError") return "The browser does not allow passkeys at this address.";
  return `The passkey could not be used: ${error instanceof Error ? error.message : String(error)}`;
}

/**
 * @param {Shapes.CreationOptions} options as the server wrote them
 * @returns {Promise<{ attestation: object, publicKey: Uint8Array<ArrayBuffer> | null }>}
 */
export async function createPasskey(options) {
  const publicKey = {
    ...options,
    challenge: bytesOf(options.challenge),
    user: { ...options.user, id: bytesOf(options.user.id) },
    excludeCredentials: (options.excludeCredentials ?? []).map(withBytes),
  };
  const credential = await asked(() => navigator.credentials.create({ publicKey }));
  const response = /** @type {AuthenticatorAttestationResponse} */ (credential.response);
  const key = response.getPublicKey();
  const written = { clientDataJSON: base64url(response.clientDataJSON), attestationObject: base64url(response.attestationObject), transports: response.getTransports() };
  return { attestation: { ...idOf(credential), response: written }, publicKey: key && new Uint8Array(key) };
}

/**
 * An assertion over a challenge, from one of these credentials, or from any that the device knows for this site.
 * @param {{ challenge: Uint8Array<ArrayBuffer>, credentialIds: string[], rpId?: string }} wanted
 */
export async function assertPasskey({ challenge, credentialIds, rpId = location.hostname }) {
  const allowCredentials = credentialIds.map((id) => withBytes({ id, type: "public-key" }));
  /** @type {PublicKeyCredentialRequestOptions} */
  const publicKey = { challenge, allowCredentials, rpId, userVerification: "required", timeout: 120_000 };
  const credential = await asked(() => navigator.credentials.get({ publicKey }));
  const response = /** @type {AuthenticatorAssertionResponse} */ (credential.response);
  return {
    ...idOf(credential),
    response: {
      clientDataJSON: base64url(response.clientDataJSON),
      authenticatorData: base64url(response.authenticatorData),
      signature: base64url(response.signature),
      userHandle: response.userHandle ? base64url(response.userHandle) : null,
    },
  };
}

/** @param {{ id: string, type?: string }} credential @returns {PublicKeyCredentialDescriptor} */
function withBytes({ id }) {
  return { id: bytesOf(id), type: "public-key" };
}

/** @param {PublicKeyCredential} credential */
function idOf({ id, rawId, authenticatorAttachment }) {
  return { id, rawId: base64url(rawId), type: "public-key", authenticatorAttachment, clientExtensionResults: {} };
}

/** @param {() => Promise<Credential | null>} ask */
async function asked(ask) {
  try {
    const credential = await ask();
    if (credential instanceof PublicKeyCredential) return credential;
  } catch (error) {
    throw new PasskeyRefused(error);
  }
  throw new PasskeyRefused(new Error("the browser gave none"));
}
