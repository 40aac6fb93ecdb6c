/**
 * Who has an account: invite, give another role, disable. For administrators.
 * It refuses to set a password: whoever is invited chooses it.
 */
import { html, signal, useState } from "../vendor/preact-htm-signals.js";
import { changePerson, fetchPeople, invitePerson, invitePersonAgain, withdrawInvitation } from "./api.js";
import { Copyable } from "./copying.js";
import { ConfirmDialog, useSending } from "./dialogs.js";
import { canAct } from "./live.js";
import { withProof } from "./proofs.js";
import { roleNames, roleTexts } from "./roles.js";
import { operator } from "./session.js";
import { counted, oneLine, shortLine } from "./texts.js";
import { momentText } from "./times.js";
import { showToast } from "./toasts.js";

/** @import * as Shapes from "./shapes.js" */

const people = signal(/** @type {Shapes.Person[] | null} */ (null));
const invited = signal(/** @type {Shapes.Invited[]} */ ([]));
const invitation = signal(/** @type {Shapes.Invitation | null} */ (null));
const changing = signal(/** @type {Shapes.Person | null} */ (null));

export async function refreshPeople() {
  const page = await fetchPeople();
  people.value = page.operators;
  invited.value = page.invitations ?? [];
}

export function forgetPeople() {
  people.value = null;
  invited.value = [];
  invitation.value = null;
  changing.value = null;
}

export function PeopleSection() {
  const rows = people.value ?? [];
  return html`<section class="panel people" aria-labelledby="people-heading">
    <header class="panel-head"><h2 id="people-heading">People</h2></header>
    ${!people.value && html`<p class="empty">Waiting for the server…</p>`}
    ${rows.length > 0 && html`<ul class="rows">${rows.map((person) => html`<${PersonRow} key=${person.name} person=${person} />`)}</ul>`}
    ${invited.value.length > 0 && html`<ul class="rows invited">${invited.value.map((one) => html`<${InvitedRow} key=${one.name} one=${one} />`)}</ul>`}
    <${InviteForm} />
    ${invitation.value && html`<${InvitationNote} invitation=${invitation.value} />`}
    ${changing.value && html`<${PersonDialog} key=${changing.value.name} person=${changing.value} />`}
  </section>`;
}

/** @param {{ person: Shapes.Person }} props */
function PersonRow({ person }) {
  const change = () => {
    changing.value = person;
  };
  return html`<li class="person" data-disabled=${Boolean(person.disabled_at)}>
    <div class="person-words">
      <p><strong><bdi>${oneLine(person.name)}</bdi></strong> <span class="tag">${oneLine(person.role)}</span>${person.disabled_at && html` <span class="tag" data-tone="bad">disabled</span>`}</p>
      <p class="quiet">${standingText(person)}</p>
    </div>
    <button type="button" class="button small" disabled=${!canAct.value} aria-label=${`Change ${oneLine(person.name)}`} onClick=${change}>Change</button>
  </li>`;
}

/** @param {{ one: Shapes.Invited }} props */
function InvitedRow({ one }) {
  const withdraw = async () => {
    try {
      await withProof(() => withdrawInvitation(one.name));
      await refreshPeople();
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      showToast({ key: "withdraw", tone: "bad", title: "The invitation was not withdrawn", text });
    }
  };
  return html`<li class="person">
    <div class="person-words">
      <p><strong><bdi>${oneLine(one.name)}</bdi></strong> <span class="tag">${oneLine(one.role)}</span> <span class="tag">invited</span></p>
      <p class="quiet">the link works until ${momentText(one.expires_at)}</p>
    </div>
    <button type="button" class="button small" disabled=${!canAct.value} aria-label=${`Withdraw the invitation of ${oneLine(one.name)}`} onClick=${withdraw}>Withdraw</button>
  </li>`;
}

/** @param {Shapes.Person} person */
function standingText({ disabled_at: disabledAt, has_password: hasPassword, keys }) {
  if (disabledAt) return `disabled ${momentText(disabledAt)}`;
  const ways = [hasPassword ? "password" : "", keys ? counted(keys, "key") : ""].filter(Boolean);
  return ways.length > 0 ? ways.join(", ") : "no password and no key";
}

function InviteForm() {
  const [draft, setDraft] = useState({ name: "", role: "approver" });
  const invite = async () => {
    invitation.value = await withProof(() => invitePerson({ name: draft.name.trim(), role: draft.role }));
    setDraft((before) => ({ ...before, name: "" }));
    await refreshPeople();
  };
  const { busy, problem, confirm } = useSending(invite, () => {});
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    if (!busy) void confirm();
  };
  return html`<form class="invite panel-form" onSubmit=${submit}>
    <label class="field"><span>Invite</span><input class="input" type="text" maxlength="64" required placeholder="name" value=${draft.name} onInput=${(/** @type {{ currentTarget: HTMLInputElement }} */ { currentTarget: { value } }) => setDraft((before) => ({ ...before, name: value }))} /></label>
    <${RoleChoice} role=${draft.role} onRole=${(/** @type {string} */ role) => setDraft((before) => ({ ...before, role }))} />
    <button type="submit" class="button primary" disabled=${busy || !canAct.value}>Invite</button>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
  </form>`;
}

/** @param {{ role: string, onRole: (role: string) => void }} props */
export function RoleChoice({ role, onRole }) {
  return html`<label class="field">
    <span>Role</span>
    <select class="input" value=${role} onChange=${(/** @type {{ currentTarget: HTMLSelectElement }} */ { currentTarget }) => onRole(currentTarget.value)}>
      ${roleNames.map((name) => html`<option key=${name} value=${name}>${name}: ${roleTexts[name]}</option>`)}
    </select>
  </label>`;
}

/** @param {{ invitation: Shapes.Invitation }} props */
function InvitationNote({ invitation: { name, link, expires_at: expiresAt } }) {
  return html`<div class="note invitation">
    <p>Give this link to <strong><bdi>${shortLine(name, 64)}</bdi></strong>. It works once, until ${momentText(expiresAt)}, and is shown this once.</p>
    <${Copyable} text=${oneLine(link)} name="the invitation" />
  </div>`;
}

/** @param {{ person: Shapes.Person }} props */
function PersonDialog({ person }) {
  const [role, setRole] = useState(person.role);
  const [isDisabled, setDisabled] = useState(Boolean(person.disabled_at));
  const close = () => {
    changing.value = null;
  };
  const change = async () => {
    await withProof(() => changePerson(person.name, { role, disabled: isDisabled }));
    await refreshPeople();
  };
  const reset = async () => {
    invitation.value = await withProof(() => invitePersonAgain(person.name));
  };
  const { busy, problem, confirm } = useSending(change, close);
  const resetting = useSending(reset, close);
  return html`<${ConfirmDialog} title=${`Change ${shortLine(person.name, 40)}`} confirmLabel="Save" busy=${busy} problem=${problem ?? resetting.problem} onConfirm=${confirm} onCancel=${close}>
    <${RoleChoice} role=${role} onRole=${setRole} />
    <label class="choice">
      <input type="checkbox" checked=${isDisabled} onChange=${() => setDisabled(!isDisabled)} />
      <span>Disabled: logged out everywhere, cannot log in</span>
    </label>
    <button type="button" class="button" disabled=${resetting.busy} onClick=${resetting.confirm}>Make a link for a new password</button>
    ${person.name === operator.value?.name && html`<p class="note" data-tone="warn">This is you. Be sure that somebody else is an administrator.</p>`}
  </${ConfirmDialog}>`;
}
