// What the page knows, and how it changes: one object, drawn again after every change.

import {
  type Comparison,
  type DeviceReport,
  type Findings,
  type FreeSize,
  NEEDED,
  type NetworkReport,
  type Progress,
  type Subject,
  type Timing,
} from "./protocol.ts";

/** What a visitor does with the page. */
export type Tab = Subject | "own";

/** The picture that is shown, and where it came from. */
export interface Shown {
  readonly name: string;
  readonly address: string;
  readonly width: number;
  readonly height: number;
}

/** A model of the visitor's that waits for its free sizes. */
export interface OwnModel {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly sizes: readonly FreeSize[];
}

export interface State {
  readonly tab: Tab;
  readonly device?: DeviceReport | undefined;
  /** Why nothing can run here: there is no WebGPU, or no adapter. */
  readonly unsupported?: string | undefined;
  /** The device is gone. */
  readonly lost?: string | undefined;
  readonly busy: boolean;
  readonly progress?: Progress | undefined;
  readonly failure?: string | undefined;
  readonly picture?: Shown | undefined;
  readonly findings?: Findings | undefined;
  /** The finding under the pointer, or with the focus. */
  readonly pointed?: number | undefined;
  readonly camera?: MediaStream | undefined;
  readonly own?: OwnModel | undefined;
  readonly networks: readonly NetworkReport[];
  readonly timings: Readonly<Record<string, Timing>>;
  readonly comparisons: Readonly<Record<string, Comparison>>;
  /** The network and the kernel that the panels show. */
  readonly network?: string | undefined;
  readonly kernel: number;
  readonly isDragged: boolean;
}

/** Nothing has to be built for the tab: its networks are here, or in the browser's store. */
export const isReady = ({ tab, device, networks }: State): boolean =>
  tab !== "own" && NEEDED[tab].every((needed) => device?.kept.includes(needed) || networks.some(({ id }) => id === needed));

export const initial: State = {
  tab: "faces",
  busy: false,
  networks: [],
  timings: {},
  comparisons: {},
  kernel: 0,
  isDragged: false,
};

/** Holds the state; tells `draw` of changes, once a frame. */
export class Store {
  private waiting = false;

  constructor(
    public state: State,
    private readonly draw: (state: State) => void,
  ) {}

  set(change: Partial<State>): void {
    this.state = { ...this.state, ...change };
    if (this.waiting) return;
    this.waiting = true;
    // After a frame, not in it: drawing and laying out are tasks of their own then, and neither is long.
    requestAnimationFrame(() =>
      setTimeout(() => {
        this.waiting = false;
        this.draw(this.state);
      }),
    );
  }
}
