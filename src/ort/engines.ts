// The engines of one session: at most a few at a time, each for the sizes of a scope, built when a run needs it.

import type { Builder, BuildOptions } from "../builder.ts";
import type { ExecutionContext } from "../engine/context.ts";
import type { Engine } from "../engine/engine.ts";
import { bindInputs, DimensionTable } from "../engine/shapes.ts";
import type { Declared } from "../importer/signature.ts";
import { dimText, isStatic, loneSymbol } from "../ir/dims.ts";
import { sizeOf, type Tensor } from "../ir/tensor.ts";
import { isInteger } from "../ir/types.ts";
import type { ProfileShapes } from "../plan/profiles.ts";
import { KilnError } from "../util/errors.ts";
import { admits, type Scope, SizeHistory, type Sizes } from "./sizes.ts";

/** What a run gives for an input: its shape, and its contents where they are in host memory. */
export type Given = Pick<Tensor, "shape"> & Partial<Tensor>;

/** An engine and its context. */
export interface Ready {
  readonly engine: Engine;
  readonly context: ExecutionContext;
}
interface Built extends Ready {
  readonly scope: Scope;
}

/** Inputs of so many integers may be those that shapes depend on. */
const SHAPE_VALUES = 16;

export class Engines {
  /** Used last at the end. */
  private readonly built: Built[] = [];
  private readonly history = new SizeHistory();
  private readonly table = new DimensionTable();

  constructor(
    private readonly builder: Builder,
    private readonly onnx: Uint8Array,
    private readonly options: BuildOptions,
    private readonly inputs: readonly Declared[],
    private readonly limit: number,
    /** Told of every engine that was built. */
    private readonly onBuilt: (engine: Engine) => void,
  ) {}

  /** An engine that takes these inputs. Errors: K604 and K607 where shapes do not fit the model, those of `Builder.build`. */
  async for(given: ReadonlyMap<string, Given>): Promise<Ready> {
    const sizes = this.sizesOf(given);
    const found = this.built.find((each) => admits(each.scope, sizes) && holds(each.engine, given));
    const built = found ?? (await this.build(sizes, given));
    this.built.splice(this.built.indexOf(built), 1);
    this.built.push(built);
    return built;
  }

  dispose(): void {
    for (const { engine } of this.built.splice(0)) engine.dispose();
  }

  private sizesOf(given: ReadonlyMap<string, Given>): Sizes {
    const inputs = this.inputs.map(({ name, shape }) => ({ name, shape: shape.map(dimText) }));
    const shapes = new Map([...given].map(([name, { shape }]) => [name, shape]));
    return bindInputs({ inputs, profiles: [] }, this.table, shapes).bindings;
  }

  private async build(sizes: Sizes, given: ReadonlyMap<string, Given>): Promise<Built> {
    this.history.note(sizes);
    const scope = this.history.scope(sizes);
    while (this.built.length >= this.limit) this.built.shift()!.engine.dispose();
    const engine = await this.compile(scope, given);
    this.onBuilt(engine);
    const built = { scope, engine, context: engine.createExecutionContext() };
    this.built.push(built);
    return built;
  }

  /** Builds; where shapes turn out to depend on what inputs hold (K302), for the contents of the small integer ones. */
  private async compile(scope: Scope, given: ReadonlyMap<string, Given>): Promise<Engine> {
    const options: BuildOptions = {
      ...this.options,
      sizes: { ...this.options.sizes, ...Object.fromEntries(scope.fixed) },
      profiles: scope.ranges.size > 0 ? [this.profile(scope)] : [],
    };
    try {
      return await this.builder.build(this.onnx, options);
    } catch (failure) {
      const shapeValues = Object.fromEntries([...given].filter((entry): entry is [string, Tensor] => mayShape(entry[1])));
      if (!(failure instanceof KilnError && failure.code === "K302") || Object.keys(shapeValues).length === 0) throw failure;
      return this.builder.build(this.onnx, { ...options, shapeValues });
    }
  }

  private profile({ fixed, ranges }: Scope): ProfileShapes {
    const shapeAt = ({ shape }: Declared, bound: "min" | "opt" | "max"): number[] =>
      shape.map((dim) => (isStatic(dim) ? dim : (fixed.get(loneSymbol(dim)!) ?? ranges.get(loneSymbol(dim)!)![bound])));
    return Object.fromEntries(
      this.inputs.map((input) => [
        input.name,
        { min: shapeAt(input, "min"), opt: shapeAt(input, "opt"), max: shapeAt(input, "max") },
      ]),
    );
  }
}

const mayShape = ({ shape, dtype, data }: Given): boolean =>
  data !== undefined && dtype !== undefined && isInteger(dtype) && sizeOf(shape) <= SHAPE_VALUES;

/** True unless the engine was built for other contents of its inputs. */
const holds = ({ plan }: Engine, given: ReadonlyMap<string, Given>): boolean =>
  plan.inputs.every(({ name, assumed }) => {
    const data = given.get(name)?.data;
    return !assumed || (data !== undefined && Array.from(data, String).join() === assumed.join());
  });
