// The sample pictures; samples/README.md says where each is from.

import type { Subject } from "./protocol.ts";

export interface Sample {
  readonly title: string;
  readonly address: string;
}

const SAMPLES = {
  text: [
    { title: "A café receipt", address: "samples/receipt.webp" },
    { title: "A trail sign", address: "samples/sign.webp" },
  ],
  faces: [{ title: "An astronaut", address: "samples/astronaut.webp" }],
} as const satisfies Record<Subject, readonly Sample[]>;

export const samplesOf = (subject: Subject): readonly Sample[] => SAMPLES[subject];
