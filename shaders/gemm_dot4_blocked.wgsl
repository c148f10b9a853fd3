// Matrix product of bytes without workgroup memory: an invocation makes ROWS x 4 results of one batch, reading words of four
// bytes along k straight from memory. Each byte stands for byte - zero, as in gemm_dot4.

const ROWS = 4u;                 //# spec
const SIZE = 64u;                //# spec
const SHIFTED_A = true;          //# spec
const SHIFTED_B = true;          //# spec

fn size_m() -> i32 { return 64; }                                             //# hook
fn size_n() -> i32 { return 64; }                                             //# hook
fn size_k() -> i32 { return 64; }                                             //# hook
fn zero_a() -> i32 { return 0; }                                              //# hook
fn zero_b() -> i32 { return 0; }                                              //# hook
fn load_a(batch: i32, m: i32, k: i32) -> u32 { return 0u; }                   //# hook
fn load_b(batch: i32, k: i32, n: i32) -> u32 { return 0u; }                   //# hook
fn dot_bytes(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }            //# hook
fn store(batch: i32, m: i32, n: i32, acc: vec4<i32>) { return; }              //# hook

@compute @workgroup_size(SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) workgroups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let batch = i32(workgroup.z);
  let columns = (size_n() + 3) / 4;
  let item = i32((workgroup.y * workgroups.x + workgroup.x) * SIZE + lane);
  let n = item % columns * 4;
  let first_m = item / columns * i32(ROWS);
  if (first_m >= size_m()) { return; }
  var acc: array<vec4<i32>, ROWS>;
  var sums_a: array<i32, ROWS>;
  var sums_b = vec4<i32>();
  let depth = size_k();
  for (var k = 0; k < depth; k += 4) {
    let b = vec4<u32>(load_b(batch, k, n), load_b(batch, k, n + 1), load_b(batch, k, n + 2), load_b(batch, k, n + 3));
    for (var i = 0u; i < ROWS; i++) {
      let a = load_a(batch, first_m + i32(i), k);
      acc[i] += vec4<i32>(dot_bytes(a, b.x), dot_bytes(a, b.y), dot_bytes(a, b.z), dot_bytes(a, b.w));
      if (SHIFTED_B) { sums_a[i] += dot_bytes(a, 0x01010101u); }
    }
    if (SHIFTED_A) {
      let ones = 0x01010101u;
      sums_b += vec4<i32>(dot_bytes(b.x, ones), dot_bytes(b.y, ones), dot_bytes(b.z, ones), dot_bytes(b.w, ones));
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    let m = first_m + i32(i);
    if (m >= size_m()) { break; }
    var four = acc[i];
    if (SHIFTED_A) { four -= zero_a() * sums_b; }
    if (SHIFTED_B) { four -= zero_b() * sums_a[i] - (depth + 3) / 4 * 4 * zero_a() * zero_b(); }
    store(batch, m, n, four);
  }
}
