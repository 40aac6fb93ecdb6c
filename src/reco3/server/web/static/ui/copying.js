/**
 * A text to be taken elsewhere as it is, with a button that copies it.
 * It refuses to copy anything but what can be seen.
 */
import { html, useState } from "../vendor/preact-htm-signals.js";

/** @param {{ text: string, name: string }} props */
export function Copyable({ text, name }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied.");
    } catch {
      setSaid("The browser did not allow it: select the text and copy it by hand.");
    }
  };
  return html`<div class="copyable">
    <code class="copyable-text">${text}</code>
    <button type="button" class="button small" aria-label=${`Copy ${name}`} onClick=${copy}>Copy</button>
    <span class="copyable-said quiet" role="status">${said}</span>
  </div>`;
}
