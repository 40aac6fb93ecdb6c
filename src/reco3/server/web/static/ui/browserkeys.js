/**
 * Keys that this browser made itself and lets nobody read, not even this page.
 * It refuses to export a private key; clearing the site's data is losing it.
 */
import { base64url, hex, sha256 } from "./bytes.js";

/** @typedef {{ key_id: string, public_key: Uint8Array<ArrayBuffer>, private_key: CryptoKey }} BrowserKey */

const databaseName = "reco3-keys";
const storeName = "keys";
const algorithm = { name: "ECDSA", namedCurve: "P-256" };
const signing = { name: "ECDSA", hash: "SHA-256" };

/** A new pair; it is kept only by `keepKey`. @returns {Promise<BrowserKey>} */
export async function createKey() {
  const pair = await crypto.subtle.generateKey(algorithm, false, ["sign", "verify"]);
  const publicKey = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
  return { key_id: await keyIdOf(publicKey), public_key: publicKey, private_key: pair.privateKey };
}

/** The first half of the digest: a fingerprint without its spaces. @param {Uint8Array<ArrayBuffer>} publicKey */
export async function keyIdOf(publicKey) {
  return hex(await sha256(publicKey)).slice(0, 32);
}

/** Raw r and s, as the PC expects it. @param {BrowserKey} key @param {Uint8Array<ArrayBuffer>} message */
export async function signWithKey(key, message) {
  return base64url(await crypto.subtle.sign(signing, key.private_key, message));
}

/** @param {BrowserKey} key */
export async function keepKey(key) {
  await inStore("readwrite", (store) => store.put(key));
  // The browser may then not drop it when space gets short.
  await navigator.storage?.persist?.().catch(() => false);
}

/** @param {string} keyId @returns {Promise<BrowserKey | null>} */
export async function findKey(keyId) {
  return (await inStore("readonly", (store) => store.get(keyId))) ?? null;
}

/** @param {string} keyId */
export async function dropKey(keyId) {
  await inStore("readwrite", (store) => store.delete(keyId));
}

/** @returns {Promise<string[]>} */
export async function keptKeyIds() {
  return /** @type {string[]} */ (await inStore("readonly", (store) => store.getAllKeys()));
}

/**
 * @template Result
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<Result>} ask
 * @returns {Promise<Result>}
 */
async function inStore(mode, ask) {
  const database = await openDatabase();
  try {
    const transaction = database.transaction(storeName, mode);
    const asked = ask(transaction.objectStore(storeName));
    return await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onabort = () => reject(transaction.error);
      transaction.onerror = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

/** @returns {Promise<IDBDatabase>} */
function openDatabase() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(databaseName, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(storeName, { keyPath: "key_id" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}
