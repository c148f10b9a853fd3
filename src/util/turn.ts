/** Lets the event loop turn once: what waits goes on, and Dawn looks for finished work. A timer would take milliseconds. */
export const turnOfOthers = (): Promise<void> =>
  new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(undefined);
    }
  });
