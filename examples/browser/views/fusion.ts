// Fused against unfused: a chart, and the same in words.

import { html, type TemplateResult } from "lit-html";
import type { Actions } from "../actions.ts";
import type { Comparison, NetworkReport } from "../protocol.ts";
import type { State } from "../state.ts";
import { bytes, duration } from "../words.ts";
import { chartView } from "./chart.ts";

export function fusionView(network: NetworkReport, state: State, actions: Actions): TemplateResult {
  const comparison = state.comparisons[network.id];
  return html`<div class="panel fusion">
    <h3>What fusion is worth</h3>
    ${comparison ? comparedView(comparison) : uncomparedView(network, state, actions)}
  </div>`;
}

function comparedView(comparison: Comparison): TemplateResult {
  const { fused, unfused } = comparison;
  const memory =
    fused.memory === unfused.memory
      ? `the same ${bytes(fused.memory)} of activations`
      : `${bytes(fused.memory)} of activations instead of ${bytes(unfused.memory)}`;
  return html`<figure>
    ${chartView("fusion", [comparison], (charts, width) => charts.fusionChart(comparison, width))}
    <figcaption>
      ${fused.kernels} kernels instead of ${unfused.kernels}, ${memory}, and ${duration(fused.latencyMs)} instead of
      ${duration(unfused.latencyMs)}.
    </figcaption>
  </figure>`;
}

function uncomparedView({ id, comparable }: NetworkReport, { busy }: State, actions: Actions): TemplateResult {
  if (!comparable)
    return html`<p class="quiet blank">An engine file holds no model, so there is nothing here to build without fusion.</p>`;
  return html`<div class="blank">
    <p class="quiet">Not measured yet. Kiln builds the network a second time, every operator as a kernel of its own.</p>
    <button ?disabled=${busy} @click=${() => actions.compare(id)}>Build it without fusion</button>
  </div>`;
}
