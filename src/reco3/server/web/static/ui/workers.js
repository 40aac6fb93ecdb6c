/**
 * Registers the service worker that keeps the page's shell for when the server is away.
 * It refuses any other script address: the one Trusted Types policy knows a single name.
 */

const workerAddress = "/sw.js";

/** @typedef {{ createPolicy(name: string, rules: { createScriptURL(address: string): string }): { createScriptURL(address: string): string } }} PolicyFactory */

export async function registerWorker() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register(trustedAddress(), { scope: "/" });
  } catch {
    // Without a secure context or with site storage off, the page works all the same, only not offline.
  }
}

function trustedAddress() {
  const factory = /** @type {{ trustedTypes?: PolicyFactory }} */ (/** @type {unknown} */ (window)).trustedTypes;
  if (!factory) return workerAddress;
  const policy = factory.createPolicy("reco3", {
    createScriptURL(address) {
      if (address === workerAddress) return address;
      throw new TypeError(`Only ${workerAddress} is a worker of this page.`);
    },
  });
  return policy.createScriptURL(workerAddress);
}
