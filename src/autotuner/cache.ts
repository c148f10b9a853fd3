// The timing cache: what was measured, by what was really run. Losers are kept, so that one can ask later why a kernel won.

import { hash } from "../util/hash.ts";

/** Medians in nanoseconds by key; the key is a hash of WGSL, workgroups and device fingerprint. */
export interface TimingEntry {
  readonly tactic: string;
  readonly config: Readonly<Record<string, number | boolean | string>>;
  readonly ns: number;
}

export class TimingCache {
  private readonly entries = new Map<string, TimingEntry>();

  get size(): number {
    return this.entries.size;
  }

  /** The key of a kernel on a device: all texts and workgroup counts of its steps. */
  static key(device: string, steps: readonly { readonly wgsl: string; readonly workgroups: readonly number[] }[]): string {
    return hash([device, ...steps.map(({ wgsl, workgroups }) => `${workgroups.join("x")}\n${wgsl}`)].join("\u0000"));
  }

  get(key: string): TimingEntry | undefined {
    return this.entries.get(key);
  }

  set(key: string, entry: TimingEntry): void {
    this.entries.set(key, entry);
  }

  /** Takes over what `other` knows and this does not. */
  merge(other: TimingCache): void {
    for (const [key, entry] of other.entries) if (!this.entries.has(key)) this.entries.set(key, entry);
  }

  delete(key: string): boolean {
    return this.entries.delete(key);
  }

  list(): readonly (readonly [string, TimingEntry])[] {
    return [...this.entries];
  }

  /** JSON text, one entry a line. */
  serialize(): string {
    const lines = [...this.entries].map(([key, entry]) => `${JSON.stringify(key)}: ${JSON.stringify(entry)}`);
    return `{"kiln-timing-cache": 1, "entries": {\n${lines.join(",\n")}\n}}\n`;
  }

  /** Reads what `serialize` writes. Text that is no cache gives an empty one and a word to `warn`; so do single bad entries. */
  static parse(text: string, warn: (message: string) => void = () => undefined): TimingCache {
    const cache = new TimingCache();
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      warn("the timing cache is not JSON: starting an empty one");
      return cache;
    }
    const { "kiln-timing-cache": version, entries } = (parsed ?? {}) as { "kiln-timing-cache"?: unknown; entries?: unknown };
    if (version !== 1 || typeof entries !== "object" || entries === null) {
      warn("the timing cache is of another kind or version: starting an empty one");
      return cache;
    }
    let bad = 0;
    for (const [key, entry] of Object.entries(entries)) {
      if (isEntry(entry)) cache.set(key, entry);
      else bad++;
    }
    if (bad > 0) warn(`the timing cache has ${bad} damaged entr${bad === 1 ? "y" : "ies"}: ignored`);
    return cache;
  }
}

const isEntry = (entry: unknown): entry is TimingEntry => {
  const { tactic, config, ns } = (entry ?? {}) as Partial<TimingEntry>;
  return typeof tactic === "string" && typeof config === "object" && typeof ns === "number" && ns >= 0;
};
