// Numbers in words for people.

export const bytes = (count: number): string =>
  count < 1000 ? `${count} B` : count < 1e6 ? `${digits(count / 1000)} kB` : `${digits(count / 1e6)} MB`;

export const duration = (ms: number): string =>
  ms < 1 ? `${digits(ms * 1000)} µs` : ms < 1000 ? `${digits(ms)} ms` : `${digits(ms / 1000)} s`;

/** Three significant digits, no more than are there. */
export const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

export const count = (many: number, one: string): string => `${many} ${one}${many === 1 ? "" : "s"}`;

export const percent = (fraction: number): string =>
  fraction > 0 && fraction < 0.01 ? "<1 %" : `${Math.round(100 * fraction)} %`;
