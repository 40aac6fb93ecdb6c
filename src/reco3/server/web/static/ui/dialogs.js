/**
 * A question that must be answered before anything else: the browser's own modal dialog.
 * It refuses to act by itself; closing it in any way but the chosen button means no.
 */
import { html, useId, useLayoutEffect, useRef } from "../vendor/preact-htm-signals.js";

/** @import { ComponentChildren } from "../vendor/preact-htm-signals.js" */

/**
 * @typedef {object} DialogProps
 * @property {string} title
 * @property {string} confirmLabel
 * @property {"primary" | "danger"} [tone]
 * @property {boolean} [busy]
 * @property {boolean} [blocked] whether confirming makes no sense now
 * @property {string | null} [problem]
 * @property {() => void} onConfirm
 * @property {() => void} onCancel
 * @property {ComponentChildren} children
 */

/** @param {DialogProps} props */
export function ConfirmDialog({ title, confirmLabel, tone = "primary", busy, blocked, problem, onConfirm, onCancel, children }) {
  const dialog = useModal();
  const titleId = useId();
  /** @param {Event} event */
  const confirm = (event) => {
    event.preventDefault();
    if (!busy && !blocked) onConfirm();
  };
  return html`<dialog class="dialog" ref=${dialog} aria-labelledby=${titleId} onClose=${onCancel}>
    <form method="dialog" onSubmit=${confirm}>
      <h2 id=${titleId}>${title}</h2>
      ${children} ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <div class="dialog-actions">
        <button type="button" class="button" onClick=${onCancel}>Cancel</button>
        <button type="submit" class=${`button ${tone}`} aria-busy=${Boolean(busy)} disabled=${Boolean(busy || blocked)}>
          ${confirmLabel}
        </button>
      </div>
    </form>
  </dialog>`;
}

function useModal() {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  return dialog;
}
