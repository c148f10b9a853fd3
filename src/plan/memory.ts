// Activation memory: which slot, a GPU buffer, each value gets and where in it. Values whose lifetimes overlap lie side by
// side in a slot, others on top of each other. A kernel that reads and writes one slot must bind what it reads as writable,
// so that is done only where it saves memory.

import { buffersOf, lifetimes } from "../engine/lifetimes.ts";
import type { Step } from "../engine/plan.ts";
import { type Bindings, type Dim, dimText, evaluate, floorDiv, isStatic, mul, sameDim, symbolsOf } from "../ir/dims.ts";
import { BINDING_ALIGNMENT } from "../util/caps.ts";

export interface Tenant {
  /** False for inputs, outputs and weights, which have memory of their own. */
  readonly shared: boolean;
  readonly bytes: Dim;
}

export interface MemoryOptions {
  /** Symbols that are known before a run starts, with the sizes to plan for. Values of other sizes have a slot to themselves at a time. */
  readonly sizes: Bindings;
  /** Largest slot, in bytes. */
  readonly largest: number;
}

export interface Home {
  readonly slot: number;
  /** Bytes from the slot's start. */
  readonly offset: Dim;
}

export interface Memory {
  /** By buffer number. */
  readonly homes: ReadonlyMap<number, Home>;
  /** What each slot must hold: the largest of these. */
  readonly slots: readonly (readonly Dim[])[];
}

export function planMemory(steps: readonly Step[], tenants: readonly Tenant[], options: MemoryOptions): Memory {
  const items = itemsOf(steps, tenants, options);
  const planned = items.filter(({ known }) => known);
  const placement = best(planned, options.largest);
  const homes = new Map<number, Home>();
  const slots = placement.slots.map(sizesOf);
  placement.slots.forEach(({ tenants }, slot) => {
    for (const { item, offset } of tenants) homes.set(item.buffer, { slot, offset: mul(item.base, offset / item.scale) });
  });
  alone(
    items.filter(({ known }) => !known),
    homes,
    slots,
  );
  return { homes, slots };
}

// --- what is to be placed --------------------------------------------------------------------------------------------------

interface Item {
  readonly buffer: number;
  readonly bytes: Dim;
  /** Bytes at the sizes planned for. */
  readonly size: number;
  /** What `bytes` is a multiple of, and its value at those sizes. Only values of one base lie side by side: then they do at every size. */
  readonly base: Dim;
  readonly scale: number;
  /** True when the size is known before a run starts. */
  readonly known: boolean;
  readonly first: number;
  readonly last: number;
  /** Buffers that must not lie in the same slot: copies go from one to the other. */
  readonly apart: ReadonlySet<number>;
  /** Those that had better not: some kernel writes the one and reads the other. */
  readonly uneasy: ReadonlySet<number>;
}

function itemsOf(steps: readonly Step[], tenants: readonly Tenant[], { sizes }: MemoryOptions): Item[] {
  const lives = lifetimes(steps);
  const [apart, uneasy] = [new Map<number, Set<number>>(), new Map<number, Set<number>>()];
  eachPair(steps, (a, b, strict) => {
    if (a === b || !tenants[a]!.shared || !tenants[b]!.shared) return;
    const table = strict ? apart : uneasy;
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const known = table.get(one);
      if (known) known.add(other);
      else table.set(one, new Set([other]));
    }
  });
  return tenants.flatMap(({ shared, bytes }, buffer): Item[] => {
    if (!shared) return [];
    const { first, last } = lives.get(buffer) ?? { first: 0, last: -1 };
    const base = baseOf(bytes);
    // What is empty at the sizes planned for says nothing of other sizes: it is placed as if its size were not known.
    const known = [...symbolsOf(bytes)].every((name) => sizes.get(name) !== undefined) && (evaluate(base, sizes) ?? 0) > 0;
    return [
      {
        buffer,
        bytes,
        size: known ? evaluate(bytes, sizes)! : 0,
        base,
        scale: known ? evaluate(base, sizes)! : 0,
        known,
        first,
        last,
        apart: apart.get(buffer) ?? NONE,
        uneasy: uneasy.get(buffer) ?? NONE,
      },
    ];
  });
}

/** N·H for 64·N·H; 1 for numbers, all of it for sums. */
function baseOf(bytes: Dim): Dim {
  if (isStatic(bytes)) return 1;
  const [term, more] = bytes.terms;
  return more ? bytes : floorDiv(bytes, term!.coefficient);
}

const NONE: ReadonlySet<number> = new Set();

/** Names every pair of buffers that should be different ones for WebGPU, and those that must (`strict`). */
function eachPair(steps: readonly Step[], pair: (a: number, b: number, strict: boolean) => void): void {
  for (const step of steps) {
    switch (step.kind) {
      case "dispatch": {
        const writes = step.bindings.filter(({ access }) => access === "write");
        // What is bound twice, as scalars and as vectors, cannot be writable: two writable ranges must not overlap.
        const twice = (buffer: number): boolean => step.bindings.filter((binding) => binding.buffer === buffer).length > 1;
        for (const { buffer } of writes)
          for (const other of step.bindings) if (other.access === "read") pair(buffer, other.buffer, twice(other.buffer));
        break;
      }
      case "copy":
        pair(step.from, step.to, true);
        break;
      case "host":
        break;
      case "loop":
      case "if": {
        // Copies between turns and out of branches may touch any two of these.
        const own = buffersOf({ ...step, ...(step.kind === "loop" ? { body: [] } : { then: [], else: [] }) });
        for (const a of own) for (const b of own) pair(a, b, true);
        for (const inner of step.kind === "loop" ? [step.body] : [step.then, step.else]) eachPair(inner, pair);
      }
    }
  }
}

// --- placing -----------------------------------------------------------------------------------------------------------------

interface Placed {
  readonly item: Item;
  readonly offset: number;
}
interface Slot {
  bytes: number;
  /** In order of their first step. */
  readonly tenants: Placed[];
  /** Longest lifetime of a tenant. */
  longest: number;
}
interface Placement {
  readonly slots: Slot[];
  readonly bytes: number;
}

/** Orders in which to place, each good for other networks. */
const ORDERS: readonly ((a: Item, b: Item) => number)[] = [
  (a, b) => b.size - a.size || a.first - b.first,
  (a, b) => b.size - a.size || b.last - b.first - (a.last - a.first),
  (a, b) => b.size * (b.last - b.first + 1) - a.size * (a.last - a.first + 1),
  (a, b) => a.first - b.first || b.size - a.size,
];
/** How near to the lower bound is near enough. */
const ENOUGH = 1.005;

/** The best of several placements. */
function best(items: readonly Item[], largest: number): Placement {
  const enough = ENOUGH * mostLive(items);
  let found: Placement | undefined;
  for (const compare of ORDERS) {
    const placement = place([...items].sort(compare), largest);
    if (!found || placement.bytes < found.bytes) found = placement;
    if (found.bytes <= enough) return found;
  }
  // Forwards and backwards in time: either may meet what is hard to place first.
  const backwards = items.map((item) => ({ ...item, first: -item.last, last: -item.first }));
  for (const width of WIDTHS) {
    for (const order of [items, backwards]) {
      if (width > WIDTHS[0]! && width * items.length > WORK) return found!;
      found = search(order, largest, width, found!.bytes, enough) ?? found!;
      if (found.bytes <= NEAR * enough) return found;
    }
  }
  return found!;
}

function mostLive(items: readonly Item[]): number {
  const changes = new Map<number, number>();
  for (const { first, last, size } of items) {
    changes.set(first, (changes.get(first) ?? 0) + size);
    changes.set(last + 1, (changes.get(last + 1) ?? 0) - size);
  }
  let [live, most] = [0, 0];
  for (const [, change] of [...changes].sort(([a], [b]) => a - b)) most = Math.max(most, (live += change));
  return most;
}

/** Each item in turn where it makes the memory grow least, uneasy pairs apart. */
function place(order: readonly Item[], largest: number): Placement {
  const slots: Slot[] = [];
  const slotOf = new Map<number, number>();
  for (const item of order) {
    const forbidden = new Set<number>();
    for (const others of [item.apart, item.uneasy]) {
      for (const other of others) {
        const slot = slotOf.get(other);
        if (slot !== undefined) forbidden.add(slot);
      }
    }
    let [chosen, offset, least] = [-1, 0, item.size];
    let leastRoom = Number.POSITIVE_INFINITY;
    for (const [number, slot] of slots.entries()) {
      if (forbidden.has(number)) continue;
      const gap = gapFor(item, slot);
      if (!gap) continue;
      const growth = Math.max(0, gap.offset + item.size - slot.bytes);
      if (gap.offset + item.size > largest || growth > least || (growth === least && gap.room >= leastRoom)) continue;
      [chosen, offset, least, leastRoom] = [number, gap.offset, growth, gap.room];
    }
    if (chosen < 0) chosen = slots.push({ bytes: 0, tenants: [], longest: 0 }) - 1;
    const slot = slots[chosen]!;
    slot.bytes = Math.max(slot.bytes, offset + item.size);
    slot.longest = Math.max(slot.longest, item.last - item.first);
    slot.tenants.splice(firstAfter(slot.tenants, item.first), 0, { item, offset });
    slotOf.set(item.buffer, chosen);
  }
  return { slots, bytes: slots.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** Number of tenants whose lives begin at or before a step. */
function firstAfter(tenants: readonly Placed[], step: number): number {
  let [low, high] = [0, tenants.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tenants[middle]!.item.first <= step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Tenants of a slot that live while an item does, by offset. */
function neighbours({ first, last }: Item, { tenants, longest }: Slot): Placed[] {
  const found: Placed[] = [];
  for (let at = firstAfter(tenants, first - longest - 1); at < tenants.length && tenants[at]!.item.first <= last; at++) {
    if (tenants[at]!.item.last >= first) found.push(tenants[at]!);
  }
  return found.sort((a, b) => a.offset - b.offset);
}

/** Where the next value above may begin, at every size. */
function alignedEnd({ item: { size, scale }, offset }: Placed): number {
  const unit = BINDING_ALIGNMENT * scale;
  return Math.ceil((offset + size) / unit) * unit;
}

/** The narrowest gap between an item's neighbours that holds it, or the room above them; `room` is what it leaves over. */
function gapFor(item: Item, slot: Slot): { readonly offset: number; readonly room: number } | undefined {
  let found: { offset: number; room: number } | undefined;
  let from = 0;
  for (const other of neighbours(item, slot)) {
    if (!sameDim(other.item.base, item.base)) return undefined;
    const room = other.offset - from - item.size;
    if (room >= 0 && (!found || room < found.room)) found = { offset: from, room };
    from = Math.max(from, alignedEnd(other));
  }
  const above = Math.max(0, slot.bytes - from - item.size);
  // A gap within is worth more than room above, which something larger may need.
  return found ?? { offset: from, room: above };
}

// --- searching -----------------------------------------------------------------------------------------------------------------

/** A choice for each item up to some step: those alive, and by `before` all that came earlier. */
interface State {
  readonly bytes: number;
  /** Uneasy pairs that share a slot. */
  readonly shared: number;
  readonly sizes: readonly number[];
  readonly alive: readonly Assigned[];
  readonly latest: Assigned | undefined;
  readonly before: State | undefined;
}
interface Assigned extends Placed {
  readonly slot: number;
}

/** States kept a step, from few to many while the result is not near enough to the bound, as far as the work allows. */
const WIDTHS = [16, 128, 1024];
const WORK = 100_000;
const NEAR = 1.02;

/** What a kernel that reads and writes one slot counts as, as a part of the bytes. */
const SHARED = 1 / 512;

/** Beam search in the order of time; undefined when it finds nothing better than `limit` bytes. */
function search(items: readonly Item[], largest: number, width: number, limit: number, enough: number): Placement | undefined {
  // What is under the bound anyhow is equally good.
  const cost = ({ bytes, shared }: State): number => Math.max(bytes, enough) + shared * SHARED * enough;
  let states: State[] = [{ bytes: 0, shared: 0, sizes: [], alive: [], latest: undefined, before: undefined }];
  for (const item of [...items].sort((a, b) => a.first - b.first || b.size - a.size)) {
    const next = new Map<string, State>();
    for (const state of states) {
      for (const made of choicesFor(item, state, largest)) {
        if (cost(made) >= limit) continue;
        const key = `${made.sizes.join()}|${made.alive.map(({ item: { buffer }, slot, offset }) => `${buffer}.${slot}.${offset}`).join()}`;
        const same = next.get(key);
        if (!same || cost(made) < cost(same)) next.set(key, made);
      }
    }
    states = [...next.values()].sort((a, b) => cost(a) - cost(b) || a.sizes.length - b.sizes.length).slice(0, width);
    if (states.length === 0) return undefined;
  }
  const slots: Slot[] = states[0]!.sizes.map((bytes) => ({ bytes, tenants: [], longest: 0 }));
  for (let state: State | undefined = states[0]; state?.latest; state = state.before)
    slots[state.latest.slot]!.tenants.push(state.latest);
  return { slots, bytes: states[0]!.bytes };
}

/** Both ends of every gap of every slot that an item may lie in. */
function choicesFor(item: Item, state: State, largest: number): State[] {
  const alive = state.alive.filter((other) => other.item.last >= item.first);
  const slotsOf = (others: ReadonlySet<number>): readonly number[] =>
    alive.filter((other) => others.has(other.item.buffer)).map(({ slot }) => slot);
  const [forbidden, uneasy] = [new Set(slotsOf(item.apart)), slotsOf(item.uneasy)];
  const made: State[] = [];
  const assign = (slot: number, offset: number): void => {
    const size = state.sizes[slot] ?? 0;
    const grown = Math.max(size, offset + item.size);
    if (grown > largest && offset > 0) return;
    const sizes = [...state.sizes];
    sizes[slot] = grown;
    const latest = { item, slot, offset };
    const shared = state.shared + uneasy.filter((other) => other === slot).length;
    made.push({ bytes: state.bytes + grown - size, shared, sizes, alive: [...alive, latest], latest, before: state });
  };
  for (let slot = 0; slot < state.sizes.length; slot++) {
    if (forbidden.has(slot)) continue;
    const near = alive.filter((other) => other.slot === slot).sort((a, b) => a.offset - b.offset);
    if (near.some((other) => !sameDim(other.item.base, item.base))) continue;
    const unit = BINDING_ALIGNMENT * item.scale;
    let from = 0;
    for (const to of [...near.map(({ offset }) => offset), Number.POSITIVE_INFINITY]) {
      if (to - from >= item.size) assign(slot, from);
      const high = Math.floor((Math.min(to, state.sizes[slot]!) - item.size) / unit) * unit;
      if (high > from) assign(slot, high);
      from = Math.max(from, ...near.filter(({ offset }) => offset === to).map(alignedEnd));
    }
  }
  assign(state.sizes.length, 0);
  return made;
}

// --- as dimensions -----------------------------------------------------------------------------------------------------------

/** What a slot must hold: for each base the end of the last of its tenants. */
function sizesOf({ tenants }: Slot): Dim[] {
  const ends = new Map<string, { readonly base: Dim; end: number }>();
  for (const { item, offset } of tenants) {
    const { base, scale } = item;
    const known = ends.get(dimText(base)) ?? { base, end: 0 };
    ends.set(dimText(base), known);
    known.end = Math.max(known.end, (offset + item.size) / scale);
  }
  return [...ends.values()].map(({ base, end }) => mul(base, end));
}

/** Values whose size only the run tells: one at a time in a slot, each slot for values of one size. */
function alone(items: readonly Item[], homes: Map<number, Home>, slots: Dim[][]): void {
  const bySize = new Map<string, { slot: number; last: number }[]>();
  for (const { buffer, bytes, first, last } of [...items].sort((a, b) => a.first - b.first)) {
    const open = bySize.get(dimText(bytes)) ?? [];
    bySize.set(dimText(bytes), open);
    let home = open.find((slot) => slot.last < first);
    if (!home) open.push((home = { slot: slots.push([bytes]) - 1, last }));
    home.last = last;
    homes.set(buffer, { slot: home.slot, offset: 0 });
  }
}
