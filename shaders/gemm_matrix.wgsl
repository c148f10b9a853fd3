// Matrix product on subgroup matrices (tensor cores): a workgroup makes TILE_M x TILE_N results, each of its subgroups
// SUB_M x SUB_N of them in fragments of M x N; both operands are staged through workgroup memory, TILE_K deep, with the next
// stage's elements fetched into registers while the current one is multiplied. SLICES groups of subgroups share each stage's
// depth; their sums meet where results leave, in strips of workgroup memory.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

alias T = f16;                   //# spec
alias ACC = f32;                 //# spec
const M = 16u;                   //# spec
const N = 16u;                   //# spec
const K = 16u;                   //# spec
const TILE_M = 64u;              //# spec
const TILE_N = 64u;              //# spec
const TILE_K = 32u;              //# spec
const SUB_M = 32u;               //# spec
const SUB_N = 32u;               //# spec
const SUBGROUP = 32u;            //# spec
const SLICES = 2u;               //# spec
// Whether four neighbours of an operand are read along m (n) rather than along k.
const A_ALONG_M = false;         //# spec
const B_ALONG_N = true;          //# spec
const SUBGROUPS_N = TILE_N / SUB_N;
const PER_SLICE = (TILE_M / SUB_M) * SUBGROUPS_N;
const THREADS = PER_SLICE * SLICES * SUBGROUP;
const FRAGMENTS_M = SUB_M / M;
const FRAGMENTS_N = SUB_N / N;
// Rows are padded by 16 bytes, so that they start in different banks.
const PAD = 8u;
const STRIDE_A = TILE_K + PAD;
const STRIDE_B = TILE_N + PAD;
const FETCHES_A = TILE_M * TILE_K / 4u / THREADS;
const FETCHES_B = TILE_N * TILE_K / 4u / THREADS;
const STRIP = N + 4u;

fn size_m() -> i32 { return 64; }                                                  //# hook
fn size_n() -> i32 { return 64; }                                                  //# hook
fn size_k() -> i32 { return 64; }                                                  //# hook
fn load_a(batch: i32, m: i32, k: i32) -> vec4<T> { return vec4<T>(); }             //# hook
fn load_b(batch: i32, k: i32, n: i32) -> vec4<T> { return vec4<T>(); }             //# hook
fn store(batch: i32, m: i32, n: i32, acc: ACC) { return; }                         //# hook

var<workgroup> tile_a: array<T, TILE_M * STRIDE_A>;
var<workgroup> tile_b: array<T, TILE_K * STRIDE_B>;
var<workgroup> strip: array<ACC, (THREADS / SUBGROUP) * M * STRIP>;

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
  var acc: array<array<subgroup_matrix_result<ACC, N, M>, FRAGMENTS_N>, FRAGMENTS_M>;
  var next_a: array<vec4<T>, FETCHES_A>;
  var next_b: array<vec4<T>, FETCHES_B>;

  for (var i = 0u; i < FETCHES_A; i++) {
    let at = i * THREADS + lane;
    let row = select(at / (TILE_K / 4u), at % (TILE_M / 4u) * 4u, A_ALONG_M);
    let column = select(at % (TILE_K / 4u) * 4u, at / (TILE_M / 4u), A_ALONG_M);
    next_a[i] = load_a(batch, first_m + i32(row), i32(column));
  }
  for (var i = 0u; i < FETCHES_B; i++) {
    let at = i * THREADS + lane;
    let column = select(at / (TILE_K / 4u), at % (TILE_N / 4u) * 4u, B_ALONG_N);
    let row = select(at % (TILE_K / 4u) * 4u, at / (TILE_N / 4u), B_ALONG_N);
    next_b[i] = load_b(batch, i32(row), first_n + i32(column));
  }

  for (var first_k = 0; first_k < depth; first_k += i32(TILE_K)) {
    workgroupBarrier();
    for (var i = 0u; i < FETCHES_A; i++) {
      let at = i * THREADS + lane;
      let row = select(at / (TILE_K / 4u), at % (TILE_M / 4u) * 4u, A_ALONG_M);
      let column = select(at % (TILE_K / 4u) * 4u, at / (TILE_M / 4u), A_ALONG_M);
      let step = select(1u, STRIDE_A, A_ALONG_M);
      for (var j = 0u; j < 4u; j++) { tile_a[row * STRIDE_A + column + j * step] = next_a[i][j]; }
    }
    for (var i = 0u; i < FETCHES_B; i++) {
      let at = i * THREADS + lane;
      let column = select(at / (TILE_K / 4u), at % (TILE_N / 4u) * 4u, B_ALONG_N);
      let row = select(at % (TILE_K / 4u) * 4u, at / (TILE_N / 4u), B_ALONG_N);
      let step = select(STRIDE_B, 1u, B_ALONG_N);
      for (var j = 0u; j < 4u; j++) { tile_b[row * STRIDE_B + column + j * step] = next_b[i][j]; }
    }
    workgroupBarrier();
    let ahead = first_k + i32(TILE_K);
    if (ahead < depth) {
      for (var i = 0u; i < FETCHES_A; i++) {
        let at = i * THREADS + lane;
        let row = select(at / (TILE_K / 4u), at % (TILE_M / 4u) * 4u, A_ALONG_M);
        let column = select(at % (TILE_K / 4u) * 4u, at / (TILE_M / 4u), A_ALONG_M);
        next_a[i] = load_a(batch, first_m + i32(row), ahead + i32(column));
      }
      for (var i = 0u; i < FETCHES_B; i++) {
        let at = i * THREADS + lane;
        let column = select(at / (TILE_K / 4u), at % (TILE_N / 4u) * 4u, B_ALONG_N);
        let row = select(at % (TILE_K / 4u) * 4u, at / (TILE_N / 4u), B_ALONG_N);
        next_b[i] = load_b(batch, ahead + i32(row), first_n + i32(column));
      }
    }
    for (var k = slice * K; k < TILE_K; k += SLICES * K) {
      var left: array<subgroup_matrix_left<T, K, M>, FRAGMENTS_M>;
      for (var i = 0u; i < FRAGMENTS_M; i++) {
        left[i] = subgroupMatrixLoad<subgroup_matrix_left<T, K, M>, row_major>(&tile_a, (sub_m + i * M) * STRIDE_A + k, STRIDE_A);
      }
      for (var j = 0u; j < FRAGMENTS_N; j++) {
        let right = subgroupMatrixLoad<subgroup_matrix_right<T, N, K>, row_major>(&tile_b, k * STRIDE_B + sub_n + j * N, STRIDE_B);
        for (var i = 0u; i < FRAGMENTS_M; i++) { acc[i][j] = subgroupMatrixMultiplyAccumulate(left[i], right, acc[i][j]); }
      }
    }
  }

  let base = subgroup * M * STRIP;
  let within = slice * SUBGROUP + lane % SUBGROUP;
  for (var i = 0u; i < FRAGMENTS_M; i++) {
    for (var j = 0u; j < FRAGMENTS_N; j++) {
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&strip, base, acc[i][j], STRIP);
      workgroupBarrier();
      for (var e = within; e < M * N; e += SLICES * SUBGROUP) {
        let m = first_m + i32(sub_m + i * M + e / N);
        let n = first_n + i32(sub_n + j * N + e % N);
        if (m < size_m() && n < size_n()) {
          var sum = ACC();
          for (var other = 0u; other < SLICES; other++) { sum += strip[(other * PER_SLICE + part) * M * STRIP + (e / N) * STRIP + e % N]; }
          store(batch, m, n, sum);
        }
      }
    }
  }
}
