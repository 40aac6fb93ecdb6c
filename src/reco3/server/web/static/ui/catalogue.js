/**
 * The command types in words a person decides by.
 * It refuses to judge a payload: the server and the PC check it, each by itself.
 */
import { oneLine } from "./texts.js";

/** @import * as Shapes from "./shapes.js" */

/** @type {Record<string, (payload: Shapes.Payload) => string>} */
const sentences = {
  SET_MODE: ({ mode }) => `Set the mode to ${oneLine(mode)}`,
  SET_RATE_LIMIT: ({ endpoint, limit_rps: limit }) => `Limit ${oneLine(endpoint)} to ${oneLine(limit)} requests/s`,
  NOTIFY_OPS: ({ severity, message }) => `Notify operations (${oneLine(severity)}): ${oneLine(message)}`,
  RESTART_PROCESS: ({ process }) => `Restart ${oneLine(process)}`,
  STOP_PROCESS: ({ process }) => `Stop ${oneLine(process)}`,
  ROLLBACK: rollbackSentence,
};

/** @param {Shapes.Payload} payload */
function rollbackSentence({ process, command_id: commandId }) {
  if (process) return `Roll back ${oneLine(process)}`;
  return commandId ? `Undo command ${oneLine(commandId)}` : "Undo the last change";
}

/**
 * @param {string} type
 * @param {Shapes.Payload | null} payload
 */
export function sentenceOf(type, payload) {
  const sentence = Object.hasOwn(sentences, type) ? sentences[type] : undefined;
  return sentence ? sentence(payload ?? {}) : oneLine(type);
}

/** @param {Shapes.Payload | null} payload */
export function payloadText(payload) {
  return oneLine(JSON.stringify(payload ?? {}));
}
