// Einsum: operands are contracted from left to right. Two operands that share a summed label become a matrix product over
// their common labels (batch), each one's own (rows, columns) and the summed ones; the rest are products and sums of elements.
// ONNX: https://onnx.ai/onnx/operators/onnx__Einsum.html

import { type Dim, product } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch, typeMismatch } from "../util/errors.ts";
import { broadcastIndex, broadcastShapes } from "./broadcast.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { wrap } from "./elementwise.ts";

type Label = string;
type At = ReadonlyMap<Label, Expr>;

interface Equation {
  /** One label an axis of each input; those of an ellipsis count from its right end: ".0", ".1", … */
  readonly inputs: readonly (readonly Label[])[];
  readonly output: readonly Label[];
}

/** Something with an element for each value of its labels; nothing is stored until a task needs it. */
interface Operand {
  readonly labels: readonly Label[];
  readonly read: (at: At) => Expr;
}

const ELLIPSIS = "...";

function parseEquation(node: NodeFacts, text: string, ranks: readonly number[]): Equation {
  const bad = (what: string): Error =>
    badAttribute(
      node,
      "equation",
      `${JSON.stringify(text)}: ${what}`,
      `terms of letters and at most one "...", as in "ij,jk->ik"`,
    );
  const [left, right, ...more] = text.replace(/\s/g, "").split("->");
  if (more.length > 0) throw bad(`it has more than one "->"`);
  const terms = left!.split(",");
  if (terms.length !== ranks.length) throw bad(`it has ${terms.length} terms for ${ranks.length} inputs`);
  const tokens = (term: string): string[] => {
    const found = term.match(/\.\.\.|[A-Za-z]/g) ?? [];
    if (found.join("") !== term || found.filter((token) => token === ELLIPSIS).length > 1) throw bad(`"${term}" is not a term`);
    return found;
  };
  const ellipsis = (length: number): Label[] => Array.from({ length }, (_, i) => `.${length - 1 - i}`);
  const inputs = terms.map((term, i) => {
    const list = tokens(term);
    const free = ranks[i]! - list.filter((token) => token !== ELLIPSIS).length;
    if (free < 0 || (free > 0 && !list.includes(ELLIPSIS)))
      throw shapeMismatch(node, `input ${i} has rank ${ranks[i]}, its term "${term}" does not`);
    return list.flatMap((token) => (token === ELLIPSIS ? ellipsis(free) : [token]));
  });
  const all = inputs.flat();
  const dots = ellipsis(
    Math.max(0, ...all.filter((label) => label.startsWith(".")).map((label) => Number(label.slice(1)) + 1)),
  );
  const implied = (): Label[] => [
    ...dots,
    ...[...new Set(all)].filter((label) => !label.startsWith(".") && all.indexOf(label) === all.lastIndexOf(label)).sort(),
  ];
  const output = right === undefined ? implied() : tokens(right).flatMap((token) => (token === ELLIPSIS ? dots : [token]));
  if (new Set(output).size < output.length) throw bad("a label of the output is there twice");
  const unknown = output.find((label) => !all.includes(label));
  if (unknown !== undefined) throw bad(`no input has the output's label "${unknown}"`);
  return { inputs, output };
}

class Contraction {
  constructor(
    private readonly b: Lowering,
    private readonly dtype: DType,
    private readonly extents: ReadonlyMap<Label, Dim>,
  ) {}

  of(value: Value, labels: readonly Label[]): Operand {
    const target = labels.map((label) => this.extents.get(label)!);
    return {
      labels: [...new Set(labels)],
      read: (at) =>
        x.load(
          value,
          broadcastIndex(
            value.shape,
            labels.map((label) => at.get(label)!),
            target,
          ),
        ),
    };
  }

  /** The operand with every label that is not in `keep` summed. */
  sum(operand: Operand, keep: readonly Label[]): Operand {
    const kept = operand.labels.filter((label) => keep.includes(label));
    return kept.length === operand.labels.length ? operand : this.of(this.store(operand, kept), kept);
  }

  /** The operand as a value over `order`; other labels are summed. */
  store({ labels, read }: Operand, order: readonly Label[]): Value {
    const summed = labels.filter((label) => !order.includes(label));
    if (summed.length === 0) return this.b.map(this.dtype, this.shape(order), (i) => wrap(read(bind(order, i)), this.dtype));
    return this.b.reduce(
      this.dtype,
      this.shape(order),
      this.shape(summed),
      (o, i) => [{ fn: "sum", body: () => read(bind([...order, ...summed], [...o, ...i])) }],
      ([sum]) => wrap(sum!, this.dtype),
    );
  }

  /** The product of two operands, summed over labels that are not in `keep`. */
  multiply(left: Operand, right: Operand, keep: readonly Label[]): Operand {
    const a = this.sum(left, [...keep, ...right.labels]);
    const c = this.sum(right, [...keep, ...left.labels]);
    const shared = a.labels.filter((label) => c.labels.includes(label));
    const summed = shared.filter((label) => !keep.includes(label));
    const batch = shared.filter((label) => keep.includes(label));
    const rows = a.labels.filter((label) => !shared.includes(label));
    const columns = c.labels.filter((label) => !shared.includes(label));
    const both: Operand = { labels: [...batch, ...rows, ...columns, ...summed], read: (at) => x.mul(a.read(at), c.read(at)) };
    if (summed.length === 0) return both;
    if (rows.length === 0 && columns.length === 0) return this.sum(both, keep);
    const [m, n, k] = [this.shape(rows), this.shape(columns), this.shape(summed)];
    const out = this.b.gemm(
      this.dtype,
      { batch: this.shape(batch), m: product(m), n: product(n), k: product(k) },
      (index, row, inner) =>
        a.read(bind([...batch, ...rows, ...summed], [...index, ...x.unflatten(row, m), ...x.unflatten(inner, k)])),
      (index, inner, column) =>
        c.read(bind([...batch, ...columns, ...summed], [...index, ...x.unflatten(column, n), ...x.unflatten(inner, k)])),
      (acc) => wrap(acc, this.dtype),
    );
    const at = (at: At, labels: readonly Label[]): Expr[] => labels.map((label) => at.get(label)!);
    return {
      labels: [...batch, ...rows, ...columns],
      read: (index) => x.load(out, [...at(index, batch), x.flatten(at(index, rows), m), x.flatten(at(index, columns), n)]),
    };
  }

  private shape(labels: readonly Label[]): Dim[] {
    return labels.map((label) => this.extents.get(label)!);
  }
}

const bind = (labels: readonly Label[], index: readonly Expr[]): At => new Map(labels.map((label, i) => [label, index[i]!]));

/** The size of each label: that of every axis that has it, or of those that are not 1. */
function extentsOf(node: NodeFacts, values: readonly Value[], { inputs }: Equation): ReadonlyMap<Label, Dim> {
  const extents = new Map<Label, Dim>();
  inputs.forEach((labels, i) =>
    labels.forEach((label, axis) => {
      const size = values[i]!.shape[axis]!;
      const before = extents.get(label);
      extents.set(label, before === undefined ? size : broadcastShapes(node, [before], [size])[0]!);
    }),
  );
  return extents;
}

export function einsum(b: Lowering, node: NodeFacts, text: string, values: readonly Value[]): Value {
  const { dtype } = values[0]!;
  if (values.some((value) => value.dtype !== dtype))
    throw typeMismatch(node, `inputs are ${values.map((value) => value.dtype).join(" and ")}: all must have one type`);
  const equation = parseEquation(
    node,
    text,
    values.map(({ shape }) => shape.length),
  );
  const contraction = new Contraction(b, dtype, extentsOf(node, values, equation));
  const operands = values.map((value, i) => contraction.of(value, equation.inputs[i]!));
  const result = operands.reduce((left, right, i) =>
    contraction.multiply(left, right, [...equation.output, ...equation.inputs.slice(i + 1).flat()]),
  );
  return contraction.store(result, equation.output);
}

export const einsums: readonly Operator[] = [
  defineOp<string>({
    name: "Einsum",
    since: [12, 28],
    attrs: (read) => read.string("equation", ""),
    lower: (b, inputs, equation, node) => [
      einsum(
        b,
        node,
        equation,
        inputs.map((_, i) => need(node, inputs, i)),
      ),
    ],
  }),
];
