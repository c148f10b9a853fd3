// A table of ratios as an SVG heat map: 1 is best, marked cells are outlined.

import type { TopLevelSpec } from "vega-lite";
import { svgOf } from "./svg.ts";

export interface Cell {
  readonly row: string;
  readonly column: string;
  /** At least 1. */
  readonly value: number;
  readonly mark: boolean;
}

/** SVG text. */
export async function heatMap(title: string, legend: string, cells: readonly Cell[]): Promise<string> {
  const spec: TopLevelSpec = {
    title,
    data: { values: cells.map((cell) => ({ ...cell, text: `${cell.value.toFixed(2)}${cell.mark ? " *" : ""}` })) },
    encoding: {
      x: { field: "column", type: "nominal", sort: null, title: null, axis: { orient: "top", labelAngle: -40 } },
      y: { field: "row", type: "nominal", sort: null, title: null, axis: { labelLimit: 300 } },
    },
    width: { step: 62 },
    height: { step: 20 },
    layer: [
      {
        mark: { type: "rect" },
        encoding: {
          color: {
            field: "value",
            type: "quantitative",
            title: legend,
            scale: { type: "log", domain: [1, 10], clamp: true, scheme: "viridis", reverse: true },
          },
          stroke: { condition: { test: "datum.mark", value: "red" }, value: "white" },
          strokeWidth: { condition: { test: "datum.mark", value: 2 }, value: 0.5 },
        },
      },
      {
        mark: { type: "text", fontSize: 10 },
        encoding: {
          text: { field: "text" },
          color: { condition: { test: "datum.value > 3", value: "white" }, value: "black" },
        },
      },
    ],
  };
  return svgOf(spec);
}
