// What happens on the page: every call to the worker, and what the state says of it.

import { proxy, type Remote, transfer, wrap } from "comlink";
import { NEEDED, type NetworkReport, type Workshop } from "./protocol.ts";
import { type Sample, samplesOf } from "./samples.ts";
import { isReady, type Shown, type State, type Store, type Tab } from "./state.ts";

const LAST_TAB = "kiln-demo-tab";

export class Actions {
  private readonly worker: Remote<Workshop>;
  /** What is looked at: a file, or a sample's address. */
  private source: Blob | undefined;

  constructor(private readonly store: Store) {
    this.worker = wrap<Workshop>(new Worker(new URL("worker.js", import.meta.url), { type: "module", name: "kiln" }));
  }

  private get state(): State {
    return this.store.state;
  }

  /** Opens the device; an earlier visit's engines run at once. */
  async start(): Promise<void> {
    const last = localStorage.getItem(LAST_TAB);
    if (last === "text" || last === "faces") this.store.set({ tab: last });
    const { tab } = this.state;
    if (tab !== "own") await this.show(samplesOf(tab)[0]!, false);
    await this.open();
  }

  /** Opens a device, the first or one after a loss. */
  async open(): Promise<void> {
    const listener = proxy({
      progress: (progress: State["progress"]) => this.state.busy && this.store.set({ progress }),
      network: (report: NetworkReport) => this.add(report),
      lost: (lost: string) => this.store.set({ lost, findings: undefined, busy: false, progress: undefined }),
    });
    try {
      const device = await this.worker.open(listener);
      this.store.set({ device, lost: undefined, failure: undefined });
      if (isReady(this.state)) await this.find();
    } catch (failure) {
      this.store.set({ unsupported: (failure as Error).message });
    }
  }

  async choose(tab: Tab): Promise<void> {
    this.closeCamera();
    this.store.set({ tab, findings: undefined, failure: undefined, picture: undefined });
    if (tab === "own") return;
    localStorage.setItem(LAST_TAB, tab);
    await this.show(samplesOf(tab)[0]!, false);
    if (isReady(this.state)) await this.find();
  }

  /** Takes any file: a picture, a model or an engine. */
  async take(file: File): Promise<void> {
    if (file.name.endsWith(".onnx")) return this.takeModel(file);
    if (file.name.endsWith(".engine")) return this.loadEngine(file);
    if (this.state.tab === "own") {
      const what = file.name || "this file";
      this.store.set({
        failure: `${what} is neither a model nor an engine\n  hint: drop a file that ends in .onnx or .engine`,
      });
      return;
    }
    await this.show({ title: file.name, file });
  }

  /** Shows a picture, and looks at it. */
  async show(given: Sample | { readonly title: string; readonly file: Blob }, thenFind = true): Promise<void> {
    this.closeCamera();
    this.store.set({ findings: undefined, failure: undefined, pointed: undefined });
    try {
      this.source = "file" in given ? given.file : await fetched(given.address);
      this.setPicture(await shownOf(given.title, this.source));
    } catch (failure) {
      this.store.set({ failure: (failure as Error).message });
      return;
    }
    if (thenFind) await this.find();
  }

  private setPicture(picture: Shown): void {
    if (this.state.picture) URL.revokeObjectURL(this.state.picture.address);
    this.store.set({ picture });
  }

  /** Looks at the picture, then times the networks that did. */
  async find(): Promise<void> {
    const { tab, device, lost } = this.state;
    const { source } = this;
    if (tab === "own" || !source || !device || lost) return;
    await this.working(async () => {
      const findings = await this.worker.find(tab, source);
      if (this.source !== source || this.state.tab !== tab) return;
      this.store.set({ findings });
      const shown = NEEDED[tab].find((id) => id === this.state.network) ?? NEEDED[tab][0];
      this.select(shown);
    });
    for (const id of NEEDED[tab]) await this.measure(id);
  }

  /** Times a network and, where that takes seconds, sets it beside itself without fusion. */
  private async measure(id: string): Promise<void> {
    if (this.state.timings[id] || this.state.lost || !this.state.networks.some((network) => network.id === id)) return;
    await this.working(async () => {
      this.store.set({ progress: { title: "Timing every kernel", detail: "" } });
      const timing = await this.worker.time(id);
      this.store.set({ timings: { ...this.state.timings, [id]: timing } });
    });
    const network = this.state.networks.find((one) => one.id === id);
    if (!this.state.device?.isSoftware && network?.comparable) await this.compare(id);
  }

  async compare(id: string): Promise<void> {
    if (this.state.comparisons[id]) return;
    await this.working(async () => {
      const comparison = await this.worker.compare(id);
      this.store.set({ comparisons: { ...this.state.comparisons, [id]: comparison } });
    });
  }

  /** Reads a model's free sizes; builds it at once where it has none. */
  async takeModel(file: File): Promise<void> {
    this.closeCamera();
    this.store.set({ tab: "own", own: undefined, failure: undefined });
    await this.working(async () => {
      const bytes = new Uint8Array(await file.arrayBuffer());
      this.store.set({ progress: { title: `Reading ${file.name}`, detail: "loading the compiler" } });
      const sizes = await this.worker.freeSizes(file.name, bytes);
      this.store.set({ own: { name: file.name, bytes, sizes } });
      if (sizes.length === 0) await this.buildOwn({});
    });
  }

  /** Builds the visitor's model with these sizes, and times it. */
  async buildOwn(sizes: Readonly<Record<string, number>>): Promise<void> {
    const { own } = this.state;
    if (!own) return;
    this.store.set({ failure: undefined });
    const report = await this.working(() => this.worker.build(own.name, own.bytes, sizes));
    if (report) await this.present(report);
  }

  async loadEngine(file: File): Promise<void> {
    this.closeCamera();
    this.store.set({ tab: "own", own: undefined, failure: undefined });
    const report = await this.working(async () => this.worker.load(file.name, new Uint8Array(await file.arrayBuffer())));
    if (report) await this.present(report);
  }

  private async present(report: NetworkReport): Promise<void> {
    this.select(report.id);
    await this.measure(report.id);
  }

  /** Hands the engine file to the browser's downloads. */
  async download(id: string): Promise<void> {
    await this.working(async () => {
      const file = new Blob([await this.worker.file(id)], { type: "application/octet-stream" });
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: `${id}.engine` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    });
  }

  async forget(): Promise<void> {
    await this.working(async () => {
      await this.worker.forget();
      localStorage.removeItem(LAST_TAB);
      if (this.state.device) this.store.set({ device: { ...this.state.device, kept: [] } });
    });
  }

  async loseDevice(): Promise<void> {
    await this.worker.loseDevice();
  }

  /** Looks at what the camera sees, picture after picture. */
  async openCamera(): Promise<void> {
    const { tab } = this.state;
    if (tab === "own") return;
    try {
      const camera = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: tab === "text" ? "environment" : "user" },
      });
      this.source = undefined;
      this.store.set({ camera, picture: undefined, findings: undefined, failure: undefined });
    } catch (failure) {
      const { message } = failure as Error;
      this.store.set({ failure: `The camera cannot be used: ${message}\n  hint: allow it for this page, or choose a picture` });
    }
  }

  /** A picture of the camera has been drawn: looks at it, and then at the next. */
  async watch(video: HTMLVideoElement): Promise<void> {
    const { camera } = this.state;
    while (this.state.camera && this.state.camera === camera && !this.state.lost && this.state.tab !== "own") {
      const { tab } = this.state;
      const frame = await createImageBitmap(video);
      const found = await this.working(() => this.worker.find(tab, transfer(frame, [frame])));
      if (!found) return this.closeCamera();
      if (this.state.camera === camera) this.store.set({ findings: found });
      await new Promise((drawn) => requestAnimationFrame(drawn));
    }
  }

  /** Back from the camera to a sample. */
  async stopCamera(): Promise<void> {
    const { tab } = this.state;
    if (tab !== "own") await this.show(samplesOf(tab)[0]!, false);
  }

  private closeCamera(): void {
    for (const track of this.state.camera?.getTracks() ?? []) track.stop();
    if (this.state.camera) this.store.set({ camera: undefined, findings: undefined });
  }

  drag(isDragged: boolean): void {
    if (isDragged !== this.state.isDragged) this.store.set({ isDragged });
  }

  point(pointed: number | undefined): void {
    this.store.set({ pointed });
  }

  select(network: string, kernel = 0): void {
    this.store.set({ network, kernel });
  }

  private add(report: NetworkReport): void {
    const others = this.state.networks.filter(({ id }) => id !== report.id);
    const { comparison, from, id } = report;
    const { device } = this.state;
    this.store.set({
      device: device && from === "built" ? { ...device, kept: [...new Set([...device.kept, id])] } : device,
      networks: [...others, report],
      network: this.state.network ?? report.id,
      ...(comparison ? { comparisons: { ...this.state.comparisons, [report.id]: comparison } } : {}),
    });
  }

  /** Marks the page as busy while something is done, and shows what went wrong with it. */
  private async working<T>(work: () => Promise<T>): Promise<T | undefined> {
    this.store.set({ busy: true });
    try {
      return await work();
    } catch (failure) {
      if (!this.state.lost) this.store.set({ failure: (failure as Error).message });
      return undefined;
    } finally {
      this.store.set({ busy: false, progress: undefined });
    }
  }
}

async function fetched(address: string): Promise<Blob> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: the server said ${response.status} ${response.statusText}`);
  return response.blob();
}

/** Decodes a picture to know its size, so that its place on the page is there before it is. */
async function shownOf(name: string, file: Blob): Promise<Shown> {
  const address = URL.createObjectURL(file);
  const picture = Object.assign(new Image(), { src: address });
  try {
    await picture.decode();
  } catch {
    URL.revokeObjectURL(address);
    throw new Error(`${name} is no picture that this browser can show\n  hint: JPEG, PNG, WebP, GIF and AVIF are`);
  }
  return { name, address, width: picture.naturalWidth, height: picture.naturalHeight };
}
