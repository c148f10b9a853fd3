// Images as inputs: resized, cropped, normalized and laid out on the GPU, straight into the buffer that the network reads.

import shader from "../../shaders/image.wgsl";
import { roundUp4 } from "../gpu/buffers.ts";
import { BufferUsage, TextureUsage } from "../gpu/constants.ts";
import { badImage } from "../util/errors.ts";
import type { Source, SourceTarget } from "./ends.ts";
import type { PlanInput } from "./plan.ts";
import type { Scratch } from "./scratch.ts";

/** Rows of pixels of 1 (grey), 3 (RGB) or 4 bytes (RGBA; alpha is not looked at), without gaps. */
export interface Pixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}
/** Pixels, or what a browser can copy into a texture: ImageBitmap, VideoFrame, a video, a canvas. */
export type Picture = Pixels | GPUCopyExternalImageSource;

export interface ImageOptions {
  /**
   * "letterbox": all of the image, its proportions kept, the rest filled; "crop": all of the input, its proportions kept, what
   * hangs over left out; "stretch": all of both. Default "stretch".
   */
  readonly fit?: "stretch" | "letterbox" | "crop";
  /** Where a letterboxed or cropped image lies: "center" (default) or "start", at the left and at the top. */
  readonly align?: "center" | "start";
  /** The part of the image to take, in its pixels. */
  readonly region?: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  /** The channels of the input: "rgb" (default), "bgr", or "grey" (ITU-R BT.601's luma). */
  readonly channels?: "rgb" | "bgr" | "grey";
  /** Where channels are among the input's axes: "nchw" (default) or "nhwc". */
  readonly layout?: "nchw" | "nhwc";
  /** An element is (byte · scale − mean) / std, of the input's channels in their order. Defaults 1/255, 0 and 1. */
  readonly scale?: number;
  readonly mean?: number | readonly number[];
  readonly std?: number | readonly number[];
  /** Red, green and blue around a letterboxed image, 0–255. Default black. */
  readonly fill?: readonly [number, number, number];
  /** The input's width and height where the model leaves them free. */
  readonly size?: { readonly width: number; readonly height: number };
}

/** As in the shader. */
const PARAM_FLOATS = 40;
const WEIGHTS = {
  rgb: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  bgr: [
    [0, 0, 1],
    [0, 1, 0],
    [1, 0, 0],
  ],
  grey: [[0.299, 0.587, 0.114]],
} as const;

/** As gl-matrix has it: [a, b, c, d, x, y] maps (u, v) to (a·u + c·v + x, b·u + d·v + y). */
export type Mat2d = readonly [a: number, b: number, c: number, d: number, x: number, y: number];

/**
 * An image as an input: `context.execute({ x: image(bitmap, { fit: "letterbox", channels: "bgr" }) })`. One kernel samples it
 * bilinearly between pixel centres, without smoothing where it shrinks (as OpenCV's INTER_LINEAR), and writes the input.
 * Error K615 when the picture or the options do not fit the input.
 */
export const image = (picture: Picture, options: ImageOptions = {}): ImageSource => new ImageSource(picture, options);

export class ImageSource implements Source {
  private matrix: Mat2d | undefined;

  constructor(
    private readonly picture: Picture,
    private readonly options: ImageOptions,
  ) {}

  /**
   * Maps positions in the input, in pixels, to positions in the image: `vec2.transformMat2d(corner, corner, source.toImage)` brings
   * a box back. Known once a run has begun. Error K615 before.
   */
  get toImage(): Mat2d {
    if (!this.matrix) throw badImage("image", "the input's size is not known before a run", "ask for `toImage` after it");
    return this.matrix;
  }

  shapeFor({ name, dtype, shape }: PlanInput): readonly number[] {
    const { layout = "nchw", channels = "rgb", size } = this.options;
    const place = `input "${name}"`;
    const rank = shape.length;
    if (rank !== 3 && rank !== 4) throw badImage(place, `an image has 3 or 4 dimensions, the input ${rank}`);
    if (!["f32", "f16", "bf16", "f64", "u8"].includes(dtype)) throw badImage(place, `an image cannot be ${dtype}`);
    const axes = layout === "nchw" ? ["channels", "height", "width"] : ["height", "width", "channels"];
    const wanted: Record<string, number | undefined> = { batch: 1, channels: WEIGHTS[channels].length, ...size };
    return shape.map((text, axis) => {
      const what = rank === 4 && axis === 0 ? "batch" : axes[axis - (rank - 3)]!;
      const fixed = /^\d+$/.test(text) ? Number(text) : undefined;
      const want = wanted[what];
      if (want === undefined && fixed === undefined)
        throw badImage(place, `its ${what} is free`, "say the `size` that the image is to have there");
      if (want !== undefined && fixed !== undefined && want !== fixed)
        throw badImage(place, `its ${what} is ${fixed}, the image is to have ${want}`, "see `layout`, `channels` and `size`");
      return want ?? fixed!;
    });
  }

  async encode(encoder: GPUCommandEncoder, target: SourceTarget, scratch: Scratch): Promise<void> {
    const { layout = "nchw" } = this.options;
    const [first, second, third] = target.shape.slice(-3) as [number, number, number];
    const [channels, height, width] = layout === "nchw" ? [first, second, third] : [third, first, second];
    const pixels = await this.bring(encoder, target, scratch);
    const region = this.region(pixels.size, target.name);
    this.matrix = imageMatrix(region, { width, height }, this.options);
    const words = new Float32Array(PARAM_FLOATS);
    const integers = new Uint32Array(words.buffer);
    const m = this.matrix;
    words.set([m[0], m[2], m[4]], 0);
    words.set([m[1], m[3], m[5]], 4);
    words.set([region.x, region.y, region.x + region.width, region.y + region.height], 8);
    this.mix(channels, target.name).forEach((row, channel) => words.set(row, 12 + 4 * channel));
    words.set(this.options.fill ?? [0, 0, 0], 28);
    integers.set([width, height, channels, layout === "nchw" ? 0 : 1], 32);
    integers.set([pixels.pitch, pixels.bytesPerPixel, channels * height * width, formOf(target)], 36);
    const params = await scratch.buffer(
      `${target.name} image parameters`,
      words.byteLength,
      BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    );
    scratch.memory.write(params, words);
    const { pipeline, layout: group } = await scratch.compile({
      label: "image",
      wgsl: shader,
      bindings: ["read", "write", "uniform"],
    });
    const { device } = scratch.device;
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(
      0,
      device.createBindGroup({
        layout: group,
        entries: [
          { binding: 0, resource: { buffer: pixels.buffer } },
          { binding: 1, resource: { buffer: target.buffer, offset: target.offset, size: Math.max(4, target.bytes) } },
          { binding: 2, resource: { buffer: params } },
        ],
      }),
    );
    const groups = Math.ceil(target.bytes / 4 / 64);
    const across = Math.min(groups, 32768);
    pass.dispatchWorkgroups(across, across === 0 ? 0 : Math.ceil(groups / across));
    pass.end();
  }

  /** The picture's bytes in a buffer. */
  private async bring(
    encoder: GPUCommandEncoder,
    { name }: SourceTarget,
    scratch: Scratch,
  ): Promise<{ buffer: GPUBuffer; size: Size; pitch: number; bytesPerPixel: number }> {
    const { picture } = this;
    const size = sizeOf(picture);
    const { width, height } = size;
    if (!(width > 0 && height > 0)) throw badImage(`input "${name}"`, `the image is ${width} by ${height} pixels`);
    if ("data" in picture) {
      const bytesPerPixel = picture.data.length / (width * height);
      if (![1, 3, 4].includes(bytesPerPixel))
        throw badImage(
          `input "${name}"`,
          `${picture.data.length} bytes are not ${width} by ${height} pixels`,
          "give 1, 3 or 4 bytes a pixel",
        );
      const buffer = await scratch.buffer(`${name} pixels`, roundUp4(picture.data.length));
      await scratch.memory.upload(buffer, picture.data);
      return { buffer, size, pitch: width * bytesPerPixel, bytesPerPixel };
    }
    const { COPY_SRC, COPY_DST, RENDER_ATTACHMENT } = TextureUsage;
    const usage = COPY_SRC | COPY_DST | RENDER_ATTACHMENT;
    const texture = scratch.texture(`${name} picture`, { size: [width, height], format: "rgba8unorm", usage });
    scratch.device.queue.copyExternalImageToTexture({ source: picture }, { texture }, [width, height]);
    const pitch = Math.ceil((width * 4) / 256) * 256;
    const buffer = await scratch.buffer(`${name} pixels`, pitch * height);
    encoder.copyTextureToBuffer({ texture }, { buffer, bytesPerRow: pitch }, [width, height]);
    return { buffer, size, pitch, bytesPerPixel: 4 };
  }

  private region({ width, height }: Size, input: string): Region {
    const { region = { x: 0, y: 0, width, height } } = this.options;
    const { x, y } = region;
    const numbers = [x, y, region.width, region.height];
    if (!numbers.every(Number.isInteger) || x < 0 || y < 0 || region.width < 1 || region.height < 1)
      throw badImage(`input "${input}"`, `region ${numbers.join(", ")} is not one of whole pixels`);
    if (x + region.width > width || y + region.height > height)
      throw badImage(
        `input "${input}"`,
        `region ${numbers.join(", ")} reaches out of the image of ${width} by ${height} pixels`,
      );
    return region;
  }

  /** Of each channel of the input the weights of red, green and blue, and what is added. */
  private mix(count: number, input: string): number[][] {
    const { channels = "rgb", scale = 1 / 255, mean = 0, std = 1 } = this.options;
    const each = (value: number | readonly number[], name: string): readonly number[] => {
      const list = typeof value === "number" ? Array<number>(count).fill(value) : value;
      if (list.length !== count) throw badImage(`input "${input}"`, `${name} has ${list.length} numbers for ${count} channels`);
      return list;
    };
    const [means, stds] = [each(mean, "mean"), each(std, "std")];
    return WEIGHTS[channels].map((row, c) => [...row.map((weight) => (weight * scale) / stds[c]!), -means[c]! / stds[c]!]);
  }
}

interface Size {
  readonly width: number;
  readonly height: number;
}
type Region = NonNullable<ImageOptions["region"]>;

/** The sizes of all that a browser draws, under the names that each has. */
const sizeOf = (picture: Picture): Size => {
  const { displayWidth, displayHeight, videoWidth, videoHeight, naturalWidth, naturalHeight, width, height } =
    picture as unknown as Record<string, number | undefined>;
  return {
    width: displayWidth ?? videoWidth ?? naturalWidth ?? width ?? 0,
    height: displayHeight ?? videoHeight ?? naturalHeight ?? height ?? 0,
  };
};

/** How the shader is to store elements. */
const formOf = ({ storage: { item, lanes } }: SourceTarget): number =>
  item === "f32" ? 0 : item === "f16" ? 1 : lanes === 4 ? 2 : 3;

/** From positions in the input to those in the image. A letterboxed image covers whole pixels of the input. */
export function imageMatrix(region: Region, size: Size, { fit = "stretch", align = "center" }: ImageOptions): Mat2d {
  const [across, down] = [size.width / region.width, size.height / region.height];
  const shared = fit === "letterbox" ? Math.min(across, down) : Math.max(across, down);
  const covered = (extent: number, scale: number): number => {
    if (fit === "stretch") return extent * scale;
    return fit === "letterbox" ? Math.max(1, Math.round(extent * shared)) : extent * shared;
  };
  const [width, height] = [covered(region.width, across), covered(region.height, down)];
  const spare = align === "center" ? [(size.width - width) / 2, (size.height - height) / 2] : [0, 0];
  const [left, top] = fit === "letterbox" ? spare.map(Math.floor) : spare;
  const [x, y] = [region.width / width, region.height / height];
  return [x, 0, 0, y, region.x - x * left!, region.y - y * top!];
}
