// The stage: what to do, the picture with what was found in it, and the findings in words.

import { html, nothing, svg, type TemplateResult } from "lit-html";
import { guard } from "lit-html/directives/guard.js";
import type { Actions } from "../actions.ts";
import type { Finding, Findings } from "../protocol.ts";
import { samplesOf } from "../samples.ts";
import { isReady, type State, type Tab } from "../state.ts";
import { count, duration, percent } from "../words.ts";
import { messageView } from "./messages.ts";
import { ownView } from "./own.ts";
import { progressView } from "./progress.ts";

const TABS: readonly (readonly [Tab, string])[] = [
  ["faces", "Find faces"],
  ["text", "Read text"],
  ["own", "Your model"],
];

export function stageView(state: State, actions: Actions): TemplateResult {
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    actions.drag(false);
    if (file) void actions.take(file);
  };
  const over = (event: DragEvent): void => {
    event.preventDefault();
    actions.drag(true);
  };
  return html`<section
    class="card stage ${state.isDragged ? "dragged" : ""}"
    aria-label="Try it"
    @drop=${drop}
    @dragover=${over}
    @dragleave=${() => actions.drag(false)}
  >
    <fieldset class="tabs">
      <legend class="hidden">What to do</legend>
      ${TABS.map(
        ([tab, title]) =>
          html`<label
            ><input
              type="radio"
              name="tab"
              value=${tab}
              .checked=${state.tab === tab}
              ?disabled=${state.busy}
              @change=${() => actions.choose(tab)}
            /><span>${title}</span></label
          >`,
      )}
    </fieldset>
    ${state.tab === "own" ? ownView(state, actions) : html`${pictureView(state, actions)} ${resultView(state, actions)}`}
  </section>`;
}

function pictureView(state: State, actions: Actions): TemplateResult {
  const { picture, camera, findings } = state;
  const started = (event: Event): void => {
    void actions.watch(event.target as HTMLVideoElement);
  };
  return html`<div class="looking">
    <div class="picture">
      ${
        camera
          ? html`<video autoplay playsinline muted aria-label="What the camera sees" @playing=${started} .srcObject=${camera}></video>`
          : picture
            ? html`<img src=${picture.address} alt=${picture.name} width=${picture.width} height=${picture.height} />`
            : nothing
      }
      ${findings ? guard([findings, state.pointed], () => overlay(findings, state.pointed)) : nothing} ${progressView(state)}
    </div>
    ${sourcesView(state, actions)}
  </div>`;
}

/** What was found, over the picture. */
function overlay({ width, height, findings }: Findings, pointed: number | undefined): TemplateResult {
  return html`<svg class="found" viewBox="0 0 ${width} ${height}" aria-hidden="true">
    ${findings.map(
      ({ corners, marks = [] }, i) => svg`<g class=${i === pointed ? "pointed" : ""}>
        <polygon points=${corners.map((corner) => corner.join()).join(" ")} vector-effect="non-scaling-stroke"></polygon>
        ${marks.map(([x, y]) => svg`<circle cx=${x} cy=${y} r=${Math.hypot(corners[1]![0] - corners[0]![0], corners[1]![1] - corners[0]![1]) / 24}></circle>`)}
      </g>`,
    )}
  </svg>`;
}

function sourcesView(state: State, actions: Actions): TemplateResult {
  const choose = (event: Event): void => {
    const input = event.target as HTMLInputElement;
    const file = input.files?.[0];
    input.value = "";
    if (file) void actions.take(file);
  };
  const { tab, picture, camera, busy } = state;
  return html`<div class="sources">
    ${(tab === "own" ? [] : samplesOf(tab)).map(
      (sample) => html`<button
        class="thumb"
        aria-label="Sample: ${sample.title}"
        aria-pressed=${!camera && picture?.name === sample.title}
        ?disabled=${busy}
        @click=${() => actions.show(sample)}
      >
        <img src=${sample.address} alt="" width="72" height="48" />
      </button>`,
    )}
    <label class="button ${busy ? "disabled" : ""}"
      >Choose a picture<input class="hidden" type="file" accept="image/*" ?disabled=${busy} @change=${choose}
    /></label>
    ${
      camera
        ? html`<button @click=${() => actions.stopCamera()}>Stop the camera</button>`
        : html`<button ?disabled=${busy} @click=${() => actions.openCamera()}>Use the camera</button>`
    }
  </div>`;
}

function resultView(state: State, actions: Actions): TemplateResult {
  const { tab, findings } = state;
  return html`<div class="results">
    ${messageView(state, actions)}
    <div aria-live="polite">${
      state.lost
        ? nothing
        : findings
          ? html`<p class="sum">${summary(tab, findings)}</p>
            <p class="quiet">${originOf(state)}</p>
            ${
              findings.findings.length === 0
                ? html`<p class="empty">${tab === "text" ? "No text in this picture." : "No face in this picture."}</p>`
                : html`<ol class=${tab}>
                    ${findings.findings.map((finding, i) => findingView(finding, i, actions))}
                  </ol>`
            }`
          : waiting(state, actions)
    }</div>
  </div>`;
}

const summary = (tab: Tab, { findings, ms }: Findings): TemplateResult =>
  html`<b>${count(findings.length, tab === "text" ? "line" : "face")}</b> in ${duration(ms)}`;

/** Whether the engines were built, or found. */
function originOf({ tab, networks }: State): string {
  const used = networks.filter(({ id }) => (tab === "text" ? id.startsWith("text") : id.startsWith("face")));
  const seconds = used.reduce((sum, network) => sum + network.seconds, 0);
  if (used.every(({ from }) => from === "kept"))
    return `Nothing to build: engines kept by your last visit, loaded in ${duration(1000 * seconds)}`;
  return `Built for your GPU in ${duration(1000 * seconds)}, and kept for your next visit`;
}

function findingView({ text, score }: Finding, i: number, actions: Actions): TemplateResult {
  return html`<li
    tabindex="0"
    @pointerenter=${() => actions.point(i)}
    @pointerleave=${() => actions.point(undefined)}
    @focus=${() => actions.point(i)}
    @blur=${() => actions.point(undefined)}
  >
    <span>${text ?? `Face ${i + 1}`}</span><span class="score"><span class="hidden">certainty </span>${percent(score)}</span>
  </li>`;
}

const FIRST = {
  text: { verb: "Read this picture", size: "16 MB", what: "two networks" },
  faces: { verb: "Find faces here", size: "0.6 MB", what: "a network" },
} as const;

function waiting(state: State, actions: Actions): TemplateResult {
  const { tab, busy, device, camera } = state;
  if (tab === "own") return html``;
  const { verb, size, what } = FIRST[tab];
  const working = camera
    ? "Looking at what the camera sees."
    : "Kiln writes several kernels for each layer, runs them on your GPU, checks their results, and keeps the fastest.";
  if (busy) return html`<p class="quiet">${working}</p>`;
  const software = device?.isSoftware ? ". Yours is a software one, which takes a while" : "";
  return html`<button class="primary" ?disabled=${!device || !state.picture} @click=${() => actions.find()}>${verb}</button>
    <p class="quiet">
      ${
        isReady(state)
          ? "Nothing has to be built for it any more."
          : html`The first time, Kiln downloads ${what} (${size}) and compiles for your GPU${software}. The result stays in this
            browser, so that your next visit starts at once.`
      }
    </p>`;
}
