// What tactics make of a task again and again: kept as long as the task is.

/** A function that gives what `make` made for this task on a device of these capabilities under this key, and calls it once. */
export function remembering<T>(): (task: object, caps: object, key: string, make: () => T) => T {
  const known = new WeakMap<object, WeakMap<object, Map<string, T>>>();
  return (task, caps, key, make) => {
    let ofTask = known.get(task);
    if (!ofTask) known.set(task, (ofTask = new WeakMap()));
    let ofCaps = ofTask.get(caps);
    if (!ofCaps) ofTask.set(caps, (ofCaps = new Map()));
    const made = ofCaps.get(key) ?? make();
    ofCaps.set(key, made);
    return made;
  };
}
