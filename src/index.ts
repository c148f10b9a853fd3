// The public API in the browser. Node's, in node.ts, has the same names.

export * from "./api.ts";
export { Builder, loadTimingCache, Runtime, saveTimingCache } from "./browser.ts";
