// All networks by name.

import { bert } from "./bert.ts";
import { densenet121 } from "./densenet121.ts";
import { gptStep } from "./gpt.ts";
import { inceptionv3 } from "./inceptionv3.ts";
import { mobilenetv2 } from "./mobilenetv2.ts";
import { resnet50 } from "./resnet50.ts";
import { vit } from "./vit.ts";
import type { NetworkOptions } from "./writer.ts";
import { yolo } from "./yolo.ts";

export type { NetworkOptions } from "./writer.ts";

/** Each gives the bytes of an ONNX file. */
export const NETWORKS: Readonly<Record<string, (options?: NetworkOptions) => Uint8Array>> = {
  resnet50,
  mobilenetv2,
  inceptionv3,
  densenet121,
  bert,
  vit,
  gpt: gptStep,
  yolo,
};
