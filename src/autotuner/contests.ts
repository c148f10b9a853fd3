// What a search left behind: of each task the kernel that was chosen and all that competed with it, for those who ask why.

import { key as fingerprintKey } from "../gpu/fingerprint.ts";
import type { TimingCache, TimingEntry } from "./cache.ts";
import { taskKeyOf } from "./candidates.ts";
import { type Choices, type Target, withDefaults } from "./tune.ts";

export interface Contest {
  /** The task's name; a kernel's label holds it. */
  readonly task: string;
  readonly tactic: string;
  readonly config: TimingEntry["config"];
  /** All that was measured, the fastest first and the rejected last; empty where nothing was. */
  readonly contenders: readonly TimingEntry[];
}

/**
 * The contests behind a build's choices, which `onStage` gives at "tune". `cache`: that of the build; `sizes`: what its
 * profile's symbols were tuned at.
 */
export function contestsOf(
  choices: Choices,
  cache: TimingCache,
  target: Target,
  sizes: ReadonlyMap<string, number> = new Map(),
): readonly Contest[] {
  const byTask = new Map<string, TimingEntry[]>();
  for (const [, entry] of cache.list()) {
    if (entry.task !== undefined) byTask.set(entry.task, [...(byTask.get(entry.task) ?? []), entry]);
  }
  const device = fingerprintKey(target.fingerprint);
  const bindings = withDefaults(sizes);
  return [...choices].map(([task, { tactic, config }]) => {
    const measured = byTask.get(taskKeyOf(task, target, device, bindings)) ?? [];
    // Two infinities have no difference.
    const contenders = measured.toSorted((a, b) => (a.ns === b.ns ? 0 : a.ns - b.ns));
    return { task: task.name, tactic, config, contenders };
  });
}
