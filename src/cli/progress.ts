// How a build's progress is shown: a bar on a terminal, plain lines when piped, nothing when quiet. All of it on stderr.

import cliProgress from "cli-progress";
import type { BuildProgress } from "../builder.ts";

export interface Progress {
  readonly report: (progress: BuildProgress) => void;
  /** Clears the bar: call before printing anything else. */
  stop(): void;
}

export function showProgress(quiet: boolean, stream: NodeJS.WriteStream = process.stderr): Progress {
  if (quiet) return { report: () => {}, stop: () => {} };
  return stream.isTTY ? barOn(stream) : linesOn(stream);
}

function barOn(stream: NodeJS.WriteStream): Progress {
  const bar = new cliProgress.SingleBar(
    {
      stream,
      format: "{stage} [{bar}] {value}/{total} {what}",
      hideCursor: true,
      clearOnComplete: true,
      stopOnComplete: false,
    },
    cliProgress.Presets.shades_classic,
  );
  let open = false;
  return {
    report({ stage, done = 0, total = 1, what = "" }) {
      const fields = { stage, what: what.slice(0, Math.max(0, stream.columns - 70)) };
      if (!open) bar.start(total, done, fields);
      else {
        bar.setTotal(total);
        bar.update(done, fields);
      }
      open = true;
    },
    stop() {
      if (open) bar.stop();
      open = false;
    },
  };
}

/** A line a stage, and within a stage one every five seconds. */
function linesOn(stream: NodeJS.WriteStream): Progress {
  let last = "";
  let lastTime = 0;
  return {
    report({ stage, done, total, what }) {
      const now = performance.now();
      if (stage === last && now - lastTime < 5000) return;
      [last, lastTime] = [stage, now];
      stream.write(`${stage}${total === undefined ? "" : ` ${done ?? 0}/${total}`}${what ? ` ${what}` : ""}\n`);
    },
    stop() {},
  };
}
