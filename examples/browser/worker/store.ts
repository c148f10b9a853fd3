// What a second visit finds: engines in IndexedDB, by network. The timing cache is stored by Kiln itself.

import { clear, createStore, get, keys, set } from "idb-keyval";
import type { Contest } from "../../../src/index.ts";
import type { Comparison } from "../protocol.ts";

/** Contests do not belong to an engine file; they are kept beside it, as is what was measured since. */
export interface Kept {
  readonly engine: Uint8Array<ArrayBuffer>;
  readonly contests: readonly Contest[];
  readonly comparison?: Comparison;
}

const engines = createStore("kiln-demo", "engines");

export const keptEngine = (network: string): Promise<Kept | undefined> => get(network, engines);
export const keepEngine = (network: string, kept: Kept): Promise<void> => set(network, kept, engines);
export const keptNetworks = async (): Promise<readonly string[]> => (await keys(engines)).map(String);

/** Kiln keeps its timing caches in a database of its own. */
export async function forgetAll(): Promise<void> {
  await clear(engines);
  indexedDB.deleteDatabase("kiln");
}
