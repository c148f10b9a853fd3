// Matrix product of bytes: a workgroup makes TILE_M x TILE_N results of one batch, reading both operands through workgroup
// memory as words of four bytes along k, TILE_K words at a time; an invocation makes THREAD_M x THREAD_N of them in registers,
// four neighbours along n at a time. Each byte stands for byte - zero: sums of either operand's bytes make up for the zeros.

const TILE_M = 64u;              //# spec
const TILE_N = 64u;              //# spec
const TILE_K = 8u;               //# spec
const THREAD_M = 4u;             //# spec
const THREAD_N = 4u;             //# spec
// Whether the operands' zeros may be other than 0.
const SHIFTED_A = true;          //# spec
const SHIFTED_B = true;          //# spec
const LANES_M = TILE_M / THREAD_M;
const LANES_N = TILE_N / THREAD_N;
const THREADS = LANES_M * LANES_N;

fn tile_at(number: i32) -> vec3<i32> { return vec3<i32>(number); }            //# hook
fn size_m() -> i32 { return 64; }                                             //# hook
fn size_n() -> i32 { return 64; }                                             //# hook
fn size_k() -> i32 { return 64; }                                             //# hook
fn zero_a() -> i32 { return 0; }                                              //# hook
fn zero_b() -> i32 { return 0; }                                              //# hook
fn load_a(batch: i32, m: i32, k: i32) -> u32 { return 0u; }                   //# hook
fn load_b(batch: i32, k: i32, n: i32) -> u32 { return 0u; }                   //# hook
fn dot_bytes(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }            //# hook
fn store(batch: i32, m: i32, n: i32, acc: vec4<i32>) { return; }              //# hook

var<workgroup> tile_a: array<u32, TILE_K * (TILE_M + 1u)>;
var<workgroup> tile_b: array<u32, TILE_K * (TILE_N + 1u)>;

fn column_of(lane_n: u32, j: u32) -> u32 { return (j / 4u) * LANES_N * 4u + lane_n * 4u + j % 4u; }

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
  let lane_m = lane / LANES_N;
  let lane_n = lane % LANES_N;
  var acc: array<i32, THREAD_M * THREAD_N>;
  var sums_a: array<i32, THREAD_M>;
  var sums_b: array<i32, THREAD_N>;
  var terms = 0;
  let depth = size_k();
  for (var first_k = 0; first_k < depth; first_k += i32(4u * TILE_K)) {
    for (var at = lane; at < TILE_M * TILE_K; at += THREADS) {
      let row = at / TILE_K;
      let column = at % TILE_K;
      tile_a[column * (TILE_M + 1u) + row] = load_a(batch, first_m + i32(row), first_k + i32(4u * column));
    }
    for (var at = lane; at < TILE_N * TILE_K; at += THREADS) {
      let column = at / TILE_K;
      let row = at % TILE_K;
      tile_b[row * (TILE_N + 1u) + column] = load_b(batch, first_k + i32(4u * row), first_n + i32(column));
    }
    workgroupBarrier();
    for (var k = 0u; k < TILE_K; k++) {
      var a: array<u32, THREAD_M>;
      var b: array<u32, THREAD_N>;
      for (var i = 0u; i < THREAD_M; i++) { a[i] = tile_a[k * (TILE_M + 1u) + lane_m + i * LANES_M]; }
      for (var j = 0u; j < THREAD_N; j++) { b[j] = tile_b[k * (TILE_N + 1u) + column_of(lane_n, j)]; }
      for (var i = 0u; i < THREAD_M; i++) {
        for (var j = 0u; j < THREAD_N; j++) { acc[i * THREAD_N + j] += dot_bytes(a[i], b[j]); }
      }
      if (SHIFTED_B) {
        for (var i = 0u; i < THREAD_M; i++) { sums_a[i] += dot_bytes(a[i], 0x01010101u); }
      }
      if (SHIFTED_A) {
        for (var j = 0u; j < THREAD_N; j++) { sums_b[j] += dot_bytes(b[j], 0x01010101u); }
      }
    }
    terms += i32(4u * TILE_K);
    workgroupBarrier();
  }
  for (var i = 0u; i < THREAD_M; i++) {
    let m = first_m + i32(lane_m + i * LANES_M);
    for (var j = 0u; j < THREAD_N; j += 4u) {
      let n = first_n + i32(column_of(lane_n, j));
      if (m < size_m() && n < size_n()) {
        let at = i * THREAD_N + j;
        var four = vec4<i32>(acc[at], acc[at + 1u], acc[at + 2u], acc[at + 3u]);
        if (SHIFTED_A) { four -= zero_a() * vec4<i32>(sums_b[j], sums_b[j + 1u], sums_b[j + 2u], sums_b[j + 3u]); }
        if (SHIFTED_B) { four -= zero_b() * sums_a[i] - terms * zero_a() * zero_b(); }
        store(batch, m, n, four);
      }
    }
  }
}
