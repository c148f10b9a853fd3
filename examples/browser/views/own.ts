// A model of the visitor's own: dropped or chosen, its free sizes asked for, built, inspected and timed.

import { html, nothing, type TemplateResult } from "lit-html";
import type { Actions } from "../actions.ts";
import type { State } from "../state.ts";
import { count, duration } from "../words.ts";
import { messageView } from "./messages.ts";
import { progressView } from "./progress.ts";

export function ownView(state: State, actions: Actions): TemplateResult {
  const { own, busy } = state;
  const choose = (event: Event): void => {
    const input = event.target as HTMLInputElement;
    const file = input.files?.[0];
    input.value = "";
    if (file) void actions.take(file);
  };
  return html`<div class="own">
    <div class="drop">
      <p><b>Drop an ONNX model here</b></p>
      <p class="quiet">It is compiled, inspected and timed on your GPU. An engine that you saved loads the same way.</p>
      <label class="button primary ${busy ? "disabled" : ""}"
        >Choose a file<input class="hidden" type="file" accept=".onnx,.engine" ?disabled=${busy} @change=${choose}
      /></label>
      ${progressView(state)}
    </div>
    ${messageView(state, actions)} ${own && own.sizes.length > 0 ? sizesView(state, actions) : nothing} ${doneView(state)}
  </div>`;
}

/** The network is there: where to look. */
function doneView({ networks, network, timings }: State): TemplateResult {
  const report = networks.find(({ id }) => id === network && id.startsWith("own-"));
  if (!report) return html``;
  const timing = timings[report.id];
  return html`<p class="done" role="status">
    <b>${report.title}</b> runs in ${count(report.kernels.length, "kernel")}${timing ? html`, ${duration(timing.latencyMs)} a run` : ""}.
    <a href="#engine-title">Look inside</a>
  </p>`;
}

function sizesView({ own, busy }: State, actions: Actions): TemplateResult {
  const build = (event: SubmitEvent): void => {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    void actions.buildOwn(Object.fromEntries([...fields].map(([name, value]) => [name, Number(value)])));
  };
  return html`<form class="sizes" @submit=${build}>
    <h2>${own!.name}</h2>
    <p class="quiet">It leaves some sizes free. Which should it be built for?</p>
    <div class="fields">
      ${own!.sizes.map(
        ({ name, size }) =>
          html`<label><span>${name}</span><input type="number" name=${name} value=${size} min="1" step="1" required /></label>`,
      )}
    </div>
    <button class="primary" ?disabled=${busy}>Build it</button>
  </form>`;
}
