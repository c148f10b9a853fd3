// An HTTP server that batches: pictures that arrive while the GPU is busy wait, and the next run takes all of them at once,
// through one engine whose optimization profile holds any batch up to the largest.
//   node examples/server.mjs [--port 8080] [--batch 16] [--level 0…5]
//   curl --data-binary @digit.txt http://localhost:8080/     16 lines of 12 characters: ink is #

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Builder } from "../dist/node.js";
import { answersOf, batchOf, COLUMNS, network, picturesUpTo, ROWS } from "./digits.mjs";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    batch: { type: "string", default: "16" },
    level: { type: "string", default: "3" },
  },
});
const most = Number(values.batch);
const LARGEST_REQUEST = 4096;

const builder = await Builder.create();
const engine = await builder.build(network(), {
  file: "digits",
  profiles: [picturesUpTo(most)],
  optimizationLevel: Number(values.level),
});
const context = engine.createExecutionContext();

const waiting = [];
const statistics = { requests: 0, runs: 0, largestBatch: 0 };
let isRunning = false;

/** The answer for one picture, from a run that it shares with others. */
const classify = (picture) =>
  new Promise((resolve, reject) => {
    waiting.push({ picture, resolve, reject });
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
      const { scores } = await context.execute({ picture: batchOf(batch.map(({ picture }) => picture)) });
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
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > LARGEST_REQUEST) return answer(413, { error: `a picture has at most ${LARGEST_REQUEST} bytes` });
    chunks.push(chunk);
  }
  const rows = Buffer.concat(chunks).toString().trimEnd().split(/\r?\n/);
  if (rows.length > ROWS || rows.some((row) => row.length > COLUMNS))
    return answer(400, { error: `a picture has up to ${ROWS} lines of up to ${COLUMNS} characters` });
  const picture = Float32Array.from({ length: ROWS * COLUMNS }, (_, i) =>
    Number(rows[Math.floor(i / COLUMNS)]?.[i % COLUMNS] === "#"),
  );
  try {
    answer(200, await classify(picture));
  } catch (failure) {
    answer(500, { error: failure.message });
  }
});

server.listen(Number(values.port), () =>
  console.log(`http://localhost:${server.address().port} takes pictures by POST, up to ${most} a run; GET gives statistics`),
);
process.on("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
  engine.dispose();
  builder.device.destroy();
});
