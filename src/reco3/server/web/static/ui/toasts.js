/**
 * Tells of what just happened without taking the focus.
 * It refuses to pile up: few are shown, the rest is a number.
 */
import { html, signal } from "../vendor/preact-htm-signals.js";
import { canAct } from "./live.js";
import { oneLine } from "./texts.js";

/** @import * as Shapes from "./shapes.js" */

const shownAtOnce = matchMedia("(max-width: 560px)").matches ? 2 : 4;
const keptAtMost = 50;
const shownForMs = 9_000;

const toasts = signal(/** @type {Shapes.Toast[]} */ ([]));
/** @type {Map<string, number>} */
const timers = new Map();

/** @param {Shapes.Toast} toast */
export function showToast(toast) {
  const earlier = toasts.value.find(({ key }) => key === toast.key);
  const count = toast.count ?? (earlier?.count ?? 0) + 1;
  const others = toasts.value.filter(({ key }) => key !== toast.key);
  toasts.value = [{ ...toast, count }, ...others].slice(0, keptAtMost);
  startTimer(toast);
}

/** @param {string} key */
export function dismissToast(key) {
  clearTimeout(timers.get(key));
  timers.delete(key);
  if (toasts.value.some((toast) => toast.key === key)) toasts.value = toasts.value.filter((toast) => toast.key !== key);
}

export function dismissAllToasts() {
  for (const { key } of toasts.value) dismissToast(key);
}

/** @param {Shapes.Toast} toast */
function startTimer({ key, sticky }) {
  clearTimeout(timers.get(key));
  if (!sticky) timers.set(key, setTimeout(() => dismissToast(key), shownForMs));
}

/** Reading takes as long as it takes. */
function holdTimers() {
  for (const timer of timers.values()) clearTimeout(timer);
}

function resumeTimers() {
  for (const toast of toasts.value) startTimer(toast);
}

export function ToastRegion() {
  const decisions = toasts.value.filter((toast) => toast.action?.isDecision);
  const others = toasts.value.filter((toast) => !toast.action?.isDecision);
  const hiddenCount = Math.max(0, toasts.value.length - shownAtOnce);
  return html`<section
    class="toasts"
    aria-label="Notifications"
    onMouseEnter=${holdTimers}
    onMouseLeave=${resumeTimers}
    onFocusIn=${holdTimers}
    onFocusOut=${resumeTimers}
  >
    <div class="toast-list" role="status" aria-live="polite" aria-relevant="additions text">
      ${[...decisions, ...others].slice(0, shownAtOnce).map((toast) => html`<${ToastCard} key=${toast.key} toast=${toast} />`)}
    </div>
    ${hiddenCount > 0 &&
    html`<div class="toast-more">
      <span>${hiddenCount} more</span>
      <button type="button" class="button small" onClick=${dismissAllToasts}>Dismiss all</button>
    </div>`}
  </section>`;
}

/** @param {{ toast: Shapes.Toast }} props */
function ToastCard({ toast }) {
  return html`<article class="toast" data-tone=${toast.tone}>
    <span class="tone-mark" data-tone=${toast.tone} aria-hidden="true"></span>
    <div class="toast-body">
      <p class="toast-title">
        ${oneLine(toast.title)} ${(toast.count ?? 1) > 1 && html`<span class="times">×${toast.count}</span>`}
      </p>
      ${toast.text && html`<p class="toast-text">${oneLine(toast.text)}</p>`}
    </div>
    <div class="toast-actions">
      ${toast.action && html`<${ToastAction} action=${toast.action} />`}
      <button
        type="button"
        class="button ghost small icon-only"
        aria-label=${`Dismiss: ${oneLine(toast.title)}`}
        onClick=${() => dismissToast(toast.key)}
      >
        <span aria-hidden="true">✕</span>
      </button>
    </div>
  </article>`;
}

/** @param {{ action: NonNullable<Shapes.Toast["action"]> }} props */
function ToastAction({ action: { label, run, isDecision = false } }) {
  const kind = isDecision ? "primary" : "";
  return html`<button type="button" class=${`button small ${kind}`} disabled=${isDecision && !canAct.value} onClick=${run}>
    ${label}
  </button>`;
}
