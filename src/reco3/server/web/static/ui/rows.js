/**
 * Puts a fresh page of rows, newest first, on top of those already loaded.
 * It refuses to hide a hole: when the pages do not touch, the older rows go.
 */

/**
 * @template {{ id: string | number }} Row
 * @typedef {{ rows: Row[], nextCursor: string | null }} Loaded
 */

/**
 * @template {{ id: string | number }} Row
 * @param {Loaded<Row>} loaded
 * @param {Loaded<Row>} fresh
 * @returns {Loaded<Row>}
 */
export function withNewest(loaded, fresh) {
  const freshIds = new Set(fresh.rows.map((row) => row.id));
  const lastShared = loaded.rows.findLastIndex((row) => freshIds.has(row.id));
  if (lastShared === -1 || fresh.nextCursor === null) return fresh;
  const older = loaded.rows.slice(lastShared + 1);
  return { rows: [...fresh.rows, ...older], nextCursor: older.length > 0 ? loaded.nextCursor : fresh.nextCursor };
}

/**
 * @template {{ id: string | number }} Row
 * @param {Loaded<Row>} loaded
 * @param {Loaded<Row>} older
 * @returns {Loaded<Row>}
 */
export function withOlder(loaded, older) {
  const loadedIds = new Set(loaded.rows.map((row) => row.id));
  const unseen = older.rows.filter((row) => !loadedIds.has(row.id));
  return { rows: [...loaded.rows, ...unseen], nextCursor: older.nextCursor };
}
