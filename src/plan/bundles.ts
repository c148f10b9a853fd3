// Which kernels go into one dispatch: those that stand near each other and wait for nothing that stands between them, as
// the branches of a block or a downsampling convolution beside the main path.

import { isKernelTask, type KernelTask, readsOf, type Task, writesOf } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { bundle, workgroupOf } from "../kernels/bundle.ts";
import type { Config, Kernel, KernelStep } from "../kernels/tactic.ts";
import type { Caps } from "../util/caps.ts";

/** What the autotuner settled on for a task. */
export interface Choice {
  readonly tactic: string;
  readonly config: Config;
  readonly kernel: Kernel;
  /** Kernels that are about as good: one of them is taken where it fits into a bundle and the chosen one does not. */
  readonly others?: () => readonly Choice[];
}

interface Member {
  readonly task: KernelTask;
  readonly choice: Choice;
}
export interface Bundle {
  readonly members: readonly Member[];
  readonly step: KernelStep;
}

export interface BundleOptions {
  readonly caps: Caps;
  readonly choiceOf: (task: KernelTask) => Choice;
  /** Records that a task joins those before it, or says that it must not. */
  readonly may: (task: Task) => boolean;
}

/** Tasks between two kernels beyond which they are not brought together: what is made early lies in memory for long. */
const FARTHEST = 16;

/** The tasks in an order that keeps what depends on each other, some of them as bundles. */
export function bundleTasks(tasks: readonly Task[], { caps, choiceOf, may }: BundleOptions): readonly (Task | Bundle)[] {
  const left = tasks.map((task) => ({ task, access: accessOf(task), member: memberOf(task, choiceOf) }));
  const done: (Task | Bundle)[] = [];
  for (let first = left.shift(); first; first = left.shift()) {
    let bundled: Bundle | undefined = first.member && { members: [first.member], step: stepOf(first.member.choice) };
    const passed = [first.access];
    for (let at = 0; bundled && at < Math.min(left.length, FARTHEST); at++) {
      const next = left[at]!;
      const isFree = next.member && !passed.some((other) => conflict(other, next.access));
      const wider = isFree ? joined(bundled, next.member!, caps) : undefined;
      if (wider && may(next.task)) {
        bundled = wider;
        left.splice(at--, 1);
      }
      passed.push(next.access);
    }
    done.push(bundled && bundled.members.length > 1 ? bundled : first.task);
  }
  return done;
}

/** A task whose kernel is one step. */
function memberOf(task: Task, choiceOf: BundleOptions["choiceOf"]): Member | undefined {
  const choice = steppable(task) ? choiceOf(task) : undefined;
  return choice?.kernel.steps.length === 1 ? { task: task as KernelTask, choice } : undefined;
}

const stepOf = ({ kernel }: Choice): KernelStep => kernel.steps[0]!;

/** The bundle with a kernel more: the chosen one, or one about as good whose workgroups are of the bundle's size. */
function joined({ members }: Bundle, { task, choice }: Member, caps: Caps): Bundle | undefined {
  const steps = members.map((member) => stepOf(member.choice));
  const joinAs = (own: Choice): Bundle | undefined => {
    const step = bundle([...steps, stepOf(own)], caps);
    return step && { members: [...members, { task, choice: own }], step };
  };
  const size = Math.max(...steps.map(workgroupOf));
  if (workgroupOf(stepOf(choice)) === size) return joinAs(choice);
  const fits = (other: Choice): boolean => other.kernel.steps.length === 1 && workgroupOf(stepOf(other)) === size;
  const other = joinAs(choice) ? undefined : choice.others?.().find(fits);
  return joinAs(other ?? choice);
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
