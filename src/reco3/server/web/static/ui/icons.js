/**
 * The few drawings the page needs, as SVG in the colour of the text around them.
 * It refuses to carry meaning alone: wherever an icon stands there are words too.
 */
import { html } from "../vendor/preact-htm-signals.js";

const paths = {
  lock: "M4.5 7V5a3.5 3.5 0 0 1 7 0v2M3.5 7h9v6.5h-9z",
  unlock: "M4.5 7V5a3.5 3.5 0 0 1 6.8-1.2M3.5 7h9v6.5h-9z",
  sun: "M8 1.5v1.5M8 13v1.5M1.5 8H3M13 8h1.5M3.4 3.4l1 1M11.6 11.6l1 1M3.4 12.6l1-1M11.6 4.4l1-1M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6z",
  moon: "M13 9.8A5.6 5.6 0 0 1 6.2 3a5.6 5.6 0 1 0 6.8 6.8z",
  key: "M7.5 8A2.8 2.8 0 1 1 1.9 8a2.8 2.8 0 0 1 5.6 0zM7.5 8h6.6v3M11 8v2.2",
  pulse: "M1.5 8h3l2-5 3 10 2-5h3",
  leave: "M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6",
};

/** @param {{ shape: keyof typeof paths }} props */
export function Icon({ shape }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${paths[shape]} /></svg>`;
}

/** The mark of RECO3: a pulse inside a closed ring. */
export function Mark() {
  return html`<svg class="brand-mark" viewBox="0 0 32 32" aria-hidden="true">
    <rect class="brand-plate" x="1" y="1" width="30" height="30" rx="8" />
    <path class="brand-pulse" d="M6 17h5l3-8 4 14 3-6h5" />
  </svg>`;
}
