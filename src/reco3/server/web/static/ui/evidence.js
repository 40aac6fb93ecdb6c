/**
 * What a PC reported about a command, drawn so that a person can judge by it.
 * It refuses to judge itself: what it does not know by name is shown as it came.
 */
import { html } from "../vendor/preact-htm-signals.js";
import { epochText, exitText, tookText } from "./outcomes.js";
import { isNumber } from "./quantities.js";
import { oneLine, visibleLines } from "./texts.js";

/** @import * as Shapes from "./shapes.js" */

const wellKnown = new Set(["success", "error", "output", "code", "exit_code", "duration_ms", "verification", "before", "after", "evidence", "rollback", "rolled_back"]);

const deepest = 4;

/** @typedef {Record<string, unknown>} Facts */

/**
 * @param {unknown} value
 * @returns {value is Facts}
 */
export function isFacts(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {{ result: Shapes.CommandResult, isRollback?: boolean }} props */
export function Evidence({ result, isRollback = false }) {
  const error = result.error ? oneLine(result.error) : "";
  const facts = [result.code ? `code ${oneLine(result.code)}` : "", exitText(result), tookText(result)].filter(Boolean);
  return html`${error && html`<p class="evidence-error">${error}</p>`}
    ${facts.length > 0 && html`<p class="evidence-facts">${facts.join(", ")}</p>`}
    <${Checks} verification=${result["verification"] ?? afterOf(result)["verification"]} />
    <${BeforeAfter} result=${result} />
    <${FactList} facts=${furtherFacts(result)} />
    <${OutputFold} output=${result.output} />
    ${!isRollback && html`<${Rollback} result=${result} />`}`;
}

/** What the PC did by itself to undo a failure. @param {{ result: Shapes.CommandResult }} props */
function Rollback({ result: { rolled_back: isBack, rollback } }) {
  if (!isFacts(rollback)) return isBack === false ? html`<p class="evidence-facts">It was not rolled back.</p>` : null;
  return html`<div class="rollback" data-worked=${isBack === true}>
    <p><strong>${isBack === true ? "Rolled back by the PC itself; that worked." : "The PC tried to roll back by itself; that failed too."}</strong></p>
    <${Evidence} result=${rollback} isRollback />
  </div>`;
}

/** @param {Shapes.CommandResult} result @returns {Facts} */
function afterOf(result) {
  const { after } = isFacts(result["evidence"]) ? result["evidence"] : result;
  return isFacts(after) ? after : {};
}

/** @param {Shapes.CommandResult} result @returns {Facts} */
function furtherFacts(result) {
  const evidence = isFacts(result["evidence"]) ? result["evidence"] : {};
  const further = Object.entries({ ...result, ...evidence }).filter(([name]) => !wellKnown.has(name));
  return Object.fromEntries(further);
}

/** Names with their values, whatever they are. @param {{ facts: Facts }} props */
export function FactList({ facts }) {
  const rows = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (rows.length === 0) return null;
  return html`<dl class="fact-list">
    ${rows.map(
      ([name, value]) => html`<div key=${name}>
        <dt>${nameText(name)}</dt>
        <dd><bdi>${valueText(name, value)}</bdi></dd>
      </div>`,
    )}
  </dl>`;
}

/** @param {string} name */
function nameText(name) {
  return oneLine(name.replace(/_time_ms$/u, "_time")).replaceAll("_", " ");
}

/**
 * A value in one line, as deep as a person would read.
 * @param {string} name
 * @param {unknown} value
 * @param {number} [depth]
 * @returns {string}
 */
function valueText(name, value, depth = 0) {
  if (depth > deepest) return "…";
  if (name.endsWith("time_ms") && isNumber(value)) return epochText(value);
  if (value === null || value === undefined || value === "") return "–";
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map((one) => valueText(name, one, depth + 1)).join(", ");
  if (!isFacts(value)) return oneLine(value);
  return Object.entries(value).map(([inner, one]) => `${nameText(inner)} ${valueText(inner, one, depth + 1)}`).join(", ");
}

/** @param {{ verification: unknown }} props */
function Checks({ verification }) {
  const checks = Array.isArray(verification) ? verification : isFacts(verification) ? verification["checks"] : null;
  if (!Array.isArray(checks) || checks.length === 0) return null;
  return html`<ul class="checks" aria-label="Verification">
    ${checks.map((check, index) => html`<${Check} key=${index} check=${isFacts(check) ? check : { check }} />`)}
  </ul>`;
}

/** @param {{ check: Facts }} props */
function Check({ check }) {
  const { check: name, name: otherName = "check", ok, passed = ok, detail, message = detail } = check;
  const verdict = passed === true ? "held" : passed === false ? "failed" : "not checked";
  return html`<li class="check" data-verdict=${verdict}>
    <span class="check-mark" aria-hidden="true"></span>
    <span><bdi>${valueText("check", name ?? otherName)}</bdi> <strong>${verdict}</strong>${message ? html`: <bdi>${oneLine(message)}</bdi>` : ""}</span>
  </li>`;
}

/** The world before and after, side by side, where the PC looked. @param {{ result: Shapes.CommandResult }} props */
export function BeforeAfter({ result }) {
  const evidence = isFacts(result["evidence"]) ? result["evidence"] : result;
  const was = isFacts(evidence["before"]) ? evidence["before"] : {};
  const is = afterOf(result);
  const names = [...new Set([...Object.keys(was), ...Object.keys(is)])].filter((name) => name !== "verification");
  if (names.length === 0) return null;
  return html`<table class="table before-after">
    <thead>
      <tr><th scope="col">On the PC</th><th scope="col">Before</th><th scope="col">After</th></tr>
    </thead>
    <tbody>
      ${names.map((name) => html`<${BeforeAfterRow} key=${name} name=${name} was=${was[name]} is=${is[name]} />`)}
    </tbody>
  </table>`;
}

/** @param {{ name: string, was: unknown, is: unknown }} props */
function BeforeAfterRow({ name, was, is }) {
  return html`<tr data-changed=${JSON.stringify(was) !== JSON.stringify(is)}>
    <th scope="row">${nameText(name)}</th>
    <td><bdi>${was === undefined ? "–" : valueText(name, was)}</bdi></td>
    <td><bdi>${is === undefined ? "–" : valueText(name, is)}</bdi></td>
  </tr>`;
}

/** @param {{ output: unknown }} props */
export function OutputFold({ output }) {
  if (output === undefined || output === null || output === "") return null;
  return html`<details class="command-output">
    <summary>Output</summary>
    <pre class="output">${visibleLines(typeof output === "string" ? output : JSON.stringify(output, null, 2))}</pre>
  </details>`;
}
