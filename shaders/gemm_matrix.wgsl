// Matrix product on subgroup matrices (tensor cores): a workgroup makes TILE_M x TILE_N results, each of its subgroups
// SUB_M x SUB_N of them in fragments of M x N. Both operands are staged through workgroup memory TILE_K deep, sixteen bytes a
// load, as lines along whichever axis is contiguous in memory, while the next AHEAD stages are on their way into registers. SLICES
// groups of subgroups share each stage's depth; their sums meet where results leave, through strips of the same memory, RUN results
// along n at a time. Where an i8 of the left operand stands for it less a zero, a product of ones with the right operand sums that
// operand's columns, to make up for the zero.
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
// Stages that workgroup memory holds: with two, one is written while the other is read.
const STAGES = 2u;               //# spec
// Stages that are fetched before they are needed.
const AHEAD = 2u;                //# spec
// Whether loads ahead are not tested, but spread over the steps of a stage: past the end the last stage is fetched again.
const STRAIGHT = false;          //# spec
// Elements in sixteen bytes.
const SPAN = 8u;                 //# spec
const RUN = 8u;                  //# spec
const RUN_VECTORS = 2u;          //# spec
// Fragments along n that leave in one strip.
const PASS = 2u;                 //# spec
// Whether neighbours of an operand in memory lie along m (n) rather than along k; lines of the staged operand, and its vectors a line.
const A_ALONG_M = false;         //# spec
const B_ALONG_N = true;          //# spec
const LINES_A = 64u;             //# spec
const LINES_B = 32u;             //# spec
const SPANS_A = 4u;              //# spec
const SPANS_B = 8u;              //# spec
const FETCHES_A = 1u;            //# spec
const FETCHES_B = 1u;            //# spec
const FRAGMENTS_M = 2u;          //# spec
const FRAGMENTS_N = 2u;          //# spec
const STEPS = 1u;                //# spec
const PASSES = 1u;               //# spec
// Runs of results that an invocation stores of a strip.
const ROUNDS = 2u;               //# spec
// What a run of results needs beside its sums: what varies along n alone, read once, and the rest, read DEEP strips ahead.
alias Along = u32;               //# spec
alias Beside = u32;              //# spec
const DEEP = 1u;                 //# spec
const BESIDES = true;            //# spec
const SHIFTED_A = false;         //# spec
const ONE = 1.0h;                //# spec
// What workgroup memory holds at the most.
const VECTORS = 1088u;           //# spec
const SUBGROUPS_N = TILE_N / SUB_N;
const PER_SLICE = (TILE_M / SUB_M) * SUBGROUPS_N;
const THREADS = PER_SLICE * SLICES * SUBGROUP;
// Lines are padded by sixteen bytes, so that they start in different banks.
const STRIDE_A = SPANS_A + 1u;
const STRIDE_B = SPANS_B + 1u;
const STAGE_A = LINES_A * STRIDE_A;
const STAGE_B = LINES_B * STRIDE_B;
const TILE_B = STAGES * STAGE_A;
// A row of a strip, in vectors of four results: two more, so that the rows of a fragment are written to different banks.
const STRIP = PASS * N / 4u + 2u;
const STRIPS = PER_SLICE * SLICES * M * STRIP;

// Sixteen bytes of an operand, and whether they are there. Those that are not are replaced where they are needed: to do so sooner
// would be to wait for the load.
struct Fetched { value: vec4<u32>, there: bool }

fn tile_at(number: i32) -> vec3<i32> { return vec3<i32>(number); }                 //# hook
fn size_m() -> i32 { return 64; }                                                  //# hook
fn size_n() -> i32 { return 64; }                                                  //# hook
fn size_k() -> i32 { return 64; }                                                  //# hook
fn zero_a() -> ACC { return ACC(); }                                               //# hook
fn missing_a() -> vec4<u32> { return vec4<u32>(); }                                //# hook
fn missing_b() -> vec4<u32> { return vec4<u32>(); }                                //# hook
fn load_a(batch: i32, m: i32, k: i32) -> Fetched { return Fetched(); }             //# hook
fn load_b(batch: i32, k: i32, n: i32) -> Fetched { return Fetched(); }             //# hook
fn along(batch: i32, n: i32) -> Along { return Along(); }                          //# hook
fn beside(batch: i32, m: i32, n: i32) -> Beside { return Beside(); }               //# hook
fn store(batch: i32, m: i32, n: i32, acc: array<ACC, RUN>, along: Along, beside: Beside) { return; } //# hook

// The staged operands: A's, then B's; in the end the strips of results, in their place.
var<workgroup> tiles: array<vec4<u32>, VECTORS>;

// The line that a load goes to. Where four vectors make a line, eight neighbouring lanes write two: ones whose banks differ.
fn line_of(at: u32, spans: u32) -> u32 {
  let line = at / spans;
  return select(line, line / 8u * 8u + line % 2u * 4u + line % 8u / 2u, spans == 4u);
}

fn fetch_a(batch: i32, first_m: i32, first_k: i32, at: u32) -> Fetched {
  let line = i32(line_of(at, SPANS_A));
  let along = i32(at % SPANS_A * SPAN);
  return load_a(batch, first_m + select(line, along, A_ALONG_M), first_k + select(along, line, A_ALONG_M));
}

fn fetch_b(batch: i32, first_k: i32, first_n: i32, at: u32) -> Fetched {
  let line = i32(line_of(at, SPANS_B));
  let along = i32(at % SPANS_B * SPAN);
  return load_b(batch, first_k + select(along, line, B_ALONG_N), first_n + select(line, along, B_ALONG_N));
}

// Strips of a subgroup in the order in which they leave, downwards, and where run `e` of one lies in the tile. An invocation's runs of
// strips above one another are in the same columns.
fn row_of(strip: u32, e: u32) -> i32 { return i32(strip % FRAGMENTS_M * M + e / (PASS * N / RUN)); }
fn column_of(strip: u32, e: u32) -> i32 { return i32(strip / FRAGMENTS_M * PASS * N + e % (PASS * N / RUN) * RUN); }
fn inside_n(n: i32) -> i32 { return min(n, size_n() - i32(RUN)); }
fn beside_strip(batch: i32, m: i32, n: i32, strip: u32, e: u32) -> Beside {
  return beside(batch, min(m + row_of(strip, e), size_m() - 1), inside_n(n + column_of(strip, e)));
}

// Adds the slices' sums of a run and stores it.
fn leave(batch: i32, own_m: i32, own_n: i32, part: u32, strip: u32, e: u32, along: Along, beside: Beside) {
  let m = own_m + row_of(strip, e);
  let n = own_n + column_of(strip, e);
  if (e >= M * PASS * N / RUN || m >= size_m() || n >= size_n()) { return; }
  var sums = array<ACC, RUN>();
  for (var other = 0u; other < SLICES; other++) {
    let at = ((other * PER_SLICE + part) * M + e / (PASS * N / RUN)) * STRIP + e % (PASS * N / RUN) * RUN / 4u;
    for (var r = 0u; r < RUN_VECTORS; r++) { //# unroll
      var four = bitcast<vec4<ACC>>(tiles[at + r]);
      if (SHIFTED_A) { //# choose
        four -= zero_a() * bitcast<vec4<ACC>>(tiles[STRIPS + at + r]);
      }
      for (var q = 0u; q < 4u; q++) { //# unroll
        sums[r * 4u + q] += four[q];
      }
    }
  }
  store(batch, m, n, sums, along, beside);
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
  let subgroup = lane / SUBGROUP;
  let slice = subgroup / PER_SLICE;
  let part = subgroup % PER_SLICE;
  let sub_m = (part / SUBGROUPS_N) * SUB_M;
  let sub_n = (part % SUBGROUPS_N) * SUB_N;
  let depth = size_k();
  let own_m = first_m + i32(sub_m);
  let own_n = first_n + i32(sub_n);
  let own = slice * SUBGROUP + lane % SUBGROUP;
  if (BESIDES) { //# choose
    var besides: array<Beside, DEEP * ROUNDS>;
    for (var s = 0u; s < DEEP; s++) { //# unroll
      for (var t = 0u; t < ROUNDS; t++) { //# unroll
        besides[s * ROUNDS + t] = beside_strip(batch, own_m, own_n, s, t * SLICES * SUBGROUP + own);
      }
    }
  }
  var acc: array<array<subgroup_matrix_result<ACC, N, M>, FRAGMENTS_N>, FRAGMENTS_M>;
  var columns: array<subgroup_matrix_result<ACC, N, M>, FRAGMENTS_N>;
  var next_a: array<Fetched, AHEAD * FETCHES_A>;
  var next_b: array<Fetched, AHEAD * FETCHES_B>;

  for (var p = 0u; p < AHEAD; p++) { //# unroll
    for (var i = 0u; i < FETCHES_A; i++) { //# unroll
      next_a[p * FETCHES_A + i] = fetch_a(batch, first_m, i32(p * TILE_K), i * THREADS + lane);
    }
    for (var i = 0u; i < FETCHES_B; i++) { //# unroll
      next_b[p * FETCHES_B + i] = fetch_b(batch, i32(p * TILE_K), first_n, i * THREADS + lane);
    }
  }

  var stage = 0u;
  for (var round = 0; round < depth; round += i32(AHEAD * TILE_K)) {
    for (var p = 0u; p < AHEAD; p++) { //# unroll
      let first_k = round + i32(p * TILE_K);
      if (p == 0u || first_k < depth) {
        let stage_a = stage * STAGE_A;
        let stage_b = TILE_B + stage * STAGE_B;
        if (STAGES == 1u) { workgroupBarrier(); }
        for (var i = 0u; i < FETCHES_A; i++) { //# unroll
          let fetched = next_a[p * FETCHES_A + i];
          let at = i * THREADS + lane;
          tiles[stage_a + line_of(at, SPANS_A) * STRIDE_A + at % SPANS_A] = select(missing_a(), fetched.value, fetched.there);
        }
        for (var i = 0u; i < FETCHES_B; i++) { //# unroll
          let fetched = next_b[p * FETCHES_B + i];
          let at = i * THREADS + lane;
          tiles[stage_b + line_of(at, SPANS_B) * STRIDE_B + at % SPANS_B] = select(missing_b(), fetched.value, fetched.there);
        }
        workgroupBarrier();
        let next = first_k + i32(AHEAD * TILE_K);
        let ahead = select(next, min(next, (depth - 1) / i32(TILE_K) * i32(TILE_K)), STRAIGHT);
        if (STRAIGHT) { //# choose
        } else {
          if (next < depth) {
            for (var i = 0u; i < FETCHES_A; i++) { //# unroll
              next_a[p * FETCHES_A + i] = fetch_a(batch, first_m, ahead, i * THREADS + lane);
            }
            for (var i = 0u; i < FETCHES_B; i++) { //# unroll
              next_b[p * FETCHES_B + i] = fetch_b(batch, ahead, first_n, i * THREADS + lane);
            }
          }
        }
        for (var step = 0u; step < STEPS; step++) { //# unroll if STRAIGHT
          if (STRAIGHT) { //# choose
            for (var i = 0u; i < FETCHES_A; i++) { //# unroll
              if (i * STEPS / FETCHES_A == step) { //# when
                next_a[p * FETCHES_A + i] = fetch_a(batch, first_m, ahead, i * THREADS + lane);
              }
            }
            for (var i = 0u; i < FETCHES_B; i++) { //# unroll
              if (i * STEPS / FETCHES_B == step) { //# when
                next_b[p * FETCHES_B + i] = fetch_b(batch, ahead, first_n, i * THREADS + lane);
              }
            }
          }
          let k = (step * SLICES + slice) * K;
          var left: array<subgroup_matrix_left<T, K, M>, FRAGMENTS_M>;
          for (var i = 0u; i < FRAGMENTS_M; i++) { //# unroll
            if (A_ALONG_M) { //# choose
              left[i] = subgroupMatrixLoad<subgroup_matrix_left<T, K, M>, col_major>(&tiles, stage_a + k * STRIDE_A + (sub_m + i * M) / SPAN, STRIDE_A);
            } else {
              left[i] = subgroupMatrixLoad<subgroup_matrix_left<T, K, M>, row_major>(&tiles, stage_a + (sub_m + i * M) * STRIDE_A + k / SPAN, STRIDE_A);
            }
          }
          for (var j = 0u; j < FRAGMENTS_N; j++) { //# unroll
            var right: subgroup_matrix_right<T, N, K>;
            if (B_ALONG_N) { //# choose
              right = subgroupMatrixLoad<subgroup_matrix_right<T, N, K>, row_major>(&tiles, stage_b + k * STRIDE_B + (sub_n + j * N) / SPAN, STRIDE_B);
            } else {
              right = subgroupMatrixLoad<subgroup_matrix_right<T, N, K>, col_major>(&tiles, stage_b + (sub_n + j * N) * STRIDE_B + k / SPAN, STRIDE_B);
            }
            for (var i = 0u; i < FRAGMENTS_M; i++) { //# unroll
              acc[i][j] = subgroupMatrixMultiplyAccumulate(left[i], right, acc[i][j]);
            }
            if (SHIFTED_A) { //# choose
              columns[j] = subgroupMatrixMultiplyAccumulate(subgroup_matrix_left<T, K, M>(ONE), right, columns[j]);
            }
          }
        }
        stage = (stage + 1u) % STAGES;
      }
    }
  }

  let base = subgroup * M * STRIP;
  for (var p = 0u; p < PASSES; p++) { //# unroll
    let column = along(batch, inside_n(own_n + column_of(p * FRAGMENTS_M, own)));
    for (var i = 0u; i < FRAGMENTS_M; i++) { //# unroll
      const strip = p * FRAGMENTS_M + i;
      workgroupBarrier();
      for (var j = 0u; j < PASS; j++) { //# unroll
        subgroupMatrixStore<row_major>(&tiles, base + j * N / 4u, acc[i][p * PASS + j], STRIP);
        if (SHIFTED_A) { //# choose
          subgroupMatrixStore<row_major>(&tiles, STRIPS + base + j * N / 4u, columns[p * PASS + j], STRIP);
        }
      }
      workgroupBarrier();
      for (var t = 0u; t < ROUNDS; t++) { //# unroll
        if (BESIDES) { //# choose
          let beside = besides[strip % DEEP * ROUNDS + t];
          if (p * FRAGMENTS_M + i + DEEP < FRAGMENTS_M * PASSES) { //# when
            besides[strip % DEEP * ROUNDS + t] = beside_strip(batch, own_m, own_n, strip + DEEP, t * SLICES * SUBGROUP + own);
          }
          leave(batch, own_m, own_n, part, strip, t * SLICES * SUBGROUP + own, column, beside);
        } else {
          leave(batch, own_m, own_n, part, strip, t * SLICES * SUBGROUP + own, column, Beside());
        }
      }
    }
  }
}
