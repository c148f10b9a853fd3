// Matrix product of signed bytes on subgroup matrices (tensor cores): as gemm_matrix, but that both operands are staged along
// k, sixteen bytes at a time, and results leave in fours along n. Where a byte of the left operand stands for byte - zero, a
// product of ones with the right operand sums that operand's columns, to make up for the zero.
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

const M = 16u;                   //# spec
const N = 16u;                   //# spec
const K = 32u;                   //# spec
const TILE_M = 64u;              //# spec
const TILE_N = 64u;              //# spec
const TILE_K = 64u;              //# spec
const SUB_M = 32u;               //# spec
const SUB_N = 32u;               //# spec
const SUBGROUP = 32u;            //# spec
const SLICES = 2u;               //# spec
const SHIFTED_A = true;          //# spec
const SUBGROUPS_N = TILE_N / SUB_N;
const PER_SLICE = (TILE_M / SUB_M) * SUBGROUPS_N;
const THREADS = PER_SLICE * SLICES * SUBGROUP;
const FRAGMENTS_M = SUB_M / M;
const FRAGMENTS_N = SUB_N / N;
// In vectors of sixteen bytes. Rows are padded by one, so that they start in different banks.
const DEPTH = TILE_K / 16u;
const STRIDE = DEPTH + 1u;
const FETCHES_A = TILE_M * DEPTH / THREADS;
const FETCHES_B = TILE_N * DEPTH / THREADS;
const STRIP = N + 4u;
const STRIPS = (THREADS / SUBGROUP) * M * STRIP;

fn size_m() -> i32 { return 64; }                                                  //# hook
fn size_n() -> i32 { return 64; }                                                  //# hook
fn size_k() -> i32 { return 64; }                                                  //# hook
fn zero_a() -> i32 { return 0; }                                                   //# hook
fn load_a(batch: i32, m: i32, k: i32) -> vec4<u32> { return vec4<u32>(); }         //# hook
fn load_b(batch: i32, k: i32, n: i32) -> vec4<u32> { return vec4<u32>(); }         //# hook
fn store(batch: i32, m: i32, n: i32, acc: vec4<i32>) { return; }                   //# hook

var<workgroup> tile_a: array<vec4<u32>, TILE_M * STRIDE>;
var<workgroup> tile_b: array<vec4<u32>, TILE_N * STRIDE>;
var<workgroup> strip: array<i32, STRIPS * select(1u, 2u, SHIFTED_A)>;
var<workgroup> ones: array<vec4<u32>, M * K / 16u>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = i32(workgroup.z);
  let first_m = i32(workgroup.y * TILE_M);
  let first_n = i32(workgroup.x * TILE_N);
  let subgroup = lane / SUBGROUP;
  let slice = subgroup / PER_SLICE;
  let part = subgroup % PER_SLICE;
  let sub_m = (part / SUBGROUPS_N) * SUB_M;
  let sub_n = (part % SUBGROUPS_N) * SUB_N;
  let depth = size_k();
  var acc: array<array<subgroup_matrix_result<i32, N, M>, FRAGMENTS_N>, FRAGMENTS_M>;
  var columns: array<subgroup_matrix_result<i32, N, M>, FRAGMENTS_N>;
  var next_a: array<vec4<u32>, FETCHES_A>;
  var next_b: array<vec4<u32>, FETCHES_B>;

  for (var at = lane; at < M * K / 16u; at += THREADS) { ones[at] = vec4<u32>(0x01010101u); }
  for (var i = 0u; i < FETCHES_A; i++) {
    let at = i * THREADS + lane;
    next_a[i] = load_a(batch, first_m + i32(at / DEPTH), i32(at % DEPTH * 16u));
  }
  for (var i = 0u; i < FETCHES_B; i++) {
    let at = i * THREADS + lane;
    next_b[i] = load_b(batch, i32(at % DEPTH * 16u), first_n + i32(at / DEPTH));
  }

  for (var first_k = 0; first_k < depth; first_k += i32(TILE_K)) {
    workgroupBarrier();
    for (var i = 0u; i < FETCHES_A; i++) {
      let at = i * THREADS + lane;
      tile_a[at / DEPTH * STRIDE + at % DEPTH] = next_a[i];
    }
    for (var i = 0u; i < FETCHES_B; i++) {
      let at = i * THREADS + lane;
      tile_b[at / DEPTH * STRIDE + at % DEPTH] = next_b[i];
    }
    workgroupBarrier();
    let ahead = first_k + i32(TILE_K);
    if (ahead < depth) {
      for (var i = 0u; i < FETCHES_A; i++) {
        let at = i * THREADS + lane;
        next_a[i] = load_a(batch, first_m + i32(at / DEPTH), ahead + i32(at % DEPTH * 16u));
      }
      for (var i = 0u; i < FETCHES_B; i++) {
        let at = i * THREADS + lane;
        next_b[i] = load_b(batch, ahead + i32(at % DEPTH * 16u), first_n + i32(at / DEPTH));
      }
    }
    for (var k = slice * K; k < TILE_K; k += SLICES * K) {
      var left: array<subgroup_matrix_left<i8, K, M>, FRAGMENTS_M>;
      for (var i = 0u; i < FRAGMENTS_M; i++) {
        left[i] = subgroupMatrixLoad<subgroup_matrix_left<i8, K, M>, row_major>(&tile_a, (sub_m + i * M) * STRIDE + k / 16u, STRIDE);
      }
      for (var j = 0u; j < FRAGMENTS_N; j++) {
        let right = subgroupMatrixLoad<subgroup_matrix_right<i8, N, K>, col_major>(&tile_b, (sub_n + j * N) * STRIDE + k / 16u, STRIDE);
        for (var i = 0u; i < FRAGMENTS_M; i++) { acc[i][j] = subgroupMatrixMultiplyAccumulate(left[i], right, acc[i][j]); }
        if (SHIFTED_A) {
          let one = subgroupMatrixLoad<subgroup_matrix_left<i8, K, M>, row_major>(&ones, 0u, K / 16u);
          columns[j] = subgroupMatrixMultiplyAccumulate(one, right, columns[j]);
        }
      }
    }
  }

  let base = subgroup * M * STRIP;
  let within = slice * SUBGROUP + lane % SUBGROUP;
  for (var i = 0u; i < FRAGMENTS_M; i++) {
    for (var j = 0u; j < FRAGMENTS_N; j++) {
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&strip, base, acc[i][j], STRIP);
      if (SHIFTED_A) { subgroupMatrixStore<row_major>(&strip, STRIPS + base, columns[j], STRIP); }
      workgroupBarrier();
      for (var e = within; e < M * N / 4u; e += SLICES * SUBGROUP) {
        let row = e / (N / 4u);
        let column = e % (N / 4u) * 4u;
        let m = first_m + i32(sub_m + i * M + row);
        let n = first_n + i32(sub_n + j * N + column);
        if (m < size_m() && n < size_n()) {
          var sum = vec4<i32>();
          for (var other = 0u; other < SLICES; other++) {
            let at = (other * PER_SLICE + part) * M * STRIP + row * STRIP + column;
            sum += vec4<i32>(strip[at], strip[at + 1u], strip[at + 2u], strip[at + 3u]);
            if (SHIFTED_A) {
              let c = STRIPS + at;
              sum -= zero_a() * vec4<i32>(strip[c], strip[c + 1u], strip[c + 2u], strip[c + 3u]);
            }
          }
          store(batch, m, n, sum);
        }
      }
    }
  }
}
