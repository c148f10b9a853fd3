// What the worker is at: a bar, and a line that names it. Its place is there before it is.

import { html, nothing, type TemplateResult } from "lit-html";
import type { State } from "../state.ts";

export function progressView({ busy, progress, camera }: State): TemplateResult {
  // Behind a camera's picture, what takes no long is done again and again.
  const isShown = busy && !(camera && !progress);
  const { title = "One moment", detail = "", fraction } = progress ?? {};
  return html`<div class="progress ${isShown ? "shown" : ""}" aria-hidden=${!isShown}>
    <p><b>${title}</b><span>${fraction === undefined ? "" : `${Math.floor(100 * fraction)} %`}</span></p>
    <progress max="1" value=${fraction ?? nothing} aria-label=${title}></progress>
    <p class="detail">${detail || "\u00a0"}</p>
  </div>`;
}
