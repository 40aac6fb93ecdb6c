/**
 * Shows thousands of rows by drawing only those in sight.
 * It refuses rows of different heights: the caller says how high every row is.
 */
import { html, useLayoutEffect, useRef, useState } from "../vendor/preact-htm-signals.js";

/** @import { VNode } from "../vendor/preact-htm-signals.js" */

const spareRows = 6;

/**
 * @template Row
 * @typedef {object} WindowProps
 * @property {Row[]} rows
 * @property {number} rowHeightPx
 * @property {(row: Row, index: number) => VNode} draw
 */

/**
 * @template Row
 * @param {WindowProps<Row>} props
 */
export function WindowedRows({ rows, rowHeightPx, draw }) {
  const frame = useRef(/** @type {HTMLElement | null} */ (null));
  const [view, setView] = useState({ top: 0, height: 600 });
  const look = () => {
    const { scrollTop = 0, clientHeight = 600 } = frame.current ?? {};
    setView((seen) => (seen.top === scrollTop && seen.height === clientHeight ? seen : { top: scrollTop, height: clientHeight }));
  };
  useLayoutEffect(look, [rows.length, rowHeightPx]);
  const first = Math.max(0, Math.min(Math.floor(view.top / rowHeightPx), rows.length - 1) - spareRows);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / rowHeightPx) + spareRows);
  return html`<div class="window" role="rowgroup" ref=${frame} onScroll=${look}>
    <${Spacer} heightPx=${first * rowHeightPx} />
    ${rows.slice(first, last).map((row, offset) => draw(row, first + offset))}
    <${Spacer} heightPx=${(rows.length - last) * rowHeightPx} />
  </div>`;
}

/** @param {{ heightPx: number }} props */
function Spacer({ heightPx }) {
  const spacer = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => {
    spacer.current?.style.setProperty("--spacer-height", `${heightPx}px`);
  }, [heightPx]);
  return html`<div class="spacer" role="presentation" ref=${spacer}></div>`;
}
