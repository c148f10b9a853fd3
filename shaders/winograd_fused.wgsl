// Winograd's F(2x2, 3x3) in one kernel: a workgroup makes TILES tiles of 2x2 results in WIDTH output channels. Tiles of the
// input are transformed on their way into workgroup memory, DEPTH channels at a time; an invocation sums one of the 16 points
// for PART_TILES x PART_WIDTH of the workgroup's tiles and channels; the points of a tile meet again in workgroup memory.

const TILES = 16u;               //# spec
const WIDTH = 32u;               //# spec
const DEPTH = 4u;                //# spec
const PART_TILES = 4u;           //# spec
const PART_WIDTH = 8u;           //# spec
const POINTS = 16u;
const LANES_T = TILES / PART_TILES;
const LANES_W = WIDTH / PART_WIDTH;
const THREADS = POINTS * LANES_T * LANES_W;

var<workgroup> inputs: array<f32, POINTS * DEPTH * TILES>;
var<workgroup> weights: array<f32, POINTS * DEPTH * WIDTH>;
var<workgroup> sums: array<f32, POINTS * TILES * LANES_W>;

fn size_tiles() -> i32 { return 16; }                                                   //# hook
fn size_n() -> i32 { return 32; }                                                       //# hook
fn size_k() -> i32 { return 4; }                                                        //# hook
// Writes point p of the tile's transform in channel k to inputs[at + p * DEPTH * TILES].
fn put_input(tile: i32, k: i32, at: u32) { return; }                                    //# hook
fn load_weight(point: i32, k: i32, n: i32) -> f32 { return f32(point + k + n); }        //# hook
// Takes point p of the sums from sums[at + p * TILES * LANES_W] and stores the tile's results.
fn finish(tile: i32, n: i32, at: u32) { return; }                                       //# hook

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let number = workgroup.y * workgroups.x + workgroup.x;
  let columns = (u32(size_n()) + WIDTH - 1u) / WIDTH;
  let first_tile = i32(number / columns * TILES);
  let first_n = i32(number % columns * WIDTH);
  let point = lane / (LANES_T * LANES_W);
  let lane_t = (lane / LANES_W) % LANES_T;
  let lane_w = lane % LANES_W;
  let depth = size_k();
  var acc: array<f32, PART_TILES * PART_WIDTH>;
  for (var first_k = 0; first_k < depth; first_k += i32(DEPTH)) {
    workgroupBarrier();
    for (var at = lane; at < DEPTH * TILES; at += THREADS) {
      let k = first_k + i32(at % DEPTH);
      let tile = first_tile + i32(at / DEPTH);
      let place = (at % DEPTH) * TILES + at / DEPTH;
      if (k < depth && tile < size_tiles()) {
        put_input(tile, k, place);
      } else {
        for (var p = 0u; p < POINTS; p++) { inputs[place + p * DEPTH * TILES] = 0.0; }
      }
    }
    for (var at = lane; at < POINTS * DEPTH * WIDTH; at += THREADS) {
      let k = first_k + i32((at / WIDTH) % DEPTH);
      let n = first_n + i32(at % WIDTH);
      var value = 0.0;
      if (k < depth && n < size_n()) { value = load_weight(i32(at / (WIDTH * DEPTH)), k, n); }
      weights[at] = value;
    }
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k++) {
      var b: array<f32, PART_WIDTH>;
      for (var j = 0u; j < PART_WIDTH; j++) { //# unroll
        b[j] = weights[(point * DEPTH + k) * WIDTH + lane_w + j * LANES_W];
      }
      for (var i = 0u; i < PART_TILES; i++) { //# unroll
        let a = inputs[(point * DEPTH + k) * TILES + lane_t + i * LANES_T];
        for (var j = 0u; j < PART_WIDTH; j++) { //# unroll
          acc[i * PART_WIDTH + j] = fma(a, b[j], acc[i * PART_WIDTH + j]);
        }
      }
    }
  }
  for (var j = 0u; j < PART_WIDTH; j++) { //# unroll
    workgroupBarrier();
    for (var i = 0u; i < PART_TILES; i++) { //# unroll
      sums[(point * TILES + lane_t + i * LANES_T) * LANES_W + lane_w] = acc[i * PART_WIDTH + j];
    }
    workgroupBarrier();
    for (var at = lane; at < TILES * LANES_W; at += THREADS) {
      let tile = first_tile + i32(at / LANES_W);
      let n = first_n + i32(at % LANES_W + j * LANES_W);
      if (tile < size_tiles() && n < size_n()) { finish(tile, n, at); }
    }
  }
}
