// A picture of a tensor's calibration: the divergence over the threshold, and where each calibrator puts it. SVG by Vega-Lite.

import type { TopLevelSpec } from "vega-lite";
import { divergences, LEVELS } from "../src/calibrator/entropy.ts";
import type { Histogram } from "../src/calibrator/histogram.ts";
import { CALIBRATORS } from "../src/calibrator/thresholds.ts";
import { svgOf } from "./svg.ts";

/** The chart as SVG text. */
export function divergenceChart(histogram: Histogram, network: string): Promise<string> {
  const { name, width, peak, counts } = histogram;
  const curve = [...divergences(counts)].flatMap((divergence, i) =>
    divergence > 0 && Number.isFinite(divergence) ? [{ threshold: (LEVELS + i) * width, divergence }] : [],
  );
  const cuts = CALIBRATORS.map((calibrator) => ({ calibrator: calibrator.name, threshold: calibrator.threshold(histogram) }));
  const threshold = {
    field: "threshold",
    type: "quantitative",
    title: `threshold; max |x| is ${peak.toPrecision(4)}`,
  } as const;
  const spec: TopLevelSpec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: `${network}: divergence of "${name}" over its threshold`,
    width: 640,
    height: 320,
    layer: [
      {
        data: { values: curve },
        mark: { type: "line", strokeWidth: 1.5 },
        encoding: {
          x: threshold,
          y: { field: "divergence", type: "quantitative", scale: { type: "log" }, title: "Kullback–Leibler divergence" },
        },
      },
      {
        data: { values: cuts },
        mark: { type: "rule", strokeDash: [4, 3] },
        encoding: { x: threshold, color: { field: "calibrator", type: "nominal" } },
      },
    ],
  };
  return svgOf(spec);
}
