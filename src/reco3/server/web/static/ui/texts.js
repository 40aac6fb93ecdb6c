/**
 * Makes text from PCs safe to look at: what is invisible or turns the line around is shown as its code point.
 * It refuses to escape markup: that is the template's work.
 */

// Controls, formats (bidi marks, zero widths, tags), surrogates, private and unassigned characters, separators, and
// the letters that look like nothing.
const unseen = /[\p{C}\p{Zl}\p{Zp}\u115F\u1160\u2800\u3164\uFFA0]/gu;
// More than four marks on one letter climb over the neighbouring lines.
const piledMarks = /(\p{M}{4})\p{M}+/gu;

/** @param {string} character */
function codePoint(character) {
  const number = character.codePointAt(0) ?? 0;
  return `‹U+${number.toString(16).toUpperCase().padStart(4, "0")}›`;
}

/**
 * One line in which every character can be seen.
 * @param {unknown} text
 */
export function oneLine(text) {
  return visibleLines(text).replace(/\n/gu, " ⏎ ").replace(/\t/gu, " ");
}

/**
 * Like `oneLine`, but line breaks and tabs stay.
 * @param {unknown} text
 */
export function visibleLines(text) {
  return String(text ?? "")
    .replace(/\r\n/gu, "\n")
    .replace(unseen, (character) => (character === "\n" || character === "\t" ? character : codePoint(character)))
    .replace(piledMarks, "$1…");
}

/**
 * `oneLine`, cut to a length for a button or a notification.
 * @param {unknown} text
 * @param {number} maxChars
 */
export function shortLine(text, maxChars = 60) {
  const characters = Array.from(oneLine(text));
  return characters.length <= maxChars ? characters.join("") : `${characters.slice(0, maxChars - 1).join("")}…`;
}

/**
 * @param {number} count
 * @param {string} singular
 * @param {string} [plural]
 */
export function counted(count, singular, plural = `${singular}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? singular : plural}`;
}
