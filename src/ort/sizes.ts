// Which sizes an engine is built for, from those seen so far: what was always the same is fixed, so that kernels know it;
// what varied is bounded by a profile with room to grow, so that a sequence that grows by one builds few engines.

export type Sizes = ReadonlyMap<string, number>;

export interface Bounds {
  readonly min: number;
  readonly opt: number;
  readonly max: number;
}
/** What an engine admits. Every free dimension is in one of the two. */
export interface Scope {
  readonly fixed: Sizes;
  readonly ranges: ReadonlyMap<string, Bounds>;
}

export const admits = ({ fixed, ranges }: Scope, sizes: Sizes): boolean =>
  [...fixed].every(([name, size]) => sizes.get(name) === size) &&
  [...ranges].every(([name, { min, max }]) => sizes.get(name)! >= min && sizes.get(name)! <= max);

export class SizeHistory {
  private readonly spans = new Map<string, { readonly least: number; readonly most: number }>();

  note(sizes: Sizes): void {
    for (const [name, size] of sizes) {
      const { least, most } = this.spans.get(name) ?? { least: size, most: size };
      this.spans.set(name, { least: Math.min(least, size), most: Math.max(most, size) });
    }
  }

  /** The scope that holds all that was noted, to be tuned at `sizes`, which are among it. */
  scope(sizes: Sizes): Scope {
    const varied = (name: string): boolean => this.spans.get(name)!.least !== this.spans.get(name)!.most;
    const bounds = (name: string, opt: number): Bounds => {
      const { least, most } = this.spans.get(name)!;
      return { min: Math.min(least, 1), opt, max: 2 ** (1 + Math.ceil(Math.log2(most))) };
    };
    return {
      fixed: new Map([...sizes].filter(([name]) => !varied(name))),
      ranges: new Map([...sizes].flatMap(([name, size]) => (varied(name) ? [[name, bounds(name, size)]] : []))),
    };
  }
}
