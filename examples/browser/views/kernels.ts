// Kernels by time, coloured by tactic, and one of them in full: shapes, WGSL, and the candidates that lost.

import { html, type TemplateResult } from "lit-html";
import { live } from "lit-html/directives/live.js";
import { ref } from "lit-html/directives/ref.js";
import { styleMap } from "lit-html/directives/style-map.js";
import type { Actions } from "../actions.ts";
import type { ContestReport, KernelReport, NetworkReport, Timing } from "../protocol.ts";
import type { State } from "../state.ts";
import { count, digits, duration, percent } from "../words.ts";
import { chartView } from "./chart.ts";

/** Apart in hue and in lightness, on light and on dark: Observable's ten. */
const COLORS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"];
const MOST_LOSERS = 12;

export function kernelsView(network: NetworkReport, state: State, actions: Actions): TemplateResult {
  const timing = state.timings[network.id];
  const kernel = network.kernels[state.kernel];
  if (network.kernels.length === 0)
    return html`<div class="panel"><h3>Kernels</h3><p class="quiet">There are none: all of it runs on the CPU.</p></div>`;
  const colors = colorsOf(network.kernels);
  return html`<div class="panel kernels">
    <h3>Kernels by time</h3>
    ${timelineView(network, state, timing, colors, actions)}
    <div class="pair">
      ${listView(network, state, timing, colors, actions)} ${kernel ? kernelView(kernel, timing?.kernelMs?.[state.kernel], timing) : ""}
    </div>
  </div>`;
}

/** A colour for each tactic, those with most kernels first. */
function colorsOf(kernels: readonly KernelReport[]): ReadonlyMap<string, string> {
  const counts = new Map<string, number>();
  for (const { tactic } of kernels) counts.set(tactic, (counts.get(tactic) ?? 0) + 1);
  const tactics = [...counts].sort((a, b) => b[1] - a[1]).map(([tactic]) => tactic);
  return new Map(tactics.map((tactic, i) => [tactic, COLORS[Math.min(i, COLORS.length - 1)]!]));
}

function timelineView(
  { kernels }: NetworkReport,
  state: State,
  timing: Timing | undefined,
  colors: ReadonlyMap<string, string>,
  actions: Actions,
): TemplateResult {
  const { kernelMs } = timing ?? {};
  if (!kernelMs)
    return html`<p class="quiet blank">
      ${timing ? "This device has no timestamps: kernels cannot be timed one by one. They are listed in the order in which they run." : "Not timed yet."}
    </p>`;
  let now = 0;
  const spans = kernels.map((kernel, number) => {
    const start = now;
    now += kernelMs[number]!;
    return { kernel, number, start, end: now };
  });
  const shares = [...colors].map(([tactic, color]) => ({
    tactic,
    color,
    ms: spans.reduce((sum, { kernel, start, end }) => sum + (kernel.tactic === tactic ? end - start : 0), 0),
  }));
  return html`${chartView("timeline", [kernels, timing, state.kernel], (charts, width) =>
    charts.timelineChart(spans, colors, state.kernel, width, (number) => actions.select(state.network!, number)),
  )}
    <ul class="legend" aria-label="Share of each tactic">
      ${shares
        .sort((a, b) => b.ms - a.ms)
        .map(
          ({ tactic, color, ms }) => html`<li>${swatch(color)}${tactic} <span>${percent(ms / Math.max(now, 1e-9))}</span></li>`,
        )}
    </ul>`;
}

/** How many characters all names begin with, up to the last slash: exporters put a model's whole path before each. */
function sharedPath(names: readonly string[]): number {
  const [first = "", ...others] = names;
  let length = 0;
  while (length < first.length && others.every((name) => name[length] === first[length])) length++;
  return others.length === 0 ? 0 : first.lastIndexOf("/", length - 1) + 1;
}

const swatch = (color: string): TemplateResult => html`<i class="swatch" style=${styleMap({ background: color })}></i>`;

/** All kernels in order; arrows, Home and End move the choice. */
function listView(
  { id, kernels }: NetworkReport,
  state: State,
  timing: Timing | undefined,
  colors: ReadonlyMap<string, string>,
  actions: Actions,
): TemplateResult {
  const last = kernels.length - 1;
  const shared = sharedPath(kernels.map(({ name }) => name));
  const onKey = (event: KeyboardEvent): void => {
    const to = { ArrowDown: state.kernel + 1, ArrowUp: state.kernel - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    actions.select(id, Math.min(last, Math.max(0, to)));
  };
  return html`<ol
    class="list"
    role="listbox"
    tabindex="0"
    aria-label="Kernels in the order in which they run"
    aria-activedescendant="kernel-${state.kernel}"
    @keydown=${onKey}
  >
    ${kernels.map(
      ({ name, tactic }, i) => html`<li
        id="kernel-${i}"
        role="option"
        aria-selected=${live(i === state.kernel ? "true" : "false")}
        ${ref(i === state.kernel ? reveal : undefined)}
        @click=${() => actions.select(id, i)}
      >
        ${swatch(colors.get(tactic)!)}<span class="name" title=${name}>${name.slice(shared)}</span
        ><span class="time">${timing?.kernelMs ? duration(timing.kernelMs[i]!) : ""}</span>
      </li>`,
    )}
  </ol>`;
}

/** Scrolls the list, and nothing but the list, to one of its kernels. */
function reveal(option: Element | undefined): void {
  const list = option?.parentElement;
  if (!list) return;
  const { offsetTop, offsetHeight } = option as HTMLElement;
  list.scrollTop = Math.min(offsetTop, Math.max(list.scrollTop, offsetTop + offsetHeight - list.clientHeight));
}

function kernelView(kernel: KernelReport, ms: number | undefined, timing: Timing | undefined): TemplateResult {
  const { name, tactic, config, nodes, workgroups, wgsl, contests } = kernel;
  const total = timing?.kernelMs?.reduce((sum, one) => sum + one, 0);
  const tensors = (list: KernelReport["inputs"]): TemplateResult[] =>
    list.map(({ name, dtype, shape }) => html`<li><code>${dtype}[${shape.join(", ")}]</code> ${name}</li>`);
  return html`<article class="kernel" aria-label="Kernel ${name}">
    <h4>${name}</h4>
    <p class="quiet">
      ${tactic}${ms === undefined ? "" : html` · ${duration(ms)}${total ? ` · ${percent(ms / total)} of the time` : ""}`} ·
      ${workgroups.join(" × ")} workgroups
    </p>
    <dl class="shapes">
      ${configText(config) && html`<dt>Configuration</dt><dd><code>${configText(config)}</code></dd>`}
      <dt>Reads</dt><dd><ul>${tensors(kernel.inputs)}</ul></dd>
      <dt>Writes</dt><dd><ul>${tensors(kernel.outputs)}</ul></dd>
      <dt>Computes</dt><dd>${nodes.length > 6 ? `${nodes.slice(0, 6).join(", ")} and ${nodes.length - 6} more` : nodes.join(", ")}</dd>
    </dl>
    ${contestsView(contests)}
    <details class="wgsl" open>
      <summary>WGSL, ${count(wgsl.split("\n").length, "line")}</summary>
      <pre tabindex="0" aria-label="WGSL of ${name}">${wgsl}</pre>
    </details>
  </article>`;
}

function contestsView(contests: readonly ContestReport[]): TemplateResult {
  const measured = contests.filter(({ contenders }) => contenders.length > 1);
  if (measured.length === 0)
    return html`<p class="quiet">No other candidate was measured for it: there was none, or no time left.</p>`;
  return html`${measured.map(
    ({ task, contenders }) => html`<table>
      <caption>
        ${count(contenders.length, "candidate")}${measured.length > 1 ? ` for ${task}` : ""}
      </caption>
      <thead>
        <tr><th scope="col">Tactic</th><th scope="col">Configuration</th><th scope="col">Time</th></tr>
      </thead>
      <tbody>
        ${contenders.slice(0, MOST_LOSERS).map(
          ({ tactic, config, ms, rejected, won }) => html`<tr class=${won ? "won" : ""}>
            <td>${tactic}${won ? html` <span class="tag">chosen</span>` : ""}</td>
            <td><code>${configText(config) || "–"}</code></td>
            <td>${ms === undefined ? html`<span class="rejected">${rejected ?? "rejected"}</span>` : timeText(ms, contenders[0]!.ms)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
    ${contenders.length > MOST_LOSERS ? html`<p class="quiet">and ${contenders.length - MOST_LOSERS} slower ones</p>` : ""}`,
  )}`;
}

const timeText = (ms: number, best: number | undefined): string =>
  best === undefined || ms <= best ? duration(ms) : `${duration(ms)}, ${digits(ms / best)}×`;

const configText = (config: Readonly<Record<string, unknown>>): string =>
  Object.entries(config)
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");
