/**
 * How the selected PC is doing: numbers now, and a line of the chosen range each.
 * It refuses to fill holes: a PC that was away leaves a gap.
 */
import { computed, html, signal } from "../vendor/preact-htm-signals.js";
import { AgentStatus, LoadBar, LockState, ModeTag, selectedAgent, selectedId } from "./agents.js";
import { fetchSamples } from "./api.js";
import { HistoryNote, RangeChoice, forgetHistory, liveRange, longChart, range, refreshHistory } from "./history.js";
import { bytesText, isNumber, loadTone, percentText, rateText, usageText } from "./quantities.js";
import { coalesced } from "./refreshing.js";
import { Sparkline, peakOf, pointsOf, ratesOf } from "./sparklines.js";
import { counted, oneLine, visibleLines } from "./texts.js";
import { Age, noteServerTime, serverNowMs } from "./times.js";
import { TrustFacts } from "./trust.js";

/** @import * as Shapes from "./shapes.js" */
/** @import { Line } from "./sparklines.js" */

const currentForMs = 30_000;

const history = signal(/** @type {{ agentId: string | null, samples: Shapes.Sample[] }} */ ({ agentId: null, samples: [] }));
export const samples = computed(() => (history.value.agentId === selectedId.value ? history.value.samples : []));

export const refreshMetrics = coalesced(async () => {
  const agentId = selectedId.peek();
  if (agentId === null) return;
  const page = await fetchSamples(agentId, liveRange.durationMs / 60_000);
  noteServerTime(page.now);
  restoreSamples(agentId, page.samples ?? []);
  await refreshHistory(agentId);
});

/** @param {string | null} agentId @param {Shapes.Sample[]} kept */
export function restoreSamples(agentId, kept) {
  history.value = { agentId, samples: kept };
  if (agentId === null) forgetHistory();
}

export function MetricsSection() {
  const agent = selectedAgent.value;
  return html`<section class="panel metrics" aria-labelledby="metrics-heading">
    <header class="panel-head">
      <h2 id="metrics-heading">System Metrics</h2>
      ${agent && html`<span class="panel-subject"><bdi>${oneLine(agent.agent_id)}</bdi></span>`}
      ${agent && html`<${RangeChoice} onChosen=${() => void refreshMetrics().catch(() => {})} />`}
    </header>
    ${agent ? html`<${AgentMetrics} agent=${agent} />` : html`<p class="empty">No PC to show yet.</p>`}
  </section>`;
}

/** @param {{ agent: Shapes.Agent }} props */
function AgentMetrics({ agent }) {
  const metrics = agent.metrics ?? {};
  return html`<${AgentFacts} agent=${agent} metrics=${metrics} />
    <div class="tiles" data-stale=${agent.status === "OFFLINE"}>
      <${ShareTile}
        name="CPU"
        column="cpu_percent"
        percent=${metrics.cpu_percent}
        note=${isNumber(metrics.cpu_count) ? counted(metrics.cpu_count, "core") : ""}
      />
      <${ShareTile}
        name="Memory"
        column="mem_percent"
        percent=${metrics.mem_percent}
        note=${usageText(metrics.mem_used_mb, metrics.mem_total_mb, "MiB")}
      />
      <${ShareTile}
        name="Disk"
        column="disk_percent"
        percent=${metrics.disk_percent}
        note=${usageText(metrics.disk_used_gb, metrics.disk_total_gb, "GiB")}
      />
      <${NetworkTile} metrics=${metrics} />
    </div>
    <${HistoryNote} />
    <${ProcessTable} processes=${metrics.processes ?? []} />
    <${InterfaceList} interfaces=${metrics.interfaces ?? []} />`;
}

/** @param {{ agent: Shapes.Agent, metrics: Shapes.Metrics }} props */
function AgentFacts({ agent, metrics }) {
  return html`<div class="facts">
      <${AgentStatus} status=${agent.status} />
      <span>Seen <${Age} stamp=${agent.last_seen} /></span>
      <span><bdi>${oneLine(metrics.hostname ?? agent.agent_id)}</bdi></span>
      <span><bdi>${oneLine(agent.platform)}</bdi></span>
      <span>Agent <bdi>${oneLine(agent.version)}</bdi></span>
      <span>Mode <${ModeTag} mode=${agent.mode} /></span>
      <span>apply_enabled <${LockState} isOpen=${agent.apply_enabled} /></span>
    </div>
    <${TrustFacts} agent=${agent} />
    ${agent.status === "OFFLINE" &&
    html`<p class="note" data-tone="warn">This PC is OFFLINE. The numbers are from <${Age} stamp=${agent.last_seen} />.</p>`}
    ${agent.last_error &&
    html`<details class="full-error">
      <summary>Last error, <${Age} stamp=${agent.last_error_at} /></summary>
      <pre class="output">${visibleLines(agent.last_error)}</pre>
    </details>`}`;
}

/** What the tiles draw: report by report of the last minutes, or a longer range in steps. */
const chart = computed(() => {
  if (range.value !== liveRange) return longChart.value ?? emptyChart();
  const toMs = serverNowMs.value;
  return {
    fromMs: toMs - liveRange.durationMs,
    toMs,
    longestStepMs: undefined,
    shares: {
      cpu_percent: pointsOf(samples.value, "cpu_percent"),
      mem_percent: pointsOf(samples.value, "mem_percent"),
      disk_percent: pointsOf(samples.value, "disk_percent"),
    },
    received: receivedNow.value,
    sent: sentNow.value,
    restarts: [],
  };
});
const receivedNow = computed(() => ratesOf(pointsOf(samples.value, "net_bytes_recv")));
const sentNow = computed(() => ratesOf(pointsOf(samples.value, "net_bytes_sent")));

function emptyChart() {
  const shares = { cpu_percent: [], mem_percent: [], disk_percent: [] };
  return { fromMs: 0, toMs: 1, longestStepMs: undefined, shares, received: [], sent: [], restarts: [] };
}

/** @param {{ name: string, column: "cpu_percent" | "mem_percent" | "disk_percent", percent: number | null | undefined, note: string }} props */
function ShareTile({ name, column, percent, note }) {
  const points = chart.value.shares[column];
  const peak = peakOf(points);
  return html`<article class="tile">
    <h3>${name}</h3>
    <p class="tile-value" data-tone=${loadTone(percent)}>${percentText(percent)}</p>
    <p class="tile-note">${note}</p>
    <${LoadBar} percent=${percent} />
    <${Chart}
      name=${name}
      lines=${[{ name: column, points }]}
      top=${100}
      peakText=${points.length === 0 ? null : percentText(peak)}
    />
  </article>`;
}

/** @param {{ metrics: Shapes.Metrics }} props */
function NetworkTile({ metrics }) {
  const { received, sent } = chart.value;
  const nowMs = serverNowMs.value;
  const peak = Math.max(peakOf(received) ?? 0, peakOf(sent) ?? 0);
  return html`<article class="tile network">
    <h3>Network</h3>
    <p class="tile-value rates">
      <span class="rate-in"><span class="rate-name">in</span> ${rateText(currentRate(receivedNow.value, nowMs))}</span>
      <span class="rate-out"><span class="rate-name">out</span> ${rateText(currentRate(sentNow.value, nowMs))}</span>
    </p>
    <p class="tile-note" title="since boot">Σ ${bytesText(metrics.net_bytes_recv)} / ${bytesText(metrics.net_bytes_sent)}</p>
    <${Chart}
      name="Network"
      lines=${[
        { name: "in", points: received },
        { name: "out", points: sent },
      ]}
      peakText=${received.length === 0 ? null : rateText(peak)}
    />
  </article>`;
}

/** @param {{ name: string, lines: Line[], top?: number, peakText: string | null }} props */
function Chart({ name, lines, top, peakText }) {
  const { fromMs, toMs, longestStepMs, restarts } = chart.value;
  const said = peakText === null ? "no samples" : `highest ${peakText}`;
  return html`<${Sparkline}
      lines=${lines}
      fromMs=${fromMs}
      toMs=${toMs}
      top=${top}
      longestStepMs=${longestStepMs}
      marksMs=${restarts}
      label=${`${name}, ${range.value.text}: ${said}`}
    />
    <p class="tile-range"><span>−${range.value.name}</span><span>peak ${peakText ?? "–"}</span><span>now</span></p>`;
}

/** A rate that is no longer current is not shown as one. @param {{ atMs: number, value: number }[]} rates @param {number} nowMs */
function currentRate(rates, nowMs) {
  const last = rates.at(-1);
  return last && nowMs - last.atMs <= currentForMs ? last.value : null;
}

/** @param {{ processes: Shapes.WatchedProcess[] }} props */
function ProcessTable({ processes }) {
  if (processes.length === 0) return html`<p class="quiet small-note">This PC watches no process (watch.processes).</p>`;
  return html`<div class="scroll-x">
    <table class="table processes">
      <caption>
        Watched processes
      </caption>
      <thead>
        <tr>
          <th scope="col">Process</th>
          <th scope="col">State</th>
          <th scope="col" class="number">pid</th>
          <th scope="col" class="number">Count</th>
          <th scope="col" class="number">Restarts</th>
          <th scope="col" class="wide-only">allow_restart</th>
        </tr>
      </thead>
      <tbody>
        ${processes.map((process, index) => html`<${ProcessRow} key=${`${process.name}#${index}`} process=${process} />`)}
      </tbody>
    </table>
  </div>`;
}

/** @param {{ process: Shapes.WatchedProcess }} props */
function ProcessRow({ process }) {
  const pids = (process.pids ?? []).join(", ");
  return html`<tr>
    <th scope="row"><bdi>${oneLine(process.name)}</bdi></th>
    <td>
      <span class="status" data-status=${process.running ? "ONLINE" : "OFFLINE"}>
        <span class="status-mark" aria-hidden="true"></span>${process.running ? "running" : "not running"}
      </span>
    </td>
    <td class="number" title=${pids}>${process.pid ?? "–"}</td>
    <td class="number">${process.count ?? "–"}</td>
    <td class="number">${process.restarts ?? "–"}</td>
    <td class="wide-only">${process.allow_restart === true ? "true" : process.allow_restart === false ? "false" : "–"}</td>
  </tr>`;
}

/** @param {{ interfaces: Shapes.InterfaceTotals[] }} props */
function InterfaceList({ interfaces }) {
  if (interfaces.length === 0) return null;
  return html`<details class="interfaces">
    <summary>${counted(interfaces.length, "network interface")}</summary>
    <ul class="plain-list">
      ${interfaces.map(
        (one, index) => html`<li key=${`${one.name}#${index}`}>
          <bdi>${oneLine(one.name)}</bdi>
          <span class="quiet">${bytesText(one.bytes_recv)} in, ${bytesText(one.bytes_sent)} out since boot</span>
        </li>`,
      )}
    </ul>
  </details>`;
}
