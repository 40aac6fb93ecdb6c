/**
 * Turns numbers into text with their unit; a number that is missing is a dash.
 * It refuses to guess: what is not a finite number is missing.
 */

const missing = "–";
const byteUnits = ["B", "kB", "MB", "GB", "TB", "PB"];

/**
 * @param {unknown} value
 * @returns {value is number}
 */
export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** @param {unknown} value */
export function percentText(value) {
  if (!isNumber(value)) return missing;
  return `${value >= 99.95 || value < 0.05 ? value.toFixed(0) : value.toFixed(1)} %`;
}

/** @param {unknown} value */
export function wholePercentText(value) {
  return isNumber(value) ? `${Math.round(value)} %` : missing;
}

/** @param {unknown} bytes */
export function bytesText(bytes) {
  if (!isNumber(bytes) || bytes < 0) return missing;
  const power = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), byteUnits.length - 1);
  const scaled = bytes / 1000 ** power;
  return `${scaled.toFixed(power === 0 || scaled >= 99.5 ? 0 : 1)} ${byteUnits[power]}`;
}

/** @param {unknown} bytesPerSecond */
export function rateText(bytesPerSecond) {
  return isNumber(bytesPerSecond) ? `${bytesText(bytesPerSecond)}/s` : missing;
}

/**
 * "3.2 of 16.0 GiB", from the sizes a PC sends.
 * @param {unknown} used
 * @param {unknown} total
 * @param {"MiB" | "GiB"} unit
 */
export function usageText(used, total, unit) {
  if (!isNumber(used) || !isNumber(total)) return "";
  const divisor = unit === "MiB" ? 1024 : 1;
  return `${(used / divisor).toFixed(1)} of ${(total / divisor).toFixed(1)} GiB`;
}

/**
 * How worrying a share of a resource is.
 * @param {unknown} percent
 * @returns {"good" | "warn" | "bad" | "plain"}
 */
export function loadTone(percent) {
  if (!isNumber(percent)) return "plain";
  if (percent >= 90) return "bad";
  return percent >= 80 ? "warn" : "good";
}
