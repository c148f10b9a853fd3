// Which kernels go into one dispatch: those that stand near each other and wait for nothing that stands between them, as
// the branches of a block or a downsampling convolution beside the main path.

import { isKernelTask, type KernelTask, readsOf, type Task, writesOf } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { bundle } from "../kernels/bundle.ts";
import type { KernelStep } from "../kernels/tactic.ts";
import type { Caps } from "../util/caps.ts";

export interface Bundle {
  readonly members: readonly KernelTask[];
  readonly step: KernelStep;
}

export interface BundleOptions {
  readonly caps: Caps;
  /** The only step of a task's kernel; undefined where it has several. */
  readonly stepOf: (task: KernelTask) => KernelStep | undefined;
  /** Records that a task joins those before it, or says that it must not. */
  readonly may: (task: Task) => boolean;
}

/** Tasks between two kernels beyond which they are not brought together: what is made early lies in memory for long. */
const FARTHEST = 16;

/** The tasks in an order that keeps what depends on each other, some of them as bundles. */
export function bundleTasks(tasks: readonly Task[], { caps, stepOf, may }: BundleOptions): readonly (Task | Bundle)[] {
  const left = tasks.map((task) => ({ task, access: accessOf(task), step: steppable(task) ? stepOf(task) : undefined }));
  const done: (Task | Bundle)[] = [];
  for (let first = left.shift(); first; first = left.shift()) {
    const members = [first];
    let merged = first.step;
    const passed = [first.access];
    for (let at = 0; merged && at < Math.min(left.length, FARTHEST); at++) {
      const next = left[at]!;
      const steps =
        next.step && !passed.some((other) => conflict(other, next.access)) && [...members, next].map(({ step }) => step!);
      const wider = steps ? bundle(steps, caps) : undefined;
      if (wider && may(next.task)) {
        merged = wider;
        members.push(next);
        left.splice(at--, 1);
      }
      passed.push(next.access);
    }
    done.push(members.length > 1 ? { members: members.map(({ task }) => task as KernelTask), step: merged! } : first.task);
  }
  return done;
}

/** A kernel whose stores begin what they write. */
const steppable = (task: Task): task is KernelTask =>
  isKernelTask(task) && task.stores.every(({ mode, init }) => mode === "set" && !init);

interface Access {
  readonly reads: ReadonlySet<Value>;
  readonly writes: ReadonlySet<Value>;
  /** True when others may write other parts of the same values meanwhile. */
  readonly inParts: boolean;
}

const accessOf = (task: Task): Access => ({
  reads: new Set(readsOf(task)),
  writes: new Set(writesOf(task)),
  inParts: steppable(task),
});

function conflict(a: Access, b: Access): boolean {
  const meets = (one: ReadonlySet<Value>, other: ReadonlySet<Value>): boolean => [...one].some((value) => other.has(value));
  return meets(a.writes, b.reads) || meets(b.writes, a.reads) || (!(a.inParts && b.inParts) && meets(a.writes, b.writes));
}
