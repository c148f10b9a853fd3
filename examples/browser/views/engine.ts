// The panels about a network's engine: what it is made of, what fusion is worth, and its kernels by time.

import { html, type TemplateResult } from "lit-html";
import type { Actions } from "../actions.ts";
import type { NetworkReport } from "../protocol.ts";
import type { State } from "../state.ts";
import { bytes, count, duration } from "../words.ts";
import { fusionView } from "./fusion.ts";
import { kernelsView } from "./kernels.ts";

export function engineView(state: State, actions: Actions): TemplateResult {
  const network = state.networks.find(({ id }) => id === state.network);
  return html`<section class="card engine" aria-labelledby="engine-title">
    <h2 id="engine-title">Inside the engine</h2>
    ${
      network
        ? html`${pickerView(state, actions)} ${factsView(network, state, actions)} ${fusionView(network, state, actions)}
          ${kernelsView(network, state, actions)}`
        : html`<p class="quiet">
            When a network has been built, this shows its kernels by time, why each was chosen, and what fusion is worth.
          </p>`
    }
  </section>`;
}

function pickerView({ networks, network }: State, actions: Actions): TemplateResult {
  if (networks.length < 2) return html``;
  return html`<fieldset class="tabs small">
    <legend class="hidden">Network</legend>
    ${networks.map(
      ({ id, title }) =>
        html`<label
          ><input type="radio" name="network" .checked=${id === network} @change=${() => actions.select(id)} /><span>${title}</span></label
        >`,
    )}
  </fieldset>`;
}

function factsView(network: NetworkReport, { timings, busy }: State, actions: Actions): TemplateResult {
  const timing = timings[network.id];
  const { memory, kernels, hostLayers } = network;
  const size = (amount: number | string): string => (typeof amount === "number" ? bytes(amount) : amount);
  const facts = [
    [
      "Latency",
      timing ? duration(timing.latencyMs) : "–",
      timing ? (timing.runs === 1 ? "one run" : `median of ${timing.runs} runs`) : "not timed yet",
    ],
    [
      "Kernels",
      String(kernels.length),
      hostLayers.length === 0 ? "all on the GPU" : `${count(hostLayers.length, "layer")} on the CPU`,
    ],
    ["Weights", size(memory.weights), network.precision],
    ["Activations", size(memory.activations), `${size(memory.activationsLowerBound)} at least`],
    ["Engine file", bytes(network.bytes), fromOf(network)],
  ];
  return html`<div class="head">
      <p class="lead">${network.title}</p>
      <button ?disabled=${busy} @click=${() => actions.download(network.id)}>Download the engine</button>
    </div>
    <dl class="numbers">
      ${facts.map(([name, value, more]) => html`<div><dt>${name}</dt><dd><b>${value}</b><span>${more}</span></dd></div>`)}
    </dl>
    <details class="ends">
      <summary>Inputs and outputs</summary>
      <pre tabindex="0">${[...network.inputs.map((end) => `in   ${end}`), ...network.outputs.map((end) => `out  ${end}`)].join("\n")}</pre>
      ${hostLayersView(network)}
    </details>`;
}

const hostLayersView = ({ hostLayers }: NetworkReport): TemplateResult[] =>
  hostLayers.map(({ node, op, reason }) => html`<p class="quiet">${op} “${node}” runs on the CPU: ${reason}</p>`);

function fromOf({ from, seconds }: NetworkReport): string {
  const took = duration(1000 * seconds);
  return { built: `built in ${took}`, kept: `kept, loaded in ${took}`, file: `loaded in ${took}` }[from];
}
