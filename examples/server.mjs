// An HTTP server that batches: pictures that arrive while the GPU is busy wait, and the next run takes all of them at once,
// through one engine whose optimization profile holds any batch up to the largest.
//   node examples/server.mjs [--port 8080] [--batch 16] [--level 0…5]
//   curl --data-binary @examples/sample.png http://localhost:8080/

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Builder } from "../dist/node.js";
import { readLine } from "./ocr.mjs";
import { answersOf, batchesUpTo, batchOf, classifier, windowOf } from "./orientation.mjs";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    batch: { type: "string", default: "16" },
    level: { type: "string", default: "1" },
  },
});
const most = Number(values.batch);
const LARGEST_PICTURE = 8 << 20;

const builder = await Builder.create();
const engine = await builder.build(classifier(), {
  file: "orientation classifier",
  profiles: [batchesUpTo(most)],
  optimizationLevel: Number(values.level),
});
const context = engine.createExecutionContext();

const waiting = [];
const statistics = { requests: 0, runs: 0, largestBatch: 0 };
let isRunning = false;

/** The answer for one picture, from a run that it shares with others. */
const classify = (pixels) =>
  new Promise((resolve, reject) => {
    waiting.push({ pixels, resolve, reject });
    statistics.requests++;
    void runAll();
  });

async function runAll() {
  if (isRunning) return;
  isRunning = true;
  while (waiting.length > 0) {
    const batch = waiting.splice(0, most);
    statistics.runs++;
    statistics.largestBatch = Math.max(statistics.largestBatch, batch.length);
    try {
      const [scores] = Object.values(await context.execute({ x: batchOf(batch.map(({ pixels }) => pixels)) }));
      for (const [i, answer] of answersOf(scores).entries()) batch[i].resolve({ ...answer, batch: batch.length });
    } catch (failure) {
      for (const { reject } of batch) reject(failure);
    }
  }
  isRunning = false;
}

const server = createServer(async (request, response) => {
  const answer = (status, body) =>
    response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
  if (request.method === "GET") return answer(200, statistics);
  let pixels;
  try {
    const chunks = [];
    let bytes = 0;
    for await (const chunk of request) {
      bytes += chunk.length;
      if (bytes > LARGEST_PICTURE) return answer(413, { error: `a picture may have ${LARGEST_PICTURE} bytes` });
      chunks.push(chunk);
    }
    pixels = windowOf(readLine(Buffer.concat(chunks)));
  } catch (failure) {
    return answer(400, { error: `this is no PNG picture: ${failure.message}` });
  }
  try {
    answer(200, await classify(pixels));
  } catch (failure) {
    answer(500, { error: failure.message });
  }
});

server.listen(Number(values.port), () =>
  console.log(
    `http://localhost:${server.address().port} takes PNG pictures by POST, up to ${most} a run; GET gives statistics`,
  ),
);
process.on("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
  engine.dispose();
  builder.device.destroy();
});
