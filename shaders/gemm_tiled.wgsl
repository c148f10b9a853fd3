// Matrix product by tiles: a workgroup makes TILE_M x TILE_N results of one batch, reading both operands through workgroup
// memory, TILE_K columns at a time; an invocation makes THREAD_M x THREAD_N of them in registers.

alias T = f32;                   //# spec
const TILE_M = 64u;              //# spec
const TILE_N = 64u;              //# spec
const TILE_K = 16u;              //# spec
const THREAD_M = 4u;             //# spec
const THREAD_N = 4u;             //# spec
// Which way neighbouring invocations walk: along the axis that is contiguous in memory.
const A_ALONG_M = false;         //# spec
const B_ALONG_N = true;          //# spec
const RESULTS_ALONG_M = false;   //# spec
const LANES_M = TILE_M / THREAD_M;
const LANES_N = TILE_N / THREAD_N;
const THREADS = LANES_M * LANES_N;

fn tile_at(number: i32) -> vec3<i32> { return vec3<i32>(number); }            //# hook
fn size_m() -> i32 { return 64; }                                             //# hook
fn size_n() -> i32 { return 64; }                                             //# hook
fn size_k() -> i32 { return 64; }                                             //# hook
fn load_a(batch: i32, m: i32, k: i32) -> T { return T(batch + m + k); }       //# hook
fn load_b(batch: i32, k: i32, n: i32) -> T { return T(batch + k + n); }       //# hook
fn store(batch: i32, m: i32, n: i32, acc: T) { return; }                      //# hook

var<workgroup> tile_a: array<T, TILE_K * (TILE_M + 1u)>;
var<workgroup> tile_b: array<T, TILE_K * (TILE_N + 1u)>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = tile_at(i32(workgroup.y * workgroups.x + workgroup.x));
  if (tile.x < 0) { return; }
  let batch = tile.x;
  let first_m = tile.y * i32(TILE_M);
  let first_n = tile.z * i32(TILE_N);
  let lane_m = select(lane / LANES_N, lane % LANES_M, RESULTS_ALONG_M);
  let lane_n = select(lane % LANES_N, lane / LANES_M, RESULTS_ALONG_M);
  var acc: array<T, THREAD_M * THREAD_N>;
  let depth = size_k();
  for (var first_k = 0; first_k < depth; first_k += i32(TILE_K)) {
    for (var at = lane; at < TILE_M * TILE_K; at += THREADS) {
      let row = select(at / TILE_K, at % TILE_M, A_ALONG_M);
      let column = select(at % TILE_K, at / TILE_M, A_ALONG_M);
      let m = first_m + i32(row);
      let k = first_k + i32(column);
      var value = T();
      if (m < size_m() && k < depth) { value = load_a(batch, m, k); }
      tile_a[column * (TILE_M + 1u) + row] = value;
    }
    for (var at = lane; at < TILE_N * TILE_K; at += THREADS) {
      let column = select(at / TILE_K, at % TILE_N, B_ALONG_N);
      let row = select(at % TILE_K, at / TILE_N, B_ALONG_N);
      let n = first_n + i32(column);
      let k = first_k + i32(row);
      var value = T();
      if (n < size_n() && k < depth) { value = load_b(batch, k, n); }
      tile_b[row * (TILE_N + 1u) + column] = value;
    }
    workgroupBarrier();
    for (var k = 0u; k < TILE_K; k++) {
      var a: array<T, THREAD_M>;
      var b: array<T, THREAD_N>;
      for (var i = 0u; i < THREAD_M; i++) { a[i] = tile_a[k * (TILE_M + 1u) + lane_m + i * LANES_M]; }
      for (var j = 0u; j < THREAD_N; j++) { b[j] = tile_b[k * (TILE_N + 1u) + lane_n + j * LANES_N]; }
      for (var i = 0u; i < THREAD_M; i++) {
        for (var j = 0u; j < THREAD_N; j++) { acc[i * THREAD_N + j] += a[i] * b[j]; }
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < THREAD_M; i++) {
    for (var j = 0u; j < THREAD_N; j++) {
      let m = first_m + i32(lane_m + i * LANES_M);
      let n = first_n + i32(lane_n + j * LANES_N);
      if (m < size_m() && n < size_n()) { store(batch, m, n, acc[i * THREAD_N + j]); }
    }
  }
}
