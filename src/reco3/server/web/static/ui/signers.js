/**
 * Signs an envelope with a key that is here: a passkey of this site, or a key of this browser.
 * It refuses to sign what `envelopes` or `trustbytes` has not read.
 */
import { signWithKey, findKey } from "./browserkeys.js";
import { assertPasskey } from "./passkeys.js";

/** @import * as Shapes from "./shapes.js" */

/**
 * @param {Shapes.OwnKey} key
 * @param {Shapes.Signable} envelope
 * @returns {Promise<Shapes.Signature>}
 */
export function signEnvelope(key, envelope) {
  return key.kind === "webauthn" ? signWithPasskey(key, envelope) : signWithBrowserKey(key, envelope);
}

/** @param {Shapes.OwnKey} key @param {Shapes.Signable} envelope @returns {Promise<Shapes.Signature>} */
async function signWithPasskey(key, { challenge }) {
  if (!challenge) throw new Error("This page came without encryption, so no passkey can sign here. Open it by https.");
  const { response } = await assertPasskey({ challenge, credentialIds: [key.credential_id ?? ""] });
  return {
    kind: "webauthn",
    key_id: key.key_id,
    sig: response.signature,
    client_data_json: response.clientDataJSON,
    authenticator_data: response.authenticatorData,
  };
}

/** @param {Shapes.OwnKey} key @param {Shapes.Signable} envelope @returns {Promise<Shapes.Signature>} */
async function signWithBrowserKey(key, { pae }) {
  const kept = await findKey(key.key_id);
  if (!kept) throw new Error("This browser has lost its key. Make a new one under Access, and have it pinned on the PC.");
  return { kind: "webcrypto", key_id: key.key_id, sig: await signWithKey(kept, pae) };
}
