/**
 * The other half of the page: one's keys and session, and who may do what.
 * It refuses to know what is in its sections.
 */
import { html, useEffect } from "../vendor/preact-htm-signals.js";
import { BreakGlassSection } from "./breakglass.js";
import { EnrolmentsSection, refreshEnrolments } from "./enrolments.js";
import { KeysSection, refreshKeys } from "./keys.js";
import { PeopleSection, refreshPeople } from "./people.js";
import { PoliciesSection, refreshPolicies } from "./policies.js";
import { canApprove, canAudit, isAdmin } from "./roles.js";
import { oneLine } from "./texts.js";
import { showToast } from "./toasts.js";
import { TokensSection, refreshTokens } from "./tokens.js";
import { TrustChangesSection, refreshTrustChanges } from "./trustchanges.js";
import { YouSection, refreshSessions } from "./yourself.js";

/** Fetches what the person may see. */
async function refreshAccess() {
  const loads = [refreshKeys(), refreshTokens(), refreshSessions(), refreshTrustChanges()];
  if (isAdmin.peek()) loads.push(refreshPeople(), refreshEnrolments());
  if (canApprove.peek() || canAudit.peek()) loads.push(refreshPolicies());
  const refused = (await Promise.allSettled(loads)).find(({ status }) => status === "rejected");
  if (refused?.status === "rejected") showToast({ key: "access", tone: "bad", title: "Something could not be loaded", text: oneLine(refused.reason?.message), count: 1 });
}

/** @param {{ onLogOut: () => void }} props */
export function AccessPage({ onLogOut }) {
  useEffect(() => {
    void refreshAccess();
  }, []);
  return html`<main class="access" id="main">
    <div class="access-column">
      <${KeysSection} />
      <${YouSection} onLogOut=${onLogOut} />
      <${TokensSection} />
    </div>
    <div class="access-column">
      <${BreakGlassSection} />
      <${TrustChangesSection} />
      ${isAdmin.value && html`<${EnrolmentsSection} /><${PeopleSection} />`}
      ${(canApprove.value || canAudit.value) && html`<${PoliciesSection} />`}
    </div>
  </main>`;
}
