// Several kernels as one dispatch: each gets a range of the workgroups, and its names, bindings and entry point are renamed.
// What a bundle costs is the registers and the workgroup memory of its most demanding member; what it saves is launches.

import { add, ceilDiv, type Dim, isStatic, mul, product } from "../ir/dims.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { evaluateConstant } from "./constants.ts";
import { ENTRY_PARAMETERS, gridOf } from "./grid.ts";
import type { KernelStep } from "./tactic.ts";

/** Workgroups of a bundle beyond which a launch no longer matters beside the work. */
const MOST_WORKGROUPS = 8192;

/** The kernels as one step, or undefined where they cannot be. They must not depend on each other. */
export function bundle(steps: readonly KernelStep[], caps: Caps): KernelStep | undefined {
  const members = steps.flatMap((step) => memberOf(step) ?? []);
  if (members.length < steps.length) return undefined;
  const size = Math.max(...members.map((member) => member.size));
  if (!members.every((member) => member.size === size || (member.isLoose && size % member.size === 0))) return undefined;
  const counts = members.map(({ step, size: own }) => ceilDiv(product(step.workgroups), size / own));
  const total = add(...counts);
  if (isStatic(total) && total > MOST_WORKGROUPS) return undefined;

  const buffers = new Buffers();
  const memory = new SharedMemory();
  const sizes = new Sizes();
  const texts = members.map((member, i) => renamed(member, i, buffers, memory, sizes));
  const entry = entryPoint(members, counts, size, sizes);
  if (buffers.clash || buffers.list.length > caps.limits.maxStorageBuffersPerShaderStage) return undefined;
  if (!(memory.bytes <= caps.limits.maxComputeWorkgroupStorageSize)) return undefined;
  const directives = new Set(members.flatMap((member) => member.directives));
  const declarations = [...buffers.declarations, ...sizes.declarations(buffers.list.length), ...memory.declarations];
  const wgsl = [...directives, ...declarations, ...texts, entry];
  return {
    wgsl: `${wgsl.join("\n")}\n`,
    bindings: buffers.list.map(({ value, access }) => ({ value, access })),
    params: sizes.params,
    workgroups: gridOf(total),
  };
}

// --- taking a kernel apart ------------------------------------------------------------------------------------------------

interface Member {
  readonly step: KernelStep;
  /** `enable f16;` and the like. */
  readonly directives: readonly string[];
  /** All else but bindings and workgroup memory. */
  readonly text: string;
  /** Names of the bindings with their element types, in order. */
  readonly bindings: readonly { readonly name: string; readonly type: string }[];
  readonly arrays: readonly { readonly name: string; readonly type: string; readonly length: number }[];
  /** Built-in values that the entry point wants, in order. */
  readonly wants: readonly (keyof typeof ARGUMENTS)[];
  /** Invocations a workgroup. */
  readonly size: number;
  /** True when its invocations know nothing of each other. */
  readonly isLoose: boolean;
}

const DIRECTIVE = /^(?:enable|diagnostic).*;$/;
const BINDING = /^@group\(0\) @binding\(\d+\) var<storage, \w+> (\w+): array<(.*)>;$/;
const ARRAY = /^var<workgroup> (\w+): array<(.*), ([^,]*)>;$/;
const UNIFORM = /^@group\(0\) @binding\(\d+\) var<uniform> params: .*;$/;
const CONSTANT = /^const (\w+) = (.*);$/;
const ALIAS = /^alias (\w+) = (\w+);$/;
const ENTRY = /@compute @workgroup_size\((.*)\)\nfn main\(([\s\S]*?)\) \{/;

const known = new WeakMap<KernelStep, Member | undefined>();

/** Undefined for text that is not of the usual form. */
function memberOf(step: KernelStep): Member | undefined {
  if (!known.has(step)) known.set(step, takenApart(step));
  return known.get(step);
}

/** Invocations of a workgroup, as the text says; NaN where that is not of the usual form. */
export const workgroupOf = (step: KernelStep): number => memberOf(step)?.size ?? Number.NaN;

function takenApart(step: KernelStep): Member | undefined {
  const entry = ENTRY.exec(step.wgsl);
  if (!entry || step.workgroups.includes(0)) return undefined;
  const wants = [...entry[2]!.matchAll(/@builtin\((\w+)\)/g)].map(([, name]) => name!);
  if (!wants.every((name) => name in ARGUMENTS)) return undefined;
  const lines = step.wgsl.split("\n");
  const matches = (form: RegExp): string[][] => lines.flatMap((line) => (form.test(line) ? [form.exec(line)!.slice(1)] : []));
  const constants = new Map(matches(CONSTANT).map(([name, value]) => [name!, value!]));
  const aliases = new Map(matches(ALIAS).map(([name, type]) => [name!, type!]));
  const bindings = matches(BINDING).map(([name, type]) => ({ name: name!, type: type! }));
  const arrays = matches(ARRAY).map(([name, type, length]) => {
    return {
      name: name!,
      type: type!.replace(/\w+/g, (word) => aliases.get(word) ?? word),
      length: evaluateConstant(length!, constants),
    };
  });
  if (bindings.length !== step.bindings.length) return undefined;
  return {
    step,
    directives: lines.filter((line) => DIRECTIVE.test(line)),
    text: lines.filter((line) => ![DIRECTIVE, BINDING, UNIFORM, ARRAY].some((form) => form.test(line))).join("\n"),
    bindings,
    arrays,
    wants: wants as Member["wants"],
    size: evaluateConstant(entry[1]!, constants),
    isLoose: !/workgroupBarrier|subgroup/.test(step.wgsl) && arrays.length === 0,
  };
}

// --- putting kernels together ---------------------------------------------------------------------------------------------

/** Storage buffers of all members, a value once. */
class Buffers {
  readonly list: { readonly value: Value; readonly type: string; access: "read" | "write" }[] = [];

  /** The binding's name in the bundle. */
  name(value: Value, type: string, access: "read" | "write"): string {
    let at = this.list.findIndex((known) => known.value === value && known.type === type);
    if (at < 0) at = this.list.push({ value, type, access }) - 1;
    if (access === "write") this.list[at]!.access = access;
    return `buffer_${at}`;
  }

  /** True when a value is bound as two types: then it cannot lie in one GPU buffer with what the bundle writes. */
  get clash(): boolean {
    return new Set(this.list.map(({ value }) => value)).size < this.list.length;
  }

  get declarations(): string[] {
    return this.list.map(({ type, access }, i) => {
      const mode = access === "read" ? "read" : "read_write";
      return `@group(0) @binding(${i}) var<storage, ${mode}> buffer_${i}: array<${type}>;`;
    });
  }
}

const SCALAR_BYTES: Readonly<Record<string, number>> = { f32: 4, i32: 4, u32: 4, f16: 2 };

/** Bytes of a scalar, an atomic or a vector of two or four; NaN for any other type. */
function bytesOfType(type: string): number {
  const [, lanes, scalar] = /^(?:(?:vec([24])|atomic)<)?(\w+)>?$/.exec(type) ?? [];
  return Number(lanes ?? 1) * (SCALAR_BYTES[scalar ?? ""] ?? Number.NaN);
}

/** Workgroup memory: members use the same arrays, since a workgroup runs one of them. */
class SharedMemory {
  private readonly arrays = new Map<string, { readonly type: string; length: number }>();

  /** The name of a member's array number `at` of its type. */
  name(type: string, at: number, length: number): string {
    const name = `shared_${type.replace(/\W/g, "_")}_${at}`;
    this.arrays.set(name, { type, length: Math.max(length, this.arrays.get(name)?.length ?? 0) });
    return name;
  }

  /** NaN where a length or a type is not known. */
  get bytes(): number {
    return [...this.arrays.values()].reduce(
      (sum, { type, length }) => sum + 16 * Math.ceil((length * bytesOfType(type)) / 16),
      0,
    );
  }
  get declarations(): string[] {
    return [...this.arrays].map(([name, { type, length }]) => `var<workgroup> ${name}: array<${type}, ${length}>;`);
  }
}

/** The uniform block: what members want in theirs, and sizes that only a run knows. */
class Sizes {
  readonly params: Dim[] = [];

  /** Adds a member's block; returns its first vector. */
  block(params: readonly Dim[]): number {
    while (this.params.length % 4 > 0) this.params.push(0);
    return (this.params.push(...params) - params.length) / 4;
  }

  /** A size as u32 text. */
  text(dim: Dim): string {
    if (isStatic(dim)) return `${dim}u`;
    const at = this.params.push(dim) - 1;
    return `u32(params[${at >> 2}][${at & 3}])`;
  }

  declarations(binding: number): string[] {
    if (this.params.length === 0) return [];
    const vectors = Math.ceil(this.params.length / 4);
    return [`@group(0) @binding(${binding}) var<uniform> params: array<vec4<i32>, ${vectors}>;`];
  }
}

const DECLARED = /^(?:const|alias|fn|struct) (\w+)/gm;

/** The member's text with names of its own, the entry point a plain function. */
function renamed(member: Member, number: number, buffers: Buffers, memory: SharedMemory, sizes: Sizes): string {
  const { step, text, bindings, arrays } = member;
  const block = sizes.block(step.params);
  const names = new Map([...text.matchAll(DECLARED)].map(([, name]) => [name!, `${name}_${number}`]));
  bindings.forEach(({ name, type }, i) => {
    const { value, access } = step.bindings[i]!;
    names.set(name, buffers.name(value, type, access));
  });
  arrays.forEach(({ name, type, length }, i) => {
    const before = arrays.slice(0, i).filter((other) => other.type === type).length;
    names.set(name, memory.name(type, before, length));
  });
  return text
    .replace(ENTRY, (_, __, parameters: string) => `fn main(${parameters.replace(/@builtin\(\w+\) /g, "")}) {`)
    .replace(/\bparams\[(\d+)\]/g, (_, vector: string) => `params[${block + Number(vector)}]`)
    .replace(/(?<![.\w])[A-Za-z_]\w*/g, (name) => names.get(name) ?? name)
    .trimEnd();
}

/** What a member's built-in values are in the bundle. */
const ARGUMENTS = { workgroup_id: "group", num_workgroups: "grid", local_invocation_index: "own" } as const;

function entryPoint(members: readonly Member[], counts: readonly Dim[], size: number, sizes: Sizes): string {
  let start: Dim = 0;
  const branches = members.map(({ step, wants, size: own }, i) => {
    const [x, y] = step.workgroups;
    const [columns, rows, layer] = [sizes.text(x), sizes.text(y), sizes.text(mul(x, y))];
    const number = `(at - ${sizes.text(start)})${own === size ? "" : ` * ${size / own}u + lane / ${own}u`}`;
    start = add(start, counts[i]!);
    const call = `main_${i}(${wants.map((name) => ARGUMENTS[name]).join(", ")});`;
    return `if (at < ${sizes.text(start)}) {
    let number = ${number};
    let group = vec3u(number % ${columns}, number / ${columns} % ${rows}, number / ${layer});
    let grid = vec3u(${columns}, ${rows}, ${sizes.text(step.workgroups[2])});
    let own = lane % ${own}u;
    ${own === size ? call : `if (number < ${sizes.text(product(step.workgroups))}) { ${call} }`}
  }`;
  });
  return `@compute @workgroup_size(${size})
fn main(${ENTRY_PARAMETERS}) {
  let at = workgroup.y * workgroups.x + workgroup.x;
  ${branches.join(" else ")}
}`;
}
