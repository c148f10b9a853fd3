// Shapes on a benchmark's command line.

/** "x:1x3x224x224" and "x=1x3x224x224", several with commas. */
export const shapesOf = (text = ""): Readonly<Record<string, readonly number[]>> =>
  Object.fromEntries(
    text
      .split(",")
      .filter((part) => part !== "")
      .map((part) => part.split(/[:=]/) as [string, string])
      .map(([name, dims]) => [name, dims.split("x").map(Number)]),
  );
