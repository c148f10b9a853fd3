// Matrix product by tiles, four at a time: a workgroup makes TILE_M x TILE_N results of one batch. Operands come from memory
// as 4x4 blocks of vectors, fetched into registers while the stage before is multiplied, and lie in workgroup memory as vectors
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
// Rows of vectors, padded by one so that those a transposed block writes start in different banks.
const STRIDE_A = TILE_M / 4u + 1u;
const STRIDE_B = TILE_N / 4u + 1u;
const BLOCKS_A = TILE_M * TILE_K / 16u;
const BLOCKS_B = TILE_N * TILE_K / 16u;
// Blocks that an invocation fetches: BLOCKS / THREADS, rounded up.
const FETCHES_A = 1u;            //# spec
const FETCHES_B = 1u;            //# spec
// Rows of four that an invocation has sums of, a SLICES-th of them, and what workgroup memory holds at the most.
const FOURS = 16u;               //# spec
const ROUNDS = 8u;               //# spec
const VECTORS = 544u;            //# spec
const TILE_B = TILE_K * STRIDE_A;

// Four elements of an operand, a block of such, and whether they are there. Those that are not are replaced where they are needed: to
// do so sooner would be to wait for the load.
struct Fetched { value: vec4<f32>, there: bool }
struct Block { rows: mat4x4<f32>, there: vec4<bool> }

fn size_m() -> i32 { return 64; }                                                       //# hook
fn size_n() -> i32 { return 64; }                                                       //# hook
fn size_k() -> i32 { return 64; }                                                       //# hook
fn load_a(batch: i32, m: i32, k: i32) -> Fetched { return Fetched(); }                  //# hook
fn load_b(batch: i32, k: i32, n: i32) -> Fetched { return Fetched(); }                  //# hook
fn store(batch: i32, m: i32, n: i32, acc: vec4<f32>) { return; }                        //# hook

// The staged operands: A's, then B's; in the end, where there are slices, their sums.
var<workgroup> tiles: array<vec4<f32>, VECTORS>;

fn block_of(a: Fetched, b: Fetched, c: Fetched, d: Fetched) -> Block {
  return Block(mat4x4<f32>(a.value, b.value, c.value, d.value), vec4<bool>(a.there, b.there, c.there, d.there));
}

// Row i of the block: along m at depth i, or along k at row i.
fn fetch_a(batch: i32, first_m: i32, first_k: i32, at: u32) -> Block {
  let row = first_m + i32(select(at / (TILE_K / 4u), at % (TILE_M / 4u), A_ALONG_M) * 4u);
  let depth = first_k + i32(select(at % (TILE_K / 4u), at / (TILE_M / 4u), A_ALONG_M) * 4u);
  let step_m = select(1, 0, A_ALONG_M);
  let step_k = 1 - step_m;
  return block_of(
    load_a(batch, row, depth),
    load_a(batch, row + step_m, depth + step_k),
    load_a(batch, row + 2 * step_m, depth + 2 * step_k),
    load_a(batch, row + 3 * step_m, depth + 3 * step_k),
  );
}

fn fetch_b(batch: i32, first_n: i32, first_k: i32, at: u32) -> Block {
  let column = first_n + i32(select(at / (TILE_K / 4u), at % (TILE_N / 4u), B_ALONG_N) * 4u);
  let depth = first_k + i32(select(at % (TILE_K / 4u), at / (TILE_N / 4u), B_ALONG_N) * 4u);
  let step_n = select(1, 0, B_ALONG_N);
  let step_k = 1 - step_n;
  return block_of(
    load_b(batch, depth, column),
    load_b(batch, depth + step_k, column + step_n),
    load_b(batch, depth + 2 * step_k, column + 2 * step_n),
    load_b(batch, depth + 3 * step_k, column + 3 * step_n),
  );
}

fn whole(block: Block) -> mat4x4<f32> {
  let nothing = vec4<f32>();
  return mat4x4<f32>(
    select(nothing, block.rows[0], block.there[0]),
    select(nothing, block.rows[1], block.there[1]),
    select(nothing, block.rows[2], block.there[2]),
    select(nothing, block.rows[3], block.there[3]),
  );
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = i32(workgroup.z);
  let first_m = i32(workgroup.y * TILE_M);
  let first_n = i32(workgroup.x * TILE_N);
  let slice = select(0u, lane / PER_SLICE, SLICED);
  let place = lane % PER_SLICE;
  let lane_m = place / LANES_N;
  let lane_n = place % LANES_N;
  let depth = size_k();
  var acc: array<vec4<f32>, FOURS>;
  var next_a: array<Block, FETCHES_A>;
  var next_b: array<Block, FETCHES_B>;
  for (var i = 0u; i < FETCHES_A; i++) { //# unroll
    let at = i * THREADS + lane;
    if (at < BLOCKS_A) { next_a[i] = fetch_a(batch, first_m, 0, at); }
  }
  for (var i = 0u; i < FETCHES_B; i++) { //# unroll
    let at = i * THREADS + lane;
    if (at < BLOCKS_B) { next_b[i] = fetch_b(batch, first_n, 0, at); }
  }
  for (var first_k = 0; first_k < depth; first_k += i32(TILE_K)) {
    workgroupBarrier();
    for (var i = 0u; i < FETCHES_A; i++) { //# unroll
      let at = i * THREADS + lane;
      if (at < BLOCKS_A) {
        let row = select(at / (TILE_K / 4u), at % (TILE_M / 4u), A_ALONG_M);
        let column = select(at % (TILE_K / 4u), at / (TILE_M / 4u), A_ALONG_M);
        var block = whole(next_a[i]);
        if (!A_ALONG_M) { block = transpose(block); }
        for (var j = 0u; j < 4u; j++) { tiles[(column * 4u + j) * STRIDE_A + row] = block[j]; }
      }
    }
    for (var i = 0u; i < FETCHES_B; i++) { //# unroll
      let at = i * THREADS + lane;
      if (at < BLOCKS_B) {
        let column = select(at / (TILE_K / 4u), at % (TILE_N / 4u), B_ALONG_N);
        let row = select(at % (TILE_K / 4u), at / (TILE_N / 4u), B_ALONG_N);
        var block = whole(next_b[i]);
        if (!B_ALONG_N) { block = transpose(block); }
        for (var j = 0u; j < 4u; j++) { tiles[TILE_B + (row * 4u + j) * STRIDE_B + column] = block[j]; }
      }
    }
    workgroupBarrier();
    let ahead = first_k + i32(TILE_K);
    if (ahead < depth) {
      for (var i = 0u; i < FETCHES_A; i++) { //# unroll
        let at = i * THREADS + lane;
        if (at < BLOCKS_A) { next_a[i] = fetch_a(batch, first_m, ahead, at); }
      }
      for (var i = 0u; i < FETCHES_B; i++) { //# unroll
        let at = i * THREADS + lane;
        if (at < BLOCKS_B) { next_b[i] = fetch_b(batch, first_n, ahead, at); }
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
