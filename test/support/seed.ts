// Property tests draw from the run's seed, which vitest.config.ts prints.

import fc from "fast-check";

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env.SEED) });
