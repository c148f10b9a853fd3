// The README's table of operators is what the registry holds.

import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { OPERATORS } from "../../src/ops/registry.ts";

test("README.md lists every operator (node scripts/ops-table.mjs writes it)", () => {
  expect(spawnSync(process.execPath, ["scripts/ops-table.mjs", "--check"]).status).toBe(0);
});

test("at least 150 operator types run on the GPU without the host", () => {
  expect(OPERATORS.filter(({ place }) => place === undefined).length).toBeGreaterThanOrEqual(150);
});
