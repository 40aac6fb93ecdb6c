/**
 * Which of the two halves of the page is looked at: what happens on the PCs, or who may do what.
 * It refuses to know what is in them.
 */
import { signal } from "../vendor/preact-htm-signals.js";

/** @typedef {"dashboard" | "access"} Place */

export const place = signal(/** @type {Place} */ ("dashboard"));
/** Whether somebody came to the other half to let a PC in, and should find himself there. */
export const wantsEnrolment = signal(false);
