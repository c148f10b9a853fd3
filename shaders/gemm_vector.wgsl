// Matrix product by tiles, four at a time: a workgroup makes TILE_M x TILE_N results of one batch. Operands come from memory as vectors
// of four, along m (n) or along k, fetched into registers while the stage before is multiplied, and lie in workgroup memory as vectors
// along m and n; an invocation makes (4 REPEAT_M) x (4 REPEAT_N) results from them. SLICES groups of invocations share the depth of
// each stage; in the end each adds up and stores every SLICES-th row of four.

const TILE_M = 64u;              //# spec
const TILE_N = 64u;              //# spec
const TILE_K = 16u;              //# spec
const REPEAT_M = 2u;             //# spec
const REPEAT_N = 2u;             //# spec
const SLICES = 2u;               //# spec
const SLICED = true;             //# spec
// Whether an operand's vectors lie along m (n) in memory rather than along k.
const A_ALONG_M = false;         //# spec
const B_ALONG_N = true;          //# spec
const LANES_M = TILE_M / (4u * REPEAT_M);
const LANES_N = TILE_N / (4u * REPEAT_N);
const PER_SLICE = LANES_M * LANES_N;
const THREADS = PER_SLICE * SLICES;
// Rows of vectors, padded by one so that the elements of vectors along k, written one by one, are in different banks.
const STRIDE_A = TILE_M / 4u + 1u;
const STRIDE_B = TILE_N / 4u + 1u;
const VECTORS_A = TILE_M * TILE_K / 4u;
const VECTORS_B = TILE_N * TILE_K / 4u;
// Vectors that an invocation fetches: VECTORS / THREADS, rounded up.
const FETCHES_A = 1u;            //# spec
const FETCHES_B = 1u;            //# spec
// Rows of four that an invocation has sums of, a SLICES-th of them, and what workgroup memory holds at the most.
const FOURS = 16u;               //# spec
const ROUNDS = 8u;               //# spec
const VECTORS = 544u;            //# spec
const TILE_B = TILE_K * STRIDE_A;

// Four elements of an operand, and whether they are there. Those that are not are replaced where they are needed: to do so sooner
// would be to wait for the load.
struct Fetched { value: vec4<f32>, there: bool }

fn tile_at(number: i32) -> vec3<i32> { return vec3<i32>(number); }                      //# hook
fn size_m() -> i32 { return 64; }                                                       //# hook
fn size_n() -> i32 { return 64; }                                                       //# hook
fn size_k() -> i32 { return 64; }                                                       //# hook
fn load_a(batch: i32, m: i32, k: i32) -> Fetched { return Fetched(); }                  //# hook
fn load_b(batch: i32, k: i32, n: i32) -> Fetched { return Fetched(); }                  //# hook
fn store(batch: i32, m: i32, n: i32, acc: vec4<f32>) { return; }                        //# hook

// The staged operands: A's, then B's; in the end, where there are slices, their sums.
var<workgroup> tiles: array<vec4<f32>, VECTORS>;

// Where vector `at` of a stage lies: its row along m (n), a vector's four or one, and its depth, one or a vector's four. Along k
// neighbouring invocations take two vectors of a row each, so that what they write is in different banks.
fn place_of(at: u32, rows: u32, along: bool) -> vec2<u32> {
  return select(
    vec2<u32>(at / 2u % rows, (at % 2u + at / (2u * rows) * 2u) * 4u),
    vec2<u32>(at % (rows / 4u) * 4u, at / (rows / 4u)),
    along,
  );
}

fn fetch_a(batch: i32, first_m: i32, first_k: i32, at: u32) -> Fetched {
  let place = place_of(at, TILE_M, A_ALONG_M);
  return load_a(batch, first_m + i32(place.x), first_k + i32(place.y));
}

fn fetch_b(batch: i32, first_n: i32, first_k: i32, at: u32) -> Fetched {
  let place = place_of(at, TILE_N, B_ALONG_N);
  return load_b(batch, first_k + i32(place.y), first_n + i32(place.x));
}

// Writes a vector of the stage that begins at `base`.
fn put(base: u32, stride: u32, rows: u32, along: bool, at: u32, fetched: Fetched) {
  let value = select(vec4<f32>(), fetched.value, fetched.there);
  let place = place_of(at, rows, along);
  let to = base + place.y * stride + place.x / 4u;
  if (along) {
    tiles[to] = value;
  } else {
    tiles[to][place.x % 4u] = value.x;
    tiles[to + stride][place.x % 4u] = value.y;
    tiles[to + 2u * stride][place.x % 4u] = value.z;
    tiles[to + 3u * stride][place.x % 4u] = value.w;
  }
}

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
  let slice = select(0u, lane / PER_SLICE, SLICED);
  let place = lane % PER_SLICE;
  let lane_m = place / LANES_N;
  let lane_n = place % LANES_N;
  let depth = size_k();
  var acc: array<vec4<f32>, FOURS>;
  var next_a: array<Fetched, FETCHES_A>;
  var next_b: array<Fetched, FETCHES_B>;
  for (var i = 0u; i < FETCHES_A; i++) { //# unroll
    let at = i * THREADS + lane;
    if (VECTORS_A % THREADS == 0u || at < VECTORS_A) { next_a[i] = fetch_a(batch, first_m, 0, at); }
  }
  for (var i = 0u; i < FETCHES_B; i++) { //# unroll
    let at = i * THREADS + lane;
    if (VECTORS_B % THREADS == 0u || at < VECTORS_B) { next_b[i] = fetch_b(batch, first_n, 0, at); }
  }
  for (var first_k = 0; first_k < depth; first_k += i32(TILE_K)) {
    workgroupBarrier();
    for (var i = 0u; i < FETCHES_A; i++) { //# unroll
      let at = i * THREADS + lane;
      if (VECTORS_A % THREADS == 0u || at < VECTORS_A) { put(0u, STRIDE_A, TILE_M, A_ALONG_M, at, next_a[i]); }
    }
    for (var i = 0u; i < FETCHES_B; i++) { //# unroll
      let at = i * THREADS + lane;
      if (VECTORS_B % THREADS == 0u || at < VECTORS_B) { put(TILE_B, STRIDE_B, TILE_N, B_ALONG_N, at, next_b[i]); }
    }
    workgroupBarrier();
    let ahead = first_k + i32(TILE_K);
    if (ahead < depth) {
      for (var i = 0u; i < FETCHES_A; i++) { //# unroll
        let at = i * THREADS + lane;
        if (VECTORS_A % THREADS == 0u || at < VECTORS_A) { next_a[i] = fetch_a(batch, first_m, ahead, at); }
      }
      for (var i = 0u; i < FETCHES_B; i++) { //# unroll
        let at = i * THREADS + lane;
        if (VECTORS_B % THREADS == 0u || at < VECTORS_B) { next_b[i] = fetch_b(batch, first_n, ahead, at); }
      }
    }
    for (var step = 0u; step < TILE_K / SLICES; step++) {
      let k = step * SLICES + slice;
      var b: array<vec4<f32>, REPEAT_N>;
      for (var j = 0u; j < REPEAT_N; j++) { //# unroll
        b[j] = tiles[TILE_B + k * STRIDE_B + lane_n + j * LANES_N];
      }
      for (var i = 0u; i < REPEAT_M; i++) { //# unroll
        let a = tiles[k * STRIDE_A + lane_m + i * LANES_M];
        for (var j = 0u; j < REPEAT_N; j++) { //# unroll
          for (var row = 0u; row < 4u; row++) { //# unroll
            acc[4u * (i * REPEAT_N + j) + row] = fma(vec4<f32>(a[row]), b[j], acc[4u * (i * REPEAT_N + j) + row]);
          }
        }
      }
    }
  }
  if (SLICED) { //# choose
    for (var round = 0u; round < ROUNDS; round++) { //# unroll
      workgroupBarrier();
      for (var s = 0u; s < SLICES; s++) { //# unroll
        tiles[s * THREADS + lane] = acc[round * SLICES + s];
      }
      workgroupBarrier();
      var four = vec4<f32>();
      for (var s = 0u; s < SLICES; s++) { //# unroll
        four += tiles[slice * THREADS + s * PER_SLICE + place];
      }
      leave(batch, first_m, first_n, lane_m, lane_n, round * SLICES + slice, four);
    }
  } else {
    for (var i = 0u; i < FOURS; i++) { //# unroll
      leave(batch, first_m, first_n, lane_m, lane_n, i, acc[i]);
    }
  }
}

// Stores row `four` of an invocation's.
fn leave(batch: i32, first_m: i32, first_n: i32, lane_m: u32, lane_n: u32, four: u32, acc: vec4<f32>) {
  let block = four / 4u;
  let m = first_m + i32((lane_m + block / REPEAT_N * LANES_M) * 4u + four % 4u);
  let n = first_n + i32((lane_n + block % REPEAT_N * LANES_N) * 4u);
  if (m < size_m() && n < size_n()) { store(batch, m, n, acc); }
}
