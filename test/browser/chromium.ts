// Chromium on its software WebGPU, and the demo served from dist/demo, for the demo's tests.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import sirv from "sirv";

export const DEMO = join(import.meta.dirname, "../../dist/demo");
export const SHARED = join(import.meta.dirname, "../../../shared");

/** The demo at an address of its own. */
export const serveDemo = (): ReturnType<typeof serve> => serve(DEMO);

/** A folder at an address of its own. */
export async function serve(folder: string): Promise<{ address: string; close(): void }> {
  const server = createServer(sirv(folder));
  await new Promise<void>((listening) => server.listen(0, listening));
  const close = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { address: `http://localhost:${(server.address() as AddressInfo).port}/`, close };
}

/** A visitor: a browser with a profile of its own, which stays from visit to visit. */
export class Visitor {
  private constructor(
    readonly context: BrowserContext,
    private readonly profile: string,
  ) {}

  /** `gpu: false` is a browser without WebGPU. */
  static async arrive({ gpu = true, width = 1280, height = 900 } = {}): Promise<Visitor> {
    const profile = mkdtempSync(join(tmpdir(), "kiln-browser-"));
    const webgpu = gpu
      ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
      : ["--disable-gpu", "--disable-features=WebGPU,WebGPUService"];
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [...webgpu, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
      viewport: { width, height },
    });
    return new Visitor(context, profile);
  }

  /** The page's messages of errors, none of which a test expects. */
  async open(address: string): Promise<{ page: Page; problems: readonly string[] }> {
    const page = await this.context.newPage();
    page.setDefaultTimeout(220_000); // software WebGPU takes what cores are left
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    await page.goto(address);
    return { page, problems };
  }

  async leave(): Promise<void> {
    await this.context.close();
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

/** Everything that a page and its worker ask the server for. */
export function requestsOf(page: Page): { readonly path: string; readonly gzip: () => Promise<number> }[] {
  const requests: { path: string; gzip: () => Promise<number> }[] = [];
  page.on("response", (response) => {
    const path = new URL(response.url()).pathname;
    if (response.url().startsWith("http")) requests.push({ path, gzip: async () => gzipSync(await response.body()).length });
  });
  return requests;
}
