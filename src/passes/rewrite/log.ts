// What the passes did, one entry a rewrite. A limit stops them after so many: that is how a miscompile is bisected.

export interface RewriteLog {
  /** In order: the rule or pass, and the node it started from. */
  readonly applied: readonly { readonly rule: string; readonly node: string }[];
  readonly counts: ReadonlyMap<string, number>;
  readonly limit: number;
  /** Records one rewrite and says true, or says false when the limit is reached and it must not happen. */
  readonly take: (rule: string, node: string) => boolean;
}

/** An empty log that lets `limit` rewrites happen. */
export function rewriteLog(limit: number = Number.POSITIVE_INFINITY): RewriteLog {
  const applied: { rule: string; node: string }[] = [];
  const counts = new Map<string, number>();
  return {
    applied,
    counts,
    limit,
    take: (rule, node) => {
      if (applied.length >= limit) return false;
      applied.push({ rule, node });
      counts.set(rule, (counts.get(rule) ?? 0) + 1);
      return true;
    },
  };
}
