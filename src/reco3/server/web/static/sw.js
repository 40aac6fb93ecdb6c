/**
 * Keeps the page's shell, so that the page opens when the server is away: the network first, else what is kept.
 * It refuses everything but the shell: nothing below /api, /agent or /health is ever looked at or kept.
 */

const cacheName = "reco3-shell-3";
const patienceMs = 4_000;
const page = "/r3";
const shell = [
  page,
  "/manifest.webmanifest",
  "/static/agent-ui.css",
  "/static/agent-ui.js",
  "/static/icons/reco3-180.png",
  "/static/icons/reco3-192.png",
  "/static/icons/reco3-512.png",
  "/static/icons/reco3-maskable-512.png",
  "/static/icons/reco3.svg",
  "/static/ui/access.js",
  "/static/ui/agents.js",
  "/static/ui/api.js",
  "/static/ui/approving.js",
  "/static/ui/breakglass.js",
  "/static/ui/briefings.js",
  "/static/ui/browserkeys.js",
  "/static/ui/bytes.js",
  "/static/ui/catalogue.js",
  "/static/ui/commands.js",
  "/static/ui/comments.js",
  "/static/ui/controls.js",
  "/static/ui/copying.js",
  "/static/ui/dashboard.js",
  "/static/ui/decisions.js",
  "/static/ui/dialogs.js",
  "/static/ui/enrolments.js",
  "/static/ui/envelopes.js",
  "/static/ui/evidence.js",
  "/static/ui/history.js",
  "/static/ui/icons.js",
  "/static/ui/incidents.js",
  "/static/ui/keys.js",
  "/static/ui/live.js",
  "/static/ui/logs.js",
  "/static/ui/metrics.js",
  "/static/ui/orphans.js",
  "/static/ui/outcomes.js",
  "/static/ui/passkeys.js",
  "/static/ui/people.js",
  "/static/ui/pins.js",
  "/static/ui/places.js",
  "/static/ui/policies.js",
  "/static/ui/proofs.js",
  "/static/ui/quantities.js",
  "/static/ui/queue.js",
  "/static/ui/refreshing.js",
  "/static/ui/roles.js",
  "/static/ui/rows.js",
  "/static/ui/session.js",
  "/static/ui/signers.js",
  "/static/ui/snapshots.js",
  "/static/ui/sparklines.js",
  "/static/ui/texts.js",
  "/static/ui/themes.js",
  "/static/ui/timelines.js",
  "/static/ui/times.js",
  "/static/ui/toasts.js",
  "/static/ui/tokens.js",
  "/static/ui/trust.js",
  "/static/ui/trustbytes.js",
  "/static/ui/trustchanges.js",
  "/static/ui/trustsigning.js",
  "/static/ui/ways.js",
  "/static/ui/windowing.js",
  "/static/ui/workers.js",
  "/static/ui/yourself.js",
  "/static/vendor/preact-htm-signals.js",
];

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));

worker.addEventListener("install", (event) => {
  event.waitUntil(keepShell());
});

worker.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

worker.addEventListener("fetch", (event) => {
  const path = shellPath(event.request);
  if (path !== null) event.respondWith(networkFirst(event.request, path));
});

async function keepShell() {
  const cache = await caches.open(cacheName);
  await cache.addAll(shell.map((path) => new Request(path, { cache: "no-cache" })));
  await worker.skipWaiting();
}

async function takeOver() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name !== cacheName).map((name) => caches.delete(name)));
  await worker.clients.claim();
}

/**
 * The path under which a request is part of the shell, else null.
 * @param {Request} request
 */
function shellPath(request) {
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== worker.location.origin) return null;
  return shell.includes(pathname) ? pathname : null;
}

/**
 * @param {Request} request
 * @param {string} path
 */
async function networkFirst(request, path) {
  const cache = await caches.open(cacheName);
  const kept = await cache.match(path);
  try {
    const response = await fetch(request, kept ? { signal: AbortSignal.timeout(patienceMs) } : {});
    if (isWorthKeeping(response)) await cache.put(path, response.clone());
    return response.ok || !kept ? response : kept;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}

/** @param {Response} response */
function isWorthKeeping(response) {
  return response.ok && response.type === "basic" && !response.redirected;
}
