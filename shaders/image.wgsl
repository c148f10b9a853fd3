// Writes an image into a network's input: resampled, its channels mixed, scaled and laid out. Each invocation writes one word:
// one float or integer, two halves, or four bytes.

struct Params {
  // Position in the input, in pixels, to position in the image: the rows of a matrix.
  to_x: vec4f,
  to_y: vec4f,
  // Left, top, right and bottom of what is shown of the image, in its pixels.
  region: vec4f,
  // Of each channel of the input: the weights of red, green and blue, and what is added.
  mix: array<vec4f, 4>,
  // What surrounds the image.
  fill: vec4f,
  // The input's width, height and channels, and whether channels are its last axis.
  shape: vec4u,
  // Bytes of the image's rows and of its pixels; elements of the input; how they are stored.
  source: vec4u,
}
const F16 = 1u;
const BYTES = 2u;
const INTEGER = 3u;

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

fn byte(at: u32) -> f32 {
  return f32((pixels[at / 4u] >> (8u * (at % 4u))) & 255u);
}

fn pixel(x: f32, y: f32) -> vec3f {
  let at = u32(y) * params.source.x + u32(x) * params.source.y;
  if (params.source.y < 3u) { return vec3f(byte(at)); }
  return vec3f(byte(at), byte(at + 1u), byte(at + 2u));
}

// Bilinear between the centres of pixels, those at the region's edge continued outwards.
fn sample(position: vec2f) -> vec3f {
  let low = params.region.xy;
  let high = params.region.zw - 1.0;
  let at = clamp(position - 0.5, low, high);
  let a = floor(at);
  let b = min(a + 1.0, high);
  let t = at - a;
  return mix(
    mix(pixel(a.x, a.y), pixel(b.x, a.y), t.x),
    mix(pixel(a.x, b.y), pixel(b.x, b.y), t.x),
    t.y,
  );
}

fn element(index: u32) -> f32 {
  let width = params.shape.x;
  let height = params.shape.y;
  let channels = params.shape.z;
  var channel = index / (width * height);
  var at = index % (width * height);
  if (params.shape.w != 0u) {
    channel = index % channels;
    at = index / channels;
  }
  let centre = vec3f(f32(at % width) + 0.5, f32(at / width) + 0.5, 1.0);
  let position = vec2f(dot(params.to_x.xyz, centre), dot(params.to_y.xyz, centre));
  var color = params.fill.rgb;
  if (all(position >= params.region.xy) && all(position < params.region.zw)) { color = sample(position); }
  return dot(params.mix[channel].rgb, color) + params.mix[channel].a;
}

fn at_or_zero(index: u32) -> f32 {
  if (index < params.source.z) { return element(index); }
  return 0.0;
}

fn rounded(value: f32) -> u32 {
  return u32(clamp(floor(value + 0.5), 0.0, 255.0));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let word = id.y * groups.x * 64u + id.x;
  if (word >= arrayLength(&result)) { return; }
  switch (params.source.w) {
    case F16: {
      result[word] = pack2x16float(vec2f(at_or_zero(2u * word), at_or_zero(2u * word + 1u)));
    }
    case BYTES: {
      var packed = 0u;
      for (var lane = 0u; lane < 4u; lane++) { packed |= rounded(at_or_zero(4u * word + lane)) << (8u * lane); }
      result[word] = packed;
    }
    case INTEGER: { result[word] = rounded(element(word)); }
    default: { result[word] = bitcast<u32>(element(word)); }
  }
}
