// Parses the format of text.ts by recursive descent.

import { badGraphText } from "../util/errors.ts";
import { type Dim, parseDim, shapeText } from "./dims.ts";
import type { Attribute, Graph, GraphNode } from "./graph.ts";
import { allocate, sizeOf, type Tensor, writer } from "./tensor.ts";
import { BARE, numberOf, Scope, storeElement, type TensorTable } from "./text-words.ts";
import { DTYPES, type DType } from "./types.ts";
import type { Value } from "./value.ts";

const TOKEN =
  /\s*("(?:[^"\\]|\\.)*"|::|==|#[0-9a-f]{32}|-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?f?|(?:inf|nan)(?![\w./#~-]))|[A-Za-z_/][\w./#~-]*|[[\]{}(),:=])/y;

/** Reads what `printGraph` writes; types of node outputs may be left out (they are f32[] then, for inference to set). Throws K109. */
export function parseGraph(text: string, data: TensorTable = new Map()): Graph {
  const parser = new Parser(text, data);
  const graph = parser.graph(undefined);
  parser.end();
  return graph;
}

class Parser {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly data: TensorTable,
  ) {}

  /** `graph "name" { … }`. */
  graph(outer: Scope<Value> | undefined): Graph {
    this.expect("graph");
    const name = this.string();
    const scope = new Scope(outer);
    const inputs: Value[] = [];
    const nodes: GraphNode[] = [];
    const outputs: { name: string; value: Value }[] = [];
    this.expect("{");
    while (!this.accept("}")) {
      if (this.accept("input")) inputs.push(this.define(scope));
      else if (this.accept("const")) {
        const value = this.define(scope);
        this.expect("=");
        value.data = this.literal(value.dtype, this.staticShape(value.shape));
      } else if (this.accept("output")) {
        const output = this.name();
        outputs.push({ name: output, value: this.find(scope, this.accept("=") ? this.name() : output) });
      } else nodes.push(this.node(scope));
    }
    return { name, inputs, outputs, nodes };
  }

  end(): void {
    if (this.peek() !== undefined || this.text.slice(this.at).trim() !== "") throw this.wrong("the end of the text");
  }

  private node(scope: Scope<Value>): GraphNode {
    const made: (Value | undefined)[] = [];
    do made.push(this.accept("_") ? undefined : this.typed());
    while (this.accept(","));
    this.expect("=");
    const first = this.name();
    const [domain, versioned] = this.accept("::") ? [first, this.name()] : ["", first];
    const dot = versioned.lastIndexOf(".");
    if (dot < 0) throw this.wrong("an operator with its version, as Relu.14");
    const inputs = this.items("(", ")", () => (this.accept("_") ? undefined : this.find(scope, this.name())));
    const attributes = this.peek() === "{" ? this.items("{", "}", () => this.attribute(scope)) : [];
    this.expect("as");
    const name = this.name();
    const origins = this.accept("from") ? this.items("(", ")", () => this.name()) : [name];
    for (const value of made) if (value) scope.own.set(value.name, value);
    return {
      name,
      origins,
      op: versioned.slice(0, dot),
      domain,
      opset: Number(versioned.slice(dot + 1)),
      inputs,
      outputs: made,
      attributes: new Map(attributes),
    };
  }

  private define(scope: Scope<Value>): Value {
    const value = this.typed();
    scope.own.set(value.name, value);
    return value;
  }

  /** `name: dtype[shape] == [contents] assumed literal data literal`; all after the name may be missing. */
  private typed(): Value {
    const value: Value = { name: this.name(), dtype: "f32", shape: [] };
    if (!this.accept(":")) return value;
    value.dtype = this.dtype();
    value.shape = this.dims();
    if (this.accept("==")) value.contents = this.dims();
    if (this.accept("assumed")) value.assumed = this.literal(value.dtype, this.staticShape(value.shape));
    if (this.accept("data")) value.data = this.literal(value.dtype, this.staticShape(value.shape));
    return value;
  }

  private attribute(scope: Scope<Value>): [string, Attribute] {
    const name = this.name();
    this.expect(":");
    return [name, this.attributeValue(scope)];
  }

  private attributeValue(scope: Scope<Value>): Attribute {
    const token = this.peek();
    if (token === undefined) throw this.wrong("an attribute");
    if (token === "graph") return { kind: "graph", value: this.graph(scope) };
    if (token.startsWith('"')) return { kind: "string", value: this.string() };
    if (token === "ints" || token === "floats" || token === "strings") {
      this.next();
      this.items("[", "]", () => undefined);
      return { kind: token, value: [] };
    }
    if (token === "[") {
      const items = this.items("[", "]", () => this.next());
      if (items.every((item) => item.startsWith('"')))
        return { kind: "strings", value: items.map((item) => JSON.parse(item) as string) };
      return { kind: items.some(isFloatText) ? "floats" : "ints", value: items.map((item) => this.number(item)) };
    }
    if (DTYPES.includes(token as DType)) {
      const dtype = this.dtype();
      return { kind: "tensor", value: this.literal(dtype, this.staticShape(this.dims())) };
    }
    const value = this.number(this.next());
    return { kind: isFloatText(token) ? "float" : "int", value };
  }

  private number(text: string): number {
    const value =
      text.endsWith("f") && text !== "inf" && text !== "-inf" ? Math.fround(Number(text.slice(0, -1))) : numberOf(text);
    if (Number.isNaN(value) && text !== "nan") throw this.wrong("a number");
    return value;
  }

  /** A tensor of a known type: elements inline, or the digest of one in the table. */
  private literal(dtype: DType, shape: readonly number[]): Tensor {
    const token = this.peek();
    if (token?.startsWith("#")) {
      this.next();
      const found = this.data.get(token.slice(1));
      if (!found) throw badGraphText(this.line(), `the tensor ${token} is not in the table beside the text`);
      return { ...found, dtype, shape };
    }
    const items = token === "[" ? this.items("[", "]", () => this.next()) : [this.next()];
    if (items.length !== sizeOf(shape))
      throw badGraphText(this.line(), `${items.length} elements for the shape ${shapeText(shape)}`);
    const tensor: Tensor = { dtype, shape, data: allocate(dtype, items.length) };
    const write = writer(tensor);
    items.forEach((item, i) => storeElement(tensor, i, item, write));
    return tensor;
  }

  private dtype(): DType {
    const token = this.next();
    if (!DTYPES.includes(token as DType)) throw this.wrong("an element type", token);
    return token as DType;
  }

  /** `[dim, …]`, each in the words of dims.ts. */
  private dims(): Dim[] {
    this.expect("[");
    const dims: Dim[] = [];
    let depth = 0;
    for (let start = this.at; ; this.at++) {
      const char = this.text[this.at];
      if (char === undefined) throw this.wrong("]");
      if (char === '"') for (this.at++; this.text[this.at] !== '"'; this.at++) if (this.text[this.at] === "\\") this.at++;
      if (char === "(") depth++;
      if (char === ")") depth--;
      if (depth > 0 || (char !== "," && char !== "]")) continue;
      const dim = this.text.slice(start, this.at).trim();
      if (dim !== "" || char === ",") dims.push(this.dim(dim));
      start = this.at + 1;
      if (char === "]") break;
    }
    this.at++;
    return dims;
  }
  private dim(text: string): Dim {
    try {
      return parseDim(text);
    } catch (error) {
      throw badGraphText(this.line(), (error as Error).message);
    }
  }
  private staticShape(shape: readonly Dim[]): readonly number[] {
    return shape.map((dim) => {
      if (typeof dim === "number") return dim;
      throw badGraphText(this.line(), `a constant of the shape ${shapeText(shape)}`);
    });
  }

  private find(scope: Scope<Value>, name: string): Value {
    const value = scope.find(name);
    if (!value) throw badGraphText(this.line(), `no value "${name}" before this`);
    return value;
  }

  private items<T>(open: string, close: string, item: () => T): T[] {
    const items: T[] = [];
    this.expect(open);
    while (!this.accept(close)) {
      items.push(item());
      if (this.peek() !== close) this.expect(",");
    }
    return items;
  }
  private name(): string {
    const token = this.next();
    if (token.startsWith('"')) return JSON.parse(token) as string;
    if (!BARE.test(token)) throw this.wrong("a name", token);
    return token;
  }
  private string(): string {
    const token = this.next();
    if (!token.startsWith('"')) throw this.wrong("a string", token);
    return JSON.parse(token) as string;
  }
  private accept(token: string): boolean {
    if (this.peek() !== token) return false;
    this.next();
    return true;
  }
  private expect(token: string): void {
    if (!this.accept(token)) throw this.wrong(`"${token}"`);
  }
  private peek(): string | undefined {
    TOKEN.lastIndex = this.at;
    return TOKEN.exec(this.text)?.[1];
  }
  private next(): string {
    const token = this.peek();
    if (token === undefined) throw this.wrong("more text");
    this.at = TOKEN.lastIndex;
    return token;
  }
  private line(): number {
    return this.text.slice(0, this.at).split("\n").length;
  }
  private wrong(expected: string, found = this.peek()): Error {
    return badGraphText(this.line(), `expected ${expected}, found ${found === undefined ? "the end" : JSON.stringify(found)}`);
  }
}

const isFloatText = (token: string): boolean => /[.e]|inf|nan/.test(token);
