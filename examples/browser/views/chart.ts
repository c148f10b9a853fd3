// A place for a chart. The library comes when the first chart is to be drawn; a chart is drawn again when its data or its
// width change. Its height is reserved.

import { html, type TemplateResult } from "lit-html";
import { ref } from "lit-html/directives/ref.js";

type Charts = typeof import("../charts.ts");
type Draw = (charts: Charts, width: number) => Element;

/** `name` is the place's; `data` is compared by identity. */
export function chartView(name: string, data: readonly unknown[], draw: Draw): TemplateResult {
  const place = places.get(name) ?? new Place();
  places.set(name, place);
  return html`<div class="chart ${name}" ${ref((element) => place.show(element as HTMLElement | undefined, data, draw))}></div>`;
}

class Place {
  private element: HTMLElement | undefined;
  private data: readonly unknown[] = [];
  private draw: Draw | undefined;
  private width = 0;
  private readonly observer = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry!.contentRect.width);
    if (width !== this.width) void this.redraw(width);
  });

  show(element: HTMLElement | undefined, data: readonly unknown[], draw: Draw): void {
    if (!element) return;
    const isSame = element === this.element && data.length === this.data.length && data.every((one, i) => one === this.data[i]);
    if (element !== this.element) {
      this.observer.disconnect();
      this.observer.observe(element);
      this.element = element;
    }
    this.draw = draw;
    this.data = data;
    if (!isSame && this.width > 0) void this.redraw(this.width);
  }

  private async redraw(width: number): Promise<void> {
    this.width = width;
    const charts = await import("../charts.ts");
    if (this.width > 0 && this.width === width) this.element?.replaceChildren(this.draw!(charts, width));
  }
}

const places = new Map<string, Place>();
