// What 8 bits cost on labelled data of ../shared, by calibrator; and that ONNX Runtime predicts with the model that Kiln
// writes what Kiln's engine predicts. The larger networks are measured by bench/accuracy.ts and bench/qdq.ts.

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LabelledBatch, labelledNetworks } from "../../bench/labelled.ts";
import { Builder } from "../../src/builder.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf, type Tensor } from "../../src/ir/tensor.ts";
import { realDevice } from "../gpu/open.ts";
import { isThere, openEngine, openReference, SHARED } from "./networks.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = isThere ? await realDevice() : undefined;
});
afterAll(() => device?.destroy());

const CASES = [
  { name: "mnist-cntk", points: 0.1, records: 1000 },
  { name: "resnet_2b", points: 1, records: 300 },
] as const;
const CALIBRATION = 60;

type Feeds = Readonly<Record<string, Tensor>>;
type Run = (inputs: Feeds) => Promise<Readonly<Record<string, Tensor>>>;

/** The best class of each record, and how many are right in percent. */
async function predict(run: Run, batches: Iterable<LabelledBatch>): Promise<{ classes: number[]; top1: number }> {
  const classes: number[] = [];
  let hits = 0;
  for (const { sample, labels } of batches) {
    const scores = Array.from(numbersOf(Object.values(await run(sample as Feeds))[0]!));
    const width = scores.length / labels.length;
    labels.forEach((label, i) => {
      const row = scores.slice(i * width, (i + 1) * width);
      const best = row.indexOf(Math.max(...row));
      classes.push(best);
      if (best === label) hits++;
    });
  }
  return { classes, top1: (100 * hits) / classes.length };
}

const networks = isThere ? labelledNetworks(SHARED, () => {}) : [];

describe.skipIf(!isThere)("8 bits on labelled data", () => {
  for (const { name, points, records } of CASES)
    it(`${name}: at most ${points} points of top-1; ONNX Runtime agrees`, { timeout: 240_000 }, async ({ skip }) => {
      const network = networks.find((found) => found.name === name);
      if (!device || !network) return skip(device ? `${name} is not in ../shared` : "no GPU adapter");
      const onnx = readFileSync(network.model);
      const float = await openEngine(device, onnx);
      const expected = await predict(float.run, network.evaluation(records));
      await float.close();
      let state: string | undefined;
      for (const calibrator of ["entropy", "percentile", "auto"]) {
        let serialize: (() => string) | undefined;
        const bytes = await new Builder(device).quantize(onnx, {
          int8: {
            calibrator,
            calibration: network.calibration(CALIBRATION),
            ...(state === undefined ? {} : { state }),
            onState: (made) => {
              serialize = made;
            },
          },
        });
        state ??= serialize?.();
        const engine = await openEngine(device, bytes);
        const actual = await predict(engine.run, network.evaluation(records));
        await engine.close();
        expect(expected.top1 - actual.top1, calibrator).toBeLessThanOrEqual(points + 1e-9);
        if (calibrator !== "entropy") continue;
        const reference = await openReference(bytes, true);
        const theirs = await predict(reference.run, network.evaluation(records));
        await reference.close();
        const same = actual.classes.filter((value, i) => value === theirs.classes[i]).length;
        expect(same / actual.classes.length).toBeGreaterThanOrEqual(0.98);
      }
    });
});

if (!isThere) it.skip(`${CASES.length} networks in 8 bits: ../shared is not there`, () => {});
