/**
 * What people say to each other about one command.
 * It refuses to decide by them: a comment changes nothing.
 */
import { html, useState } from "../vendor/preact-htm-signals.js";
import { commentOn } from "./api.js";
import { useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { actorName } from "./outcomes.js";
import { canRequest } from "./roles.js";
import { oneLine, visibleLines } from "./texts.js";
import { Moment } from "./times.js";

/** @import * as Shapes from "./shapes.js" */

/** @param {{ command: Shapes.CommandDetail, onSent: () => void }} props */
export function Comments({ command, onSent }) {
  const comments = command.comments ?? [];
  return html`<div class="comments">
    ${comments.map(
      (comment) => html`<div class="comment" key=${comment.id}>
        <p class="comment-head"><strong><bdi>${oneLine(actorName(comment.author))}</bdi></strong> <${Moment} stamp=${comment.created_at} /></p>
        <p class="comment-text"><bdi>${visibleLines(comment.text)}</bdi></p>
      </div>`,
    )}
    ${canRequest.value && html`<${NewComment} commandId=${command.id} onSent=${onSent} />`}
  </div>`;
}

/** @param {{ commandId: string, onSent: () => void }} props */
function NewComment({ commandId, onSent }) {
  const [text, setText] = useState("");
  const send = async () => {
    await commentOn(commandId, text.trim());
    setText("");
    onSent();
  };
  const { busy, problem, confirm } = useSending(send, () => {});
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    if (text.trim() && !busy) void confirm();
  };
  /** @param {{ currentTarget: HTMLInputElement }} event */
  const take = ({ currentTarget }) => setText(currentTarget.value);
  return html`<form class="new-comment" onSubmit=${submit}>
    <input class="input" type="text" maxlength="500" aria-label="Comment" placeholder="Comment" value=${text} onInput=${take} />
    <button type="submit" class="button small" disabled=${busy || !canAct.value || text.trim() === ""}>Say</button>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
  </form>`;
}
