// The device: its tier, its fingerprint, and what that is of.

import { html, type TemplateResult } from "lit-html";
import type { Actions } from "../actions.ts";
import type { State } from "../state.ts";
import { count } from "../words.ts";

const TIERS: Readonly<Record<string, string>> = {
  tensor: "It has tensor cores that WebGPU reaches: subgroup matrices.",
  subgroup: "It has subgroups; kernels share sums within them.",
  core: "It has WebGPU's core, which is enough for everything here.",
};

export function deviceView({ device, busy, lost }: State, actions: Actions): TemplateResult {
  return html`<section class="card device" id="device" aria-labelledby="device-title">
    <h2 id="device-title">Your GPU</h2>
    ${
      device
        ? html`<p class="lead">${device.name} <span class="tag">${device.tier} tier</span></p>
            <p class="quiet">${TIERS[device.tier]} Engines and timings are kept under its fingerprint: another GPU builds its own.</p>
            <dl class="facts">
              <div class="wide">
                <dt>Fingerprint</dt>
                <dd><code>${device.fingerprint}</code></dd>
              </div>
              ${device.facts.map(
                ([name, value]) => html`<div class=${value.length > 40 ? "wide" : ""}><dt>${name}</dt><dd>${value}</dd></div>`,
              )}
            </dl>
            <p class="kept">${device.kept.length === 0 ? "No engine is" : `${count(device.kept.length, "engine")} ${device.kept.length === 1 ? "is" : "are"}`} kept in this browser.</p>
            <div class="actions">
              <button ?disabled=${busy || device.kept.length === 0} @click=${() => actions.forget()}>Forget what is kept here</button>
              <button ?disabled=${busy || lost !== undefined} @click=${() => actions.loseDevice()}>Lose the GPU, to see what happens</button>
            </div>`
        : html`<p class="quiet">Not open yet.</p>`
    }
  </section>`;
}
