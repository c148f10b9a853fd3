// Attention by rows: a workgroup makes ROWS queries of one batch, KEYS keys at a time. The scores of a block live in workgroup
// memory; sums and results are rescaled when a row's peak grows (Milakov and Gimelshein, 2018, https://arxiv.org/abs/1805.02867).

const SIZE = 128u;               //# spec
const ROWS = 16u;                //# spec
const KEYS = 64u;                //# spec
const DEPTH = 64u;               //# spec
// Columns of the values that neighbouring invocations take, and how many times over.
const COLUMNS = 64u;             //# spec
const REPEATS = 1u;              //# spec
const WIDTH = 64u;               //# spec
const LANES_OF_ROW = SIZE / ROWS;
const SCORES = ROWS * KEYS / SIZE;
const ROW_STEP = SIZE / COLUMNS;
const RESULTS = ROWS / ROW_STEP;
const LOWEST = -3.4028234663852886e38;

fn size_m() -> i32 { return 64; }                                                            //# hook
fn size_k() -> i32 { return 64; }                                                            //# hook
fn load_q(batch: i32, m: i32, d: i32) -> f32 { return f32(batch + m + d); }                  //# hook
fn load_key(batch: i32, k: i32, d: i32) -> f32 { return f32(batch + k + d); }                //# hook
fn load_v(batch: i32, k: i32, n: i32) -> f32 { return f32(batch + k + n); }                  //# hook
fn score(batch: i32, m: i32, k: i32, dot: f32) -> f32 { return dot; }                        //# hook
fn shift(batch: i32, m: i32, peak: f32) -> f32 { return peak; }                              //# hook
fn store(batch: i32, m: i32, n: i32, peak: f32, sum: f32, acc: f32) { return; }              //# hook

var<workgroup> queries: array<f32, ROWS * DEPTH>;
var<workgroup> weights: array<f32, ROWS * KEYS>;
var<workgroup> partial_peaks: array<f32, SIZE>;
var<workgroup> partial_sums: array<f32, SIZE>;
var<workgroup> peaks: array<f32, ROWS>;
var<workgroup> sums: array<f32, ROWS>;
var<workgroup> scales: array<f32, ROWS>;

// Through a variable: a constant expression must be finite.
fn minus_infinity() -> f32 {
  var bits = 0xff800000u;
  return bitcast<f32>(bits);
}

// What weights are taken relative to: where nothing but -infinity was seen yet, 0.
fn reference(peak: f32) -> f32 { return select(peak, 0.0, peak < LOWEST); }

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = i32(workgroup.y);
  let first_m = i32(workgroup.x * ROWS);
  let last_m = size_m() - 1;
  let keys = size_k();
  for (var at = lane; at < ROWS * DEPTH; at += SIZE) { queries[at] = load_q(batch, min(first_m + i32(at / DEPTH), last_m), i32(at % DEPTH)); }
  if (lane < ROWS) {
    peaks[lane] = minus_infinity();
    sums[lane] = 0.0;
  }
  workgroupBarrier();
  let key_lane = lane % KEYS;
  let row_lane = lane / KEYS;
  let row = lane / LANES_OF_ROW;
  let part = lane % LANES_OF_ROW;
  let column = lane % COLUMNS;
  let first_row = lane / COLUMNS;
  var acc: array<f32, RESULTS * REPEATS>;
  for (var first_k = 0; first_k < keys; first_k += i32(KEYS)) {
    let k = first_k + i32(key_lane);
    let valid = k < keys;
    var dots = array<f32, SCORES>();
    if (valid) {
      for (var d = 0u; d < DEPTH; d++) {
        let key = load_key(batch, k, i32(d));
        for (var i = 0u; i < SCORES; i++) { dots[i] += queries[(row_lane + i * (SIZE / KEYS)) * DEPTH + d] * key; }
      }
    }
    for (var i = 0u; i < SCORES; i++) {
      let r = row_lane + i * (SIZE / KEYS);
      var value = 0.0;
      if (valid) { value = score(batch, min(first_m + i32(r), last_m), k, dots[i]); }
      weights[r * KEYS + key_lane] = value;
    }
    workgroupBarrier();
    let count = min(KEYS, u32(keys - first_k));
    let before = peaks[row];
    var peak = before;
    for (var at = part; at < count; at += LANES_OF_ROW) { peak = max(peak, weights[row * KEYS + at]); }
    partial_peaks[lane] = peak;
    workgroupBarrier();
    for (var i = 0u; i < LANES_OF_ROW; i++) { peak = max(peak, partial_peaks[row * LANES_OF_ROW + i]); }
    let relative = reference(peak);
    var sum = 0.0;
    for (var at = part; at < count; at += LANES_OF_ROW) {
      let weight = exp(weights[row * KEYS + at] - relative);
      weights[row * KEYS + at] = weight;
      sum += weight;
    }
    partial_sums[lane] = sum;
    workgroupBarrier();
    if (part == 0u) {
      let scale = select(exp(before - relative), 0.0, before < LOWEST);
      var total = sums[row] * scale;
      for (var i = 0u; i < LANES_OF_ROW; i++) { total += partial_sums[row * LANES_OF_ROW + i]; }
      scales[row] = scale;
      sums[row] = total;
      peaks[row] = peak;
    }
    workgroupBarrier();
    if (column < WIDTH) {
      for (var i = 0u; i < RESULTS * REPEATS; i++) { acc[i] *= scales[first_row + (i / REPEATS) * ROW_STEP]; }
      for (var at = 0u; at < count; at++) {
        for (var j = 0u; j < REPEATS; j++) {
          let n = column + j * COLUMNS;
          if (n < WIDTH) {
            let value = load_v(batch, first_k + i32(at), i32(n));
            for (var i = 0u; i < RESULTS; i++) { acc[i * REPEATS + j] += weights[(first_row + i * ROW_STEP) * KEYS + at] * value; }
          }
        }
      }
    }
    workgroupBarrier();
  }
  if (column < WIDTH) {
    for (var i = 0u; i < RESULTS; i++) {
      let r = first_row + i * ROW_STEP;
      let m = first_m + i32(r);
      if (m > last_m) { continue; }
      let peak = peaks[r];
      let factor = exp(reference(peak) - shift(batch, m, peak));
      for (var j = 0u; j < REPEATS; j++) {
        let n = column + j * COLUMNS;
        if (n < WIDTH) { store(batch, m, i32(n), peak, sums[r] * factor, acc[i * REPEATS + j] * factor); }
      }
    }
  }
}
