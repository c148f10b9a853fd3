// The page's charts, by Observable Plot, in the page's own colours.

import * as Plot from "@observablehq/plot";
import type { Comparison, KernelReport } from "./protocol.ts";
import { bytes, duration } from "./words.ts";

const LABELS = { kernels: "Kernels", memory: "Activations", latencyMs: "Latency" } as const;

/** Each measure's bar without fusion, and with it beside that. */
export function fusionChart({ fused, unfused }: Comparison, width: number): Element {
  const words = { kernels: String, memory: bytes, latencyMs: duration };
  const bars = (Object.keys(LABELS) as (keyof typeof LABELS)[]).flatMap((measure) =>
    [
      { kind: "unfused", value: unfused[measure] },
      { kind: "fused", value: fused[measure] },
    ].map(({ kind, value }) => ({
      measure: LABELS[measure],
      kind,
      share: value / Math.max(unfused[measure], fused[measure], 1e-9),
      text: `${words[measure](value)} ${kind}`,
    })),
  );
  const chart = Plot.plot({
    width,
    height: 172,
    marginLeft: 84,
    marginRight: 124,
    marginTop: 4,
    marginBottom: 4,
    axis: null,
    x: { domain: [0, 1] },
    y: { domain: ["unfused", "fused"], padding: 0.18 },
    fy: { domain: Object.values(LABELS), padding: 0.24 },
    color: { domain: ["unfused", "fused"], range: ["var(--muted-bar)", "var(--accent)"] },
    ariaLabel: "Kernels, memory and latency, unfused and fused",
    marks: [
      Plot.axisFy({ anchor: "left", label: null, tickSize: 0, textAnchor: "start", dx: -70 }),
      Plot.barX(bars, { fy: "measure", y: "kind", x: "share", fill: "kind", rx: 2 }),
      Plot.text(bars, { fy: "measure", y: "kind", x: "share", text: "text", textAnchor: "start", dx: 6 }),
    ],
  });
  return asPicture(chart);
}

/** A kernel's place in time, in milliseconds. */
export interface Span {
  readonly kernel: KernelReport;
  readonly number: number;
  readonly start: number;
  readonly end: number;
}

/** Kernels one after the other, by their time; `choose` is told of clicks. */
export function timelineChart(
  spans: readonly Span[],
  colors: ReadonlyMap<string, string>,
  chosen: number,
  width: number,
  choose: (number: number) => void,
): Element {
  const total = spans.at(-1)?.end ?? 0;
  const fill = ({ kernel }: Span): string => colors.get(kernel.tactic)!;
  const chart = Plot.plot({
    width,
    height: 92,
    marginLeft: 1,
    marginRight: 1,
    marginTop: 6,
    marginBottom: 24,
    x: {
      domain: [0, total],
      label: null,
      tickFormat: (ms: number) => (ms === 0 ? "0" : duration(ms)),
      ticks: Math.max(2, width / 140),
    },
    color: { type: "identity" },
    ariaLabel: "Kernels by time, coloured by tactic",
    marks: [
      Plot.rectX(spans, { x1: "start", x2: "end", fill, stroke: "var(--card)", strokeWidth: 0.5 }),
      Plot.rectX(
        spans.filter(({ number }) => number === chosen),
        { x1: "start", x2: "end", fill: "none", stroke: "var(--text)", strokeWidth: 2, insetLeft: -1, insetRight: -1 },
      ),
      Plot.tip(
        spans,
        Plot.pointerX({
          x1: "start",
          x2: "end",
          anchor: "bottom",
          frameAnchor: "middle",
          title: ({ kernel, start, end }: Span) => `${kernel.name}\n${kernel.tactic}\n${duration(end - start)}`,
        }),
      ),
    ],
  });
  chart.addEventListener("click", () => {
    const span = (chart as unknown as { value: Span | null }).value;
    if (span) choose(span.number);
  });
  return asPicture(chart);
}

/** One picture with one name, not groups of shapes with names of their own. */
function asPicture(chart: Element): Element {
  chart.setAttribute("role", "img");
  for (const group of chart.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");
  return chart;
}
