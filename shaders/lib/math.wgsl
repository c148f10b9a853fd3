// Scalar functions that WGSL lacks or leaves undefined for some arguments. Only those that a kernel names are kept.

fn from_bits(bits: u32) -> f32 { return bitcast<f32>(bits); }

fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

fn is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }

fn bfloat(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  if (is_nan(x)) { return x; }
  return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

fn floor_div(a: i32, b: i32) -> i32 {
  let q = a / b;
  return select(q, q - 1, (a % b != 0) && ((a < 0) != (b < 0)));
}

fn floor_mod(a: i32, b: i32) -> i32 {
  let r = a % b;
  return select(r, r + b, (r != 0) && ((r < 0) != (b < 0)));
}

fn floor_mod_f(a: f32, b: f32) -> f32 {
  if (is_inf(b) && !is_inf(a)) { return select(b, a, a == 0.0 || (a < 0.0) == (b < 0.0)); }
  return a - b * floor(a / b);
}

// Remainder of truncated division, also where the quotient is too large for a float: Kahan's reduction is not needed at
// the magnitudes that models use.
fn rem_f(a: f32, b: f32) -> f32 {
  if (is_inf(b) && !is_inf(a)) { return a; }
  return a - b * trunc(a / b);
}

fn pow_f(x: f32, y: f32) -> f32 {
  if (y == 0.0 || x == 1.0) { return 1.0; }
  let size = pow(abs(x), y);
  if (x >= 0.0 || is_nan(x)) { return size; }
  if (y != trunc(y)) { return from_bits(0x7fc00000u); }
  return select(size, -size, abs(y) < 16777216.0 && (i32(y) & 1) == 1);
}

fn pow_i(x: i32, y: i32) -> i32 {
  if (y < 0) { return select(select(0, 1, x == 1), select(-1, 1, (y & 1) == 0), x == -1); }
  var base = x;
  var left = u32(y);
  var result = 1;
  for (var turn = 0u; turn < 32u && left != 0u; turn++) {
    if ((left & 1u) == 1u) { result = result * base; }
    base = base * base;
    left = left >> 1u;
  }
  return result;
}

fn pow_u(x: u32, y: u32) -> u32 { return bitcast<u32>(pow_i(bitcast<i32>(x), i32(y))); }

// Taylor's series to x^11 below 0.5; above, 1 - 2^-p(|x|), where p is the polynomial of degree 8 without a constant that comes nearest
// on [0, 4] (largest error 1.6e-8 before rounding, 9e-8 after; fitted by least squares with Lawson's weights). Without a branch:
// invocations differ in which they would take, and a kernel computes several at a time.
fn erf(x: f32) -> f32 {
  let z = abs(x);
  let s = x * x;
  var series = fma(-1.0 / 1320.0, s, 1.0 / 216.0);
  series = fma(series, s, -1.0 / 42.0);
  series = fma(series, s, 0.1);
  series = fma(series, s, -1.0 / 3.0);
  series = fma(series, s, 1.0);
  var p = fma(4.53585933e-5, z, -4.45507641e-4);
  p = fma(p, z, 1.48944161e-3);
  p = fma(p, z, 7.7462953e-4);
  p = fma(p, z, -2.82536801e-2);
  p = fma(p, z, 0.148481622);
  p = fma(p, z, 0.918416381);
  p = fma(p, z, 1.62790859);
  let above = 1.0 - exp2(-p * z);
  return select(select(above, -above, x < 0.0), 1.1283791670955126 * x * series, z < 0.5);
}

fn tanh_f(x: f32) -> f32 { return tanh(clamp(x, -10.0, 10.0)); }

fn sinh_f(x: f32) -> f32 {
  if (abs(x) < 0.5) {
    let s = x * x;
    return x * fma(s, fma(s, fma(s, 1.0 / 5040.0, 1.0 / 120.0), 1.0 / 6.0), 1.0);
  }
  let e = exp(abs(x) - 0.6931471805599453);
  return sign(x) * (e - 0.25 / e);
}

fn asinh_f(x: f32) -> f32 {
  let z = abs(x);
  if (z < 0.1) { return x * (1.0 - x * x * (1.0 / 6.0 - 0.075 * x * x)); }
  return sign(x) * log(z + sqrt(z * z + 1.0));
}

fn atanh_f(x: f32) -> f32 {
  if (abs(x) < 0.1) {
    let s = x * x;
    return x * fma(s, fma(s, fma(s, 1.0 / 7.0, 0.2), 1.0 / 3.0), 1.0);
  }
  return 0.5 * log((1.0 + x) / (1.0 - x));
}

// Round half to even is what `round` does; halves are exact below 2^23.
fn round_f(x: f32) -> f32 { return round(x); }

// The four signed bytes of a word.
fn unpack_bytes(word: u32) -> vec4<i32> {
  return (vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
}

// dot4I8Packed in plain integers.
fn dot_words(a: u32, b: u32) -> i32 {
  let products = unpack_bytes(a) * unpack_bytes(b);
  return products.x + products.y + products.z + products.w;
}
