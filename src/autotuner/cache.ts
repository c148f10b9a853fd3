// The timing cache: what was measured, by what was really run, and what was settled on for a task. Losers are kept, so that
// one can ask later why a kernel won; so is what was rejected, with the reason.

import { hash } from "../util/hash.ts";

type Config = Readonly<Record<string, number | boolean | string>>;

/** One kernel on one device; the key is a hash of WGSL, workgroups and device fingerprint. */
export interface TimingEntry {
  readonly tactic: string;
  readonly config: Config;
  /** Median in nanoseconds; infinity where it was rejected. */
  readonly ns: number;
  /** Why it is no candidate: it does not compile, or its error is over the budget. */
  readonly rejected?: string;
  /** Relative root mean square error against the plainest kernel. */
  readonly error?: number;
  /** The task that it was measured for: entries of one task compete. */
  readonly task?: string;
}

/** What a search of some optimization level ended with; `key` names the winner's entry. */
export interface Decision {
  readonly level: number;
  readonly key: string;
}

export class TimingCache {
  private readonly entries = new Map<string, TimingEntry>();
  private readonly decisions = new Map<string, Decision>();
  private readonly removed = new Set<string>();

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
    this.removed.delete(key);
  }

  /** What was settled on for a task at this level or a higher one, while its entry is there. */
  decision(task: string, level: number): (Decision & { readonly entry: TimingEntry }) | undefined {
    const found = this.decisions.get(task);
    const entry = found && this.entries.get(found.key);
    return entry && found.level >= level ? { ...found, entry } : undefined;
  }

  /** The fastest entry measured for a task so far, but for those of one tactic. */
  bestOf(task: string, except?: string): TimingEntry | undefined {
    let best: TimingEntry | undefined;
    for (const entry of this.entries.values())
      if (entry.task === task && entry.tactic !== except && entry.ns < (best?.ns ?? Number.POSITIVE_INFINITY)) best = entry;
    return best;
  }

  decide(task: string, decision: Decision): void {
    this.decisions.set(task, decision);
  }

  /** Takes over what `other` knows and this does not; not what was deleted here. */
  merge(other: TimingCache): void {
    for (const [key, entry] of other.entries)
      if (!this.entries.has(key) && !this.removed.has(key)) this.entries.set(key, entry);
    for (const [task, decision] of other.decisions)
      if ((this.decisions.get(task)?.level ?? -1) < decision.level && this.entries.has(decision.key))
        this.decisions.set(task, decision);
  }

  /** Forgets an entry: its kernel is measured again, and its task searched again if it had won. */
  delete(key: string): boolean {
    this.removed.add(key);
    return this.entries.delete(key);
  }

  list(): readonly (readonly [string, TimingEntry])[] {
    return [...this.entries];
  }

  /** JSON text, one entry a line. */
  serialize(): string {
    const lines = (table: ReadonlyMap<string, object>): string =>
      [...table].map(([key, entry]) => `${JSON.stringify(key)}: ${JSON.stringify(entry, finite)}`).join(",\n");
    return `{"kiln-timing-cache": 1, "entries": {\n${lines(this.entries)}\n}, "decisions": {\n${lines(this.decisions)}\n}}\n`;
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
    const { "kiln-timing-cache": version, entries, decisions } = (parsed ?? {}) as Record<string, unknown>;
    if (version !== 1 || typeof entries !== "object" || entries === null) {
      warn("the timing cache is of another kind or version: starting an empty one");
      return cache;
    }
    let bad = 0;
    for (const [key, entry] of Object.entries(entries)) {
      const known = entryOf(entry);
      if (known) cache.set(key, known);
      else bad++;
    }
    for (const [task, decision] of Object.entries(decisions ?? {})) {
      if (isDecision(decision)) cache.decide(task, decision);
      else bad++;
    }
    if (bad > 0) warn(`the timing cache has ${bad} damaged entr${bad === 1 ? "y" : "ies"}: ignored`);
    return cache;
  }
}

/** JSON has no infinity: what was rejected is written without a time. */
const finite = (_: string, value: unknown): unknown => (value === Number.POSITIVE_INFINITY ? undefined : value);

function entryOf(entry: unknown): TimingEntry | undefined {
  const { tactic, config, ns, rejected } = (entry ?? {}) as Partial<TimingEntry>;
  if (typeof tactic !== "string" || typeof config !== "object" || config === null) return undefined;
  if (typeof rejected === "string") return { ...(entry as TimingEntry), ns: Number.POSITIVE_INFINITY };
  return typeof ns === "number" && ns >= 0 ? (entry as TimingEntry) : undefined;
}

const isDecision = (decision: unknown): decision is Decision => {
  const { level, key } = (decision ?? {}) as Partial<Decision>;
  return typeof level === "number" && typeof key === "string";
};
