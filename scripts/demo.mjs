// npm run demo: builds the browser demo, serves it and prints its address.
//   npm run demo [-- --port 8080]
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { demoFolder } from "./demo-files.mjs";
import { ensureBuild, ensureDependencies } from "./setup.mjs";

const { values } = parseArgs({ options: { port: { type: "string", default: "8080" } } });
ensureDependencies();
ensureBuild();

const { default: sirv } = await import("sirv");
const server = createServer(sirv(demoFolder, { dev: true }));
server.on("error", (failure) => {
  console.error(
    `demo: ${failure.code === "EADDRINUSE" ? `port ${values.port} is taken: choose another with --port` : failure.message}`,
  );
  process.exit(1);
});
server.listen(Number(values.port), () => console.log(`the demo is at http://localhost:${server.address().port}/`));
