// What the page says when something is not there, or went wrong.

import { html, nothing, type TemplateResult } from "lit-html";
import { ref } from "lit-html/directives/ref.js";
import type { Actions } from "../actions.ts";
import type { State } from "../state.ts";

/** The place of what went wrong: screen readers hear of it as soon as something is there. */
export const messageView = (state: State, actions: Actions): TemplateResult =>
  html`<div role="alert" ${ref(bringIntoView)}>${state.lost ? lostView(state.lost, actions) : state.failure ? errorView(state.failure) : nothing}</div>`;

/** A message that is out of sight is told to nobody. */
function bringIntoView(place: Element | undefined): void {
  if (place)
    new MutationObserver(() => place.firstElementChild?.scrollIntoView({ block: "nearest" })).observe(place, {
      childList: true,
    });
}

/** An error in a KilnError's own form: the message, then the cause and the hint on indented lines. */
function errorView(failure: string): TemplateResult {
  const [message = "", ...more] = failure.split("\n").map((line) => line.trim());
  const { code, words } = /^(?<code>K\d{3}) \S+\s+(?<words>.*)/.exec(message)?.groups ?? { words: message };
  const [hints, causes] = [true, false].map((isHint) => more.filter((line) => line.startsWith("hint: ") === isHint));
  return html`<div class="message error">
    <h2>${words}</h2>
    ${causes!.map((line) => html`<p>${line}</p>`)}
    ${hints!.map((line) => html`<p class="hint">${sentence(line.slice("hint: ".length))}</p>`)}
    ${code && html`<p class="code">${code}</p>`}
  </div>`;
}

const sentence = (words: string): string => `${words.charAt(0).toUpperCase()}${words.slice(1)}`;

const lostView = (message: string, actions: Actions): TemplateResult => html`<div class="message error lost">
  <h2>The GPU is gone</h2>
  <p>
    Its driver was reset, or another program took it. What was built is kept in this browser, so that nothing has to be
    compiled again.
  </p>
  <p class="code">${message.split("\n")[0]}</p>
  <button class="primary" @click=${() => actions.open()}>Start again</button>
</div>`;

export const unsupportedView = (why: string): TemplateResult => html`<section class="card unsupported" role="alert">
  <h2>This page needs WebGPU</h2>
  <p>Kiln runs on your GPU through WebGPU, which this browser does not offer here. It is in</p>
  <ul>
    <li><b>Chrome and Edge</b> 113 or later, on Windows, macOS, ChromeOS and Android; on Linux from 144 on some GPUs</li>
    <li><b>Safari</b> 26 or later</li>
    <li><b>Firefox</b> 141 or later on Windows, 145 on Macs with Apple silicon</li>
  </ul>
  <p>
    If yours is one of these, look whether graphics acceleration is on in its settings, and whether this page's address begins
    with <code>https:</code> or <code>http://localhost</code>.
  </p>
  <p class="code">${why.split("\n")[0]}</p>
</section>`;
