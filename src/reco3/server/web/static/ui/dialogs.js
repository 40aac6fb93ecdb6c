/**
 * A question that must be answered before anything else: the browser's own modal dialog.
 * It refuses to act by itself; closing it in any way but the chosen button means no.
 */
import { html, useId, useLayoutEffect, useRef, useState } from "../vendor/preact-htm-signals.js";
import { oneLine } from "./texts.js";

/** @import { ComponentChildren } from "../vendor/preact-htm-signals.js" */

/**
 * @typedef {object} DialogProps
 * @property {string} title
 * @property {string} confirmLabel
 * @property {string} [dismissLabel]
 * @property {"primary" | "danger"} [tone]
 * @property {boolean} [busy]
 * @property {boolean} [blocked] whether confirming makes no sense now
 * @property {string | null} [problem]
 * @property {() => void} onConfirm
 * @property {() => void} onCancel
 * @property {ComponentChildren} children
 */

/** @param {DialogProps} props */
export function ConfirmDialog(props) {
  const { title, confirmLabel, dismissLabel = "Cancel", tone = "primary", busy, blocked, problem, onConfirm, onCancel, children } = props;
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
        <button type="button" class="button" onClick=${onCancel}>${dismissLabel}</button>
        <button type="submit" class=${`button ${tone}`} aria-busy=${Boolean(busy)} disabled=${Boolean(busy || blocked)}>
          ${confirmLabel}
        </button>
      </div>
    </form>
  </dialog>`;
}

/**
 * Sends what a dialog was confirmed with, once at a time; a refusal is shown where it was asked.
 * @param {() => Promise<void>} send
 * @param {() => void} close
 */
export function useSending(send, close) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {string | null} */ (null));
  const confirm = async () => {
    setBusy(true);
    try {
      await send();
      close();
    } catch (error) {
      setProblem(error instanceof Error ? oneLine(error.message) : oneLine(error));
    }
    setBusy(false);
  };
  return { busy, problem, confirm };
}

/**
 * A text that a person gives with his decision.
 * @param {{ label: string, value: string, onValue: (text: string) => void, isRequired?: boolean, hint?: string }} props
 */
export function ReasonField({ label, value, onValue, isRequired = false, hint = "" }) {
  /** @param {{ currentTarget: HTMLTextAreaElement }} event */
  const take = ({ currentTarget }) => onValue(currentTarget.value);
  return html`<label class="field">
    <span>${label}</span>
    <textarea class="input" rows="2" maxlength="500" required=${isRequired} placeholder=${hint} value=${value} onInput=${take}></textarea>
  </label>`;
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
