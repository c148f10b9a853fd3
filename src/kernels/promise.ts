// Several lists of candidates as one, the most promising first.

/** What a list's next item is worth trying, relative to the one before. */
const DECAY = 0.85;

/** Items by worth: that of their list, less for each item of it that came before. */
export function* byPromise<T>(lists: readonly { readonly worth: number; readonly items: Iterable<T> }[]): Generator<T> {
  const sources = lists.map(({ worth, items }) => ({ worth, items: items[Symbol.iterator]() }));
  while (sources.length > 0) {
    const best = sources.reduce((a, b) => (b.worth > a.worth ? b : a));
    const next = best.items.next();
    if (next.done) sources.splice(sources.indexOf(best), 1);
    else yield next.value;
    best.worth *= DECAY;
  }
}
