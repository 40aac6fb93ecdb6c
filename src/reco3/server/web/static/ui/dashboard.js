/**
 * Where each section stands on the page.
 * It refuses to know what is in them.
 */
import { html, useState } from "../vendor/preact-htm-signals.js";
import { AccessPage } from "./access.js";
import { AgentsSection } from "./agents.js";
import { BreakGlassBanner, ReviewDialog } from "./breakglass.js";
import { ControlDialog, ControlsSection } from "./controls.js";
import { DecisionDialog } from "./decisions.js";
import { Icon, Mark } from "./icons.js";
import { IncidentsSection } from "./incidents.js";
import { ConnectionPill, OfflineBanner, connectionState } from "./live.js";
import { LogsSection } from "./logs.js";
import { MetricsSection } from "./metrics.js";
import { place } from "./places.js";
import { ProofDialog } from "./proofs.js";
import { QueueSection } from "./queue.js";
import { InvitationView, LoginView, SetupView, config, operator, view } from "./session.js";
import { oneLine } from "./texts.js";
import { chooseTheme, currentTheme } from "./themes.js";
import { ToastRegion } from "./toasts.js";

/** @import { Link } from "./session.js" */

/** @param {{ link: Link, onLogOut: () => void }} props */
export function Page({ link, onLogOut }) {
  if (view.value === "starting") return html`<main class="gate"><p class="quiet">Opening RECO3…</p></main>`;
  if (view.value === "setup" && link.setup !== null) return html`<${SetupView} token=${link.setup} />`;
  if (view.value === "invitation" && link.invitation !== null) return html`<${InvitationView} token=${link.invitation} />`;
  if (view.value !== "dashboard") return html`<${LoginView} />`;
  return html`<${Header} onLogOut=${onLogOut} />
    <${OfflineBanner} />
    <${BreakGlassBanner} />
    ${place.value === "access" ? html`<${AccessPage} onLogOut=${onLogOut} />` : html`<${Dashboard} />`}
    <${DecisionDialog} />
    <${ControlDialog} />
    <${ReviewDialog} />
    <${ProofDialog} />
    <${ToastRegion} />`;
}

function Dashboard() {
  return html`<main class="dashboard" id="main" data-stale=${connectionState.value === "offline"}>
      <${AgentsSection} />
      <${MetricsSection} />
      <div class="side">
        <${ControlsSection} />
        <${QueueSection} />
        <${IncidentsSection} />
      </div>
      <${LogsSection} />
    </main>`;
}

/** @param {{ onLogOut: () => void }} props */
function Header({ onLogOut }) {
  const who = operator.value;
  return html`<header class="top">
    <a class="skip" href="#main">Skip to the dashboard</a>
    <h1 class="brand"><${Mark} /> <span>RECO3</span></h1>
    <${ConnectionPill} />
    <span class="top-space"></span>
    ${who && html`<span class="who" title=${`role ${oneLine(who.role)}`}><bdi>${oneLine(who.name)}</bdi></span>`}
    ${who && html`<${PlaceButton} />`}
    <${ThemeButton} />
    ${who &&
    who.how !== "test-mode" &&
    html`<button type="button" class="button ghost icon-button log-out" onClick=${onLogOut}>
      <${Icon} shape="leave" /><span class="wide-text">Log out</span>
    </button>`}
    ${config.value?.test_mode && html`<strong class="test-badge">TEST MODE</strong>`}
  </header>`;
}

/** Leads to the other half of the page, and back. */
function PlaceButton() {
  const isAccess = place.value === "access";
  const change = () => {
    place.value = isAccess ? "dashboard" : "access";
    scrollTo(0, 0);
  };
  const text = isAccess ? "Dashboard" : "Access";
  return html`<button type="button" class="button ghost icon-button" aria-label=${text} title=${isAccess ? text : "Your keys, people, policies"} onClick=${change}>
    <${Icon} shape=${isAccess ? "pulse" : "key"} /><span class="wide-text">${text}</span>
  </button>`;
}

function ThemeButton() {
  const [theme, setTheme] = useState(currentTheme);
  const other = theme === "dark" ? "light" : "dark";
  const change = () => {
    chooseTheme(other);
    setTheme(other);
  };
  return html`<button
    type="button"
    class="button ghost icon-button"
    aria-label=${`Switch to the ${other} theme`}
    title=${`Switch to the ${other} theme`}
    onClick=${change}
  >
    <${Icon} shape=${other === "light" ? "sun" : "moon"} />
  </button>`;
}
