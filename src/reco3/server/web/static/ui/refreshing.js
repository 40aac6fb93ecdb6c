/**
 * Keeps many wishes for fresh rows from becoming many requests.
 * It refuses to run one load twice at the same time.
 */

const shortestGapMs = 200;

/**
 * Wraps a load so that wishes during a run become one run after it, and a slow load is asked for more rarely.
 * @param {() => Promise<void>} load
 * @returns {() => Promise<void>}
 */
export function coalesced(load) {
  /** @type {Promise<void> | null} */
  let running = null;
  /** @type {Promise<void> | null} */
  let waiting = null;
  let restUntilMs = 0;

  async function run() {
    await pause(restUntilMs - performance.now());
    waiting = null;
    const startedMs = performance.now();
    running = load();
    try {
      await running;
    } finally {
      running = null;
      restUntilMs = performance.now() + Math.max(shortestGapMs, 2 * (performance.now() - startedMs));
    }
  }

  return () => {
    waiting ??= (running ?? Promise.resolve()).then(run, run);
    return waiting;
  };
}

/** @param {number} durationMs */
function pause(durationMs) {
  return durationMs <= 0 ? undefined : new Promise((resolve) => {
        setTimeout(resolve, durationMs);
      });
}
