// Attention on subgroup matrices (tensor cores): a workgroup makes ROWS queries of one batch, sixteen a subgroup, KEYS keys at a
// time while the next are on their way into registers. Scores pass through workgroup memory to the invocations that own a row,
// which turn them into f16 weights; what the weights make of the values comes back the same way and is added to results that were
// rescaled to the row's new peak (Milakov and Gimelshein, 2018, https://arxiv.org/abs/1805.02867; Dao et al., 2022,
// https://arxiv.org/abs/2205.14135). Little workgroup memory lets a processor have several workgroups: scores, results (PASS fragments
// at a time) and queries all pass through one strip.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);

const ROWS = 64u;                //# spec
const KEYS = 64u;                //# spec
// Multiples of sixteen: what is beyond the task's is read as zeros.
const DEPTH = 64u;               //# spec
const WIDTH = 64u;               //# spec
const SUBGROUP = 32u;            //# spec
const DEPTH_FRAGMENTS = 4u;      //# spec
const KEY_FRAGMENTS = 4u;        //# spec
// Fragments of the results that pass through the strip at once, and how often.
const PASS = 2u;                 //# spec
const PASSES = 2u;               //# spec
// Keys of its row that an invocation owns, and columns of it in a pass.
const OWN_KEYS = 32u;            //# spec
const OWN_FOURS = 8u;            //# spec
const OWN_PASS = 16u;            //# spec
// Vectors of a block of keys, and of values, that an invocation fetches.
const FETCHES_K = 4u;            //# spec
const FETCHES_V = 4u;            //# spec
// A row of the strip, in vectors: of scores, of a pass or of a query, and one of padding.
const STRIP = 17u;               //# spec
const THREADS = ROWS / 16u * SUBGROUP;
// In vectors of eight. Lines are padded by one, so that they start in different banks.
const STRIDE_D = DEPTH / 8u + 1u;
const STRIDE_K = KEYS / 8u + 1u;
const STRIDE_N = WIDTH / 8u + 1u;
const OWN_COLUMNS = PASSES * OWN_PASS;
const LOWEST = -3.4028234663852886e38;

fn size_m() -> i32 { return 64; }                                                            //# hook
fn size_k() -> i32 { return 64; }                                                            //# hook
fn load_q(batch: i32, m: i32, d: i32) -> vec4<u32> { return vec4<u32>(); }                   //# hook
fn load_key(batch: i32, k: i32, d: i32) -> vec4<u32> { return vec4<u32>(); }                 //# hook
fn load_v(batch: i32, k: i32, n: i32) -> vec4<u32> { return vec4<u32>(); }                   //# hook
fn score(batch: i32, m: i32, k: i32, dot: f32) -> f32 { return dot; }                        //# hook
fn shift(batch: i32, m: i32, peak: f32) -> f32 { return peak; }                              //# hook
fn store(batch: i32, m: i32, n: i32, peak: f32, sum: f32, acc: array<f32, 8>) { return; }    //# hook

var<workgroup> weights: array<vec4<u32>, ROWS * STRIDE_K>;
var<workgroup> keys: array<vec4<u32>, KEYS * STRIDE_D>;
var<workgroup> values: array<vec4<u32>, KEYS * STRIDE_N>;
var<workgroup> strip: array<vec4<u32>, ROWS * STRIP>;

// Through a variable: a constant expression must be finite.
fn minus_infinity() -> f32 {
  var bits = 0xff800000u;
  return bitcast<f32>(bits);
}

// What weights are taken relative to: where nothing but -infinity was seen yet, 0.
fn reference(peak: f32) -> f32 { return select(peak, 0.0, peak < LOWEST); }

fn pair(a: f32, b: f32) -> u32 { return bitcast<u32>(vec2<f16>(vec2<f32>(a, b))); }

fn fetch_key(batch: i32, first_k: i32, at: u32) -> vec4<u32> {
  return load_key(batch, first_k + i32(at / (DEPTH / 8u)), i32(at % (DEPTH / 8u) * 8u));
}
fn fetch_value(batch: i32, first_k: i32, at: u32) -> vec4<u32> {
  return load_v(batch, first_k + i32(at / (WIDTH / 8u)), i32(at % (WIDTH / 8u) * 8u));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = i32(workgroup.y);
  let first_m = i32(workgroup.x * ROWS);
  let count = size_k();
  let first_row = lane / SUBGROUP * 16u;
  let row = first_row + lane % 16u;
  let part = lane % SUBGROUP / 16u;
  let m = min(first_m + i32(row), size_m() - 1);
  // A subgroup whose rows are all beyond the last has nothing to do but to wait for the others.
  let works = first_m + i32(first_row) < size_m();

  for (var at = lane; at < ROWS * DEPTH / 8u; at += THREADS) {
    let line = at / (DEPTH / 8u);
    let along = at % (DEPTH / 8u);
    strip[line * STRIP + along] = load_q(batch, first_m + i32(line), i32(along * 8u));
  }
  workgroupBarrier();
  var query: array<subgroup_matrix_left<f16, 16, 16>, DEPTH_FRAGMENTS>;
  for (var d = 0u; d < DEPTH_FRAGMENTS; d++) { //# unroll
    query[d] = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&strip, first_row * STRIP + d * 2u, STRIP);
  }
  var peak = minus_infinity();
  var sum = 0.0;
  var acc: array<f32, OWN_COLUMNS>;
  var next_keys: array<vec4<u32>, FETCHES_K>;
  var next_values: array<vec4<u32>, FETCHES_V>;
  for (var f = 0u; f < FETCHES_K; f++) { //# unroll
    next_keys[f] = fetch_key(batch, 0, f * THREADS + lane);
  }
  for (var f = 0u; f < FETCHES_V; f++) { //# unroll
    next_values[f] = fetch_value(batch, 0, f * THREADS + lane);
  }
  for (var first_k = 0; first_k < count; first_k += i32(KEYS)) {
    workgroupBarrier();
    for (var f = 0u; f < FETCHES_K; f++) { //# unroll
      let at = f * THREADS + lane;
      if (at < KEYS * DEPTH / 8u) { keys[at / (DEPTH / 8u) * STRIDE_D + at % (DEPTH / 8u)] = next_keys[f]; }
    }
    for (var f = 0u; f < FETCHES_V; f++) { //# unroll
      let at = f * THREADS + lane;
      if (at < KEYS * WIDTH / 8u) { values[at / (WIDTH / 8u) * STRIDE_N + at % (WIDTH / 8u)] = next_values[f]; }
    }
    workgroupBarrier();
    if (first_k + i32(KEYS) < count) {
      for (var f = 0u; f < FETCHES_K; f++) { //# unroll
        next_keys[f] = fetch_key(batch, first_k + i32(KEYS), f * THREADS + lane);
      }
      for (var f = 0u; f < FETCHES_V; f++) { //# unroll
        next_values[f] = fetch_value(batch, first_k + i32(KEYS), f * THREADS + lane);
      }
    }
    if (works) {
      for (var j = 0u; j < KEY_FRAGMENTS; j++) { //# unroll
        if (first_k + i32(j * 16u) < count) {
          var dots = subgroup_matrix_result<f32, 16, 16>();
          for (var d = 0u; d < DEPTH_FRAGMENTS; d++) { //# unroll
            dots = subgroupMatrixMultiplyAccumulate(
              query[d],
              subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&keys, j * 16u * STRIDE_D + d * 2u, STRIDE_D),
              dots,
            );
          }
          subgroupMatrixStore<row_major>(&strip, first_row * STRIP + j * 4u, dots, STRIP);
        }
      }
    }
    workgroupBarrier();
    var scale = 1.0;
    if (works) {
      var own = array<f32, OWN_KEYS>();
      var highest = peak;
      for (var i = 0u; i < OWN_FOURS; i++) { //# unroll
        let four = bitcast<vec4<f32>>(strip[row * STRIP + part * OWN_KEYS / 4u + i]);
        for (var r = 0u; r < 4u; r++) { //# unroll
          let key = first_k + i32(part * OWN_KEYS + i * 4u + r);
          own[i * 4u + r] = minus_infinity();
          if (key < count) { own[i * 4u + r] = score(batch, m, key, four[r]); }
          highest = max(highest, own[i * 4u + r]);
        }
      }
      for (var other = 16u; other < SUBGROUP; other *= 2u) { highest = max(highest, subgroupShuffleXor(highest, other)); }
      let relative = reference(highest);
      var total = 0.0;
      for (var i = 0u; i < OWN_KEYS; i++) { //# unroll
        own[i] = exp(own[i] - relative);
        total += own[i];
      }
      for (var other = 16u; other < SUBGROUP; other *= 2u) { total += subgroupShuffleXor(total, other); }
      for (var i = 0u; i < OWN_KEYS; i += 8u) {
        weights[row * STRIDE_K + (part * OWN_KEYS + i) / 8u] = vec4<u32>(
          pair(own[i], own[i + 1u]), pair(own[i + 2u], own[i + 3u]), pair(own[i + 4u], own[i + 5u]), pair(own[i + 6u], own[i + 7u]));
      }
      scale = select(exp(peak - relative), 0.0, peak < LOWEST);
      sum = sum * scale + total;
      peak = highest;
    }
    workgroupBarrier();
    var left: array<subgroup_matrix_left<f16, 16, 16>, KEY_FRAGMENTS>;
    for (var k = 0u; k < KEY_FRAGMENTS; k++) { //# unroll
      left[k] = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&weights, first_row * STRIDE_K + k * 2u, STRIDE_K);
    }
    for (var h = 0u; h < PASSES; h++) { //# unroll
      if (works) {
        for (var j = 0u; j < PASS; j++) { //# unroll
          var mixed = subgroup_matrix_result<f32, 16, 16>();
          for (var k = 0u; k < KEY_FRAGMENTS; k++) { //# unroll
            if (first_k + i32(k * 16u) < count) {
              mixed = subgroupMatrixMultiplyAccumulate(
                left[k],
                subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&values, k * 16u * STRIDE_N + (h * PASS + j) * 2u, STRIDE_N),
                mixed,
              );
            }
          }
          subgroupMatrixStore<row_major>(&strip, first_row * STRIP + j * 4u, mixed, STRIP);
        }
      }
      workgroupBarrier();
      for (var i = 0u; i < OWN_PASS; i += 4u) {
        let four = bitcast<vec4<f32>>(strip[row * STRIP + (part * OWN_PASS + i) / 4u]);
        for (var r = 0u; r < 4u; r++) {
          acc[h * OWN_PASS + i + r] = acc[h * OWN_PASS + i + r] * scale + four[r];
        }
      }
      if (h + 1u < PASSES) { workgroupBarrier(); }
    }
  }

  if (first_m + i32(row) < size_m()) {
    let factor = exp(reference(peak) - shift(batch, m, peak));
    for (var i = 0u; i < OWN_COLUMNS; i += 8u) {
      var eight = array<f32, 8>();
      for (var r = 0u; r < 8u; r++) { eight[r] = acc[i + r] * factor; }
      store(batch, m, i32(i / OWN_PASS * PASS * 16u + part * OWN_PASS + i % OWN_PASS), peak, sum * factor, eight);
    }
  }
}
