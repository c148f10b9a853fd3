// Vega-Lite's charts as SVG. The packages are loaded when a chart is asked for: machines that measure may lack them.

import type { TopLevelSpec } from "vega-lite";

/** SVG text. */
export async function svgOf(spec: TopLevelSpec): Promise<string> {
  const [{ parse, View }, { compile }] = await Promise.all([import("vega"), import("vega-lite")]);
  return new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
}
