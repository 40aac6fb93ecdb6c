/**
 * Asks anew who is at the page when the server wants to be sure, and then goes on with what was asked for.
 * It refuses to remember the proof: the server says when it is too old.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { ApiError, sendProof } from "./api.js";
import { ConfirmDialog, useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { operator } from "./session.js";
import { WayFields, WaySwitch, noCredentials, provePasskey, rememberedWay } from "./ways.js";

/** @import { Credentials, Way } from "./ways.js" */

/** @typedef {{ resolve: () => void, reject: (error: Error) => void }} Asked */

const asked = signal(/** @type {Asked | null} */ (null));

/**
 * Sends; where the server wants a proof first, asks for it and sends again.
 * @template Answer
 * @param {() => Promise<Answer>} send
 * @returns {Promise<Answer>}
 */
export async function withProof(send) {
  try {
    return await send();
  } catch (error) {
    if (!(error instanceof ApiError && error.code === "proof_needed")) throw error;
  }
  await askProof();
  return send();
}

/** @returns {Promise<void>} */
function askProof() {
  forgetProof();
  return new Promise((resolve, reject) => {
    asked.value = { resolve, reject };
  });
}

/** Leaves the question unanswered. */
export function forgetProof() {
  asked.peek()?.reject(new Error("Nothing was done: the server wanted to be sure that it is you."));
  asked.value = null;
}

export function ProofDialog() {
  return asked.value && html`<${ProofQuestion} proof=${asked.value} />`;
}

/** @param {{ proof: Asked }} props */
function ProofQuestion({ proof }) {
  const [way, setWay] = useState(rememberedWay);
  const [draft, setDraft] = useState(noCredentials);
  const prove = async () => {
    await sendProof(await proofOf(way, draft));
    asked.value = null;
    proof.resolve();
  };
  const { busy, problem, confirm } = useSending(prove, () => {});
  return html`<${ConfirmDialog}
    title="Is it you?"
    confirmLabel=${busy ? "Checking…" : "Confirm"}
    busy=${busy}
    blocked=${!canAct.value}
    problem=${problem}
    onConfirm=${confirm}
    onCancel=${forgetProof}
  >
    <p>This needs a fresh proof, so that nobody can do it who only found this page open.</p>
    <input type="text" name="username" autocomplete="username" value=${operator.value?.name ?? ""} hidden readonly />
    <${WaySwitch} way=${way} onWay=${setWay} />
    <${WayFields} way=${way} draft=${draft} onDraft=${setDraft} hasName=${false} isBad=${problem !== null} />
    ${way === "passkey" && html`<p class="quiet">The browser asks for your passkey when you confirm.</p>`}
  </${ConfirmDialog}>`;
}

/** @param {Way} way @param {Credentials} draft */
async function proofOf(way, { password, api_key: apiKey }) {
  if (way === "passkey") return { assertion: await provePasskey() };
  return way === "password" ? { password } : { api_key: apiKey };
}
