// A depthwise convolution between two pointwise ones, or before one: a workgroup makes TILE_H x TILE_W positions in all
// PROJECTED channels. What the tile reaches of the input lies in workgroup memory; CHUNK expanded channels at a time are made
// from it, convolved, and multiplied into sums that stay in registers. With SPLITS the chunks are shared out over the grid.

alias T = f32;                   //# spec
const TILE_H = 4u;               //# spec
const TILE_W = 4u;               //# spec
// Positions of the input that a tile reaches at most: as far as its taps go, or all.
const REACH_H = 6u;              //# spec
const REACH_W = 6u;              //# spec
const KERNEL_H = 3u;             //# spec
const KERNEL_W = 3u;             //# spec
const STRIDE_H = 1u;             //# spec
const STRIDE_W = 1u;             //# spec
const DILATION_H = 1u;           //# spec
const DILATION_W = 1u;           //# spec
// Whether there is a pointwise convolution before the depthwise one, and its input channels.
const EXPANDS = true;            //# spec
const INPUTS = 16u;              //# spec
const EXPANDED = 32u;            //# spec
const PROJECTED = 16u;           //# spec
const CHUNK = 16u;               //# spec
const SPLITS = 1u;               //# spec
// Positions that an invocation expands at a time; positions and vectors of channels that it projects.
const PART = 4u;                 //# spec
const ROWS = 2u;                 //# spec
const COLUMNS = 1u;              //# spec
const SIZE = 64u;                //# spec

const SPAN_H = (TILE_H - 1u) * STRIDE_H + (KERNEL_H - 1u) * DILATION_H + 1u;
const SPAN_W = (TILE_W - 1u) * STRIDE_W + (KERNEL_W - 1u) * DILATION_W + 1u;
const REACH = REACH_H * REACH_W;
const TILE = TILE_H * TILE_W;
// Odd numbers of vectors, so that neighbouring channels lie in different banks.
const STRIDE_REACH = REACH | 1u;
const STRIDE_TILE = TILE | 1u;
const VECTORS_IN = select(1u, INPUTS / 4u, EXPANDS);
const VECTORS = CHUNK / 4u;
const VECTORS_OUT = PROJECTED / 4u;
const LANES_TILE = (TILE + ROWS - 1u) / ROWS;
const LANES_OUT = (VECTORS_OUT + COLUMNS - 1u) / COLUMNS;

fn size_h() -> i32 { return 8; }                                                                              //# hook
fn size_w() -> i32 { return 8; }                                                                              //# hook
fn out_h() -> i32 { return 8; }                                                                               //# hook
fn out_w() -> i32 { return 8; }                                                                               //# hook
fn pad_h() -> i32 { return 1; }                                                                               //# hook
fn pad_w() -> i32 { return 1; }                                                                               //# hook
// Four channels of the input.
fn load_input(batch: i32, c: i32, y: i32, x: i32) -> vec4<f32> { return vec4<f32>(f32(batch + c + y + x)); }  //# hook
// Weights of four expanded channels for one input channel.
fn load_expand(c: i32, e: i32) -> vec4<f32> { return vec4<f32>(f32(c + e)); }                                 //# hook
fn finish_expand(batch: i32, e: i32, y: i32, x: i32, sums: vec4<f32>) -> vec4<f32> { return sums; }           //# hook
fn load_depthwise(e: i32, v: i32, u: i32) -> vec4<f32> { return vec4<f32>(f32(e + v + u)); }                  //# hook
fn finish_depthwise(batch: i32, e: i32, y: i32, x: i32, sums: vec4<f32>) -> vec4<f32> { return sums; }        //# hook
fn load_project(e: i32, p: i32) -> vec4<f32> { return vec4<f32>(f32(e + p)); }                                //# hook
fn store(batch: i32, part: i32, y: i32, x: i32, p: i32, sums: vec4<f32>) { return; }                          //# hook

var<workgroup> inputs: array<vec4<T>, VECTORS_IN * STRIDE_REACH>;
var<workgroup> expanded: array<vec4<T>, VECTORS * STRIDE_REACH>;
var<workgroup> convolved: array<vec4<T>, VECTORS * STRIDE_TILE>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = i32(workgroup.z / SPLITS);
  let part = workgroup.z % SPLITS;
  let tile_y = i32(workgroup.y * TILE_H);
  let tile_x = i32(workgroup.x * TILE_W);
  // What the tile reaches, within the input.
  let low_y = max(tile_y * i32(STRIDE_H) - pad_h(), 0);
  let low_x = max(tile_x * i32(STRIDE_W) - pad_w(), 0);
  let high_y = min(tile_y * i32(STRIDE_H) - pad_h() + i32(SPAN_H), size_h());
  let high_x = min(tile_x * i32(STRIDE_W) - pad_w() + i32(SPAN_W), size_w());
  let width = u32(max(high_x - low_x, 1));
  let reach = u32(max(high_y - low_y, 0)) * u32(max(high_x - low_x, 0));
  if (EXPANDS) {
    for (var at = lane; at < reach * VECTORS_IN; at += SIZE) {
      let place = at / VECTORS_IN;
      let c = at % VECTORS_IN;
      inputs[c * STRIDE_REACH + place] = vec4<T>(load_input(batch, i32(c * 4u), low_y + i32(place / width), low_x + i32(place % width)));
    }
    workgroupBarrier();
  }
  let lane_tile = lane / LANES_OUT;
  let lane_out = lane % LANES_OUT;
  var sums = array<vec4<f32>, ROWS * COLUMNS>();
  for (var first = part * (EXPANDED / SPLITS); first < (part + 1u) * (EXPANDED / SPLITS); first += CHUNK) {
    if (EXPANDS) {
      let blocks = (reach + PART - 1u) / PART;
      for (var at = lane; at < blocks * VECTORS; at += SIZE) {
        let v = at % VECTORS;
        let e = i32(first + v * 4u);
        let block = at / VECTORS;
        // Initialized explicitly: drivers were seen to zero a variable in a loop only once.
        var made = array<vec4<f32>, PART>();
        for (var c = 0u; c < VECTORS_IN; c++) {
          let w0 = load_expand(i32(c * 4u), e);
          let w1 = load_expand(i32(c * 4u + 1u), e);
          let w2 = load_expand(i32(c * 4u + 2u), e);
          let w3 = load_expand(i32(c * 4u + 3u), e);
          for (var i = 0u; i < PART; i++) { //# unroll
            let x = vec4<f32>(inputs[c * STRIDE_REACH + min(block + i * blocks, REACH - 1u)]);
            made[i] = fma(vec4<f32>(x.x), w0, fma(vec4<f32>(x.y), w1, fma(vec4<f32>(x.z), w2, fma(vec4<f32>(x.w), w3, made[i]))));
          }
        }
        for (var i = 0u; i < PART; i++) { //# unroll
          let place = block + i * blocks;
          if (place < reach) {
            expanded[v * STRIDE_REACH + place] = vec4<T>(finish_expand(batch, e, low_y + i32(place / width), low_x + i32(place % width), made[i]));
          }
        }
      }
    } else {
      for (var at = lane; at < reach * VECTORS; at += SIZE) {
        let place = at / VECTORS;
        let v = at % VECTORS;
        expanded[v * STRIDE_REACH + place] = vec4<T>(load_input(batch, i32(first + v * 4u), low_y + i32(place / width), low_x + i32(place % width)));
      }
    }
    workgroupBarrier();
    for (var at = lane; at < TILE * VECTORS; at += SIZE) {
      let place = at % TILE;
      let v = at / TILE;
      let e = i32(first + v * 4u);
      let y = tile_y + i32(place / TILE_W);
      let x = tile_x + i32(place % TILE_W);
      var made = vec4<f32>();
      for (var row = 0u; row < KERNEL_H; row++) {
        let from_y = y * i32(STRIDE_H) - pad_h() + i32(row * DILATION_H);
        for (var column = 0u; column < KERNEL_W; column++) {
          let from_x = x * i32(STRIDE_W) - pad_w() + i32(column * DILATION_W);
          if (from_y >= low_y && from_y < high_y && from_x >= low_x && from_x < high_x) {
            let value = expanded[v * STRIDE_REACH + u32(from_y - low_y) * width + u32(from_x - low_x)];
            made = fma(vec4<f32>(value), load_depthwise(e, i32(row), i32(column)), made);
          }
        }
      }
      // Positions beyond the edge are made from nothing and never stored.
      convolved[v * STRIDE_TILE + place] = vec4<T>(finish_depthwise(batch, e, min(y, out_h() - 1), min(x, out_w() - 1), made));
    }
    workgroupBarrier();
    if (lane_tile < LANES_TILE) {
      for (var v = 0u; v < VECTORS; v++) {
        let e = i32(first + v * 4u);
        var values: array<vec4<f32>, ROWS>;
        for (var i = 0u; i < ROWS; i++) { //# unroll
          values[i] = vec4<f32>(convolved[v * STRIDE_TILE + min(lane_tile + i * LANES_TILE, TILE - 1u)]);
        }
        for (var j = 0u; j < COLUMNS; j++) { //# unroll
          let p = i32(min(lane_out + j * LANES_OUT, VECTORS_OUT - 1u) * 4u);
          let w0 = load_project(e, p);
          let w1 = load_project(e + 1, p);
          let w2 = load_project(e + 2, p);
          let w3 = load_project(e + 3, p);
          for (var i = 0u; i < ROWS; i++) { //# unroll
            let x = values[i];
            sums[i * COLUMNS + j] = fma(vec4<f32>(x.x), w0, fma(vec4<f32>(x.y), w1, fma(vec4<f32>(x.z), w2, fma(vec4<f32>(x.w), w3, sums[i * COLUMNS + j]))));
          }
        }
      }
    }
  }
  for (var i = 0u; i < ROWS; i++) { //# unroll
    let place = lane_tile + i * LANES_TILE;
    let y = tile_y + i32(place / TILE_W);
    let x = tile_x + i32(place % TILE_W);
    if (lane_tile < LANES_TILE && place < TILE && y < out_h() && x < out_w()) {
      for (var j = 0u; j < COLUMNS; j++) { //# unroll
        let p = lane_out + j * LANES_OUT;
        if (p < VECTORS_OUT) { store(batch, i32(part), y, x, i32(p * 4u), sums[i * COLUMNS + j]); }
      }
    }
  }
}
