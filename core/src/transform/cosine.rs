//! One-dimensional cosine transforms without their scale, on vectors of independent columns.
//!
//! # Specification
//!
//! `II` takes n values x to n values y, `y_k = sum_i x_i cos(pi (2i+1) k / 2n)`, computed as
//!
//! * n even, h = n/2: `s_i = x_i + x_{n-1-i}` and `d_i = x_i - x_{n-1-i}` for i < h; `y_{2k} = II(s)_k`,
//!   `y_{2k+1} = IV(d)_k`.
//! * n odd, m = (n-1)/2: `s_i = x_i + x_{n-1-i}`, `d_i = x_i - x_{n-1-i}` for i < m, `s_m = x_m`; even k:
//!   `y_k = sum_{i <= m} M[k][i] s_i`; odd k: `y_k = sum_{i < m} M[k][i] d_i`; `M[k][i] = cos(pi (2i+1) k / 2n)`.
//!
//! `IIt` is its transpose, computed as
//!
//! * n even: `e = IIt(y_0, y_2, ...)`, `o = IV(y_1, y_3, ...)`; `x_i = e_i + o_i`, `x_{n-1-i} = e_i - o_i` for i < h.
//! * n odd: `e_i = sum_{even k} M[k][i] y_k` for i <= m, `o_i = sum_{odd k} M[k][i] y_k` for i < m, then as above, and
//!   `x_m = e_m`.
//!
//! `IV` (its own transpose) is `y_j = sum_i x_i cos(pi (2j+1) (2i+1) / 4n)`, computed as
//!
//! * n even, h = n/2, `c_i = cos(pi (2i+1) / 4n)`, `s_i = sin(pi (2i+1) / 4n)`: `p_i = c_i x_i + s_i x_{n-1-i}`, and
//!   `q_i = s_i x_i - c_i x_{n-1-i}` for even i, `q_i = c_i x_{n-1-i} - s_i x_i` for odd i; `P = II(p)`, `Q = II(q)`;
//!   `y_0 = P_0`, `y_{n-1} = Q_0`, and `y_{2m-1} = P_m + Q_{h-m}`, `y_{2m} = P_m - Q_{h-m}` for 0 < m < h.
//! * n odd: `y_j = sum_i N[j][i] x_i`, `N[j][i] = cos(pi (2j+1) (2i+1) / 4n)`.
//!
//! Sums are taken with the index ascending, starting from the first product. (Two rotations and sums per halving,
//! after Plonka and Tasche, "Fast and numerically stable algorithms for discrete cosine transforms", 2005.)

use std::f64::consts::PI;

use pulp::{NullaryFnOnce, Simd};

/// The f32 nearest to the exact cosine, whose zeros are not exact in f64.
fn cosine(angle: f64) -> f32 {
    let value = angle.cos();
    if value.abs() < 1e-12 { 0.0 } else { value as f32 }
}

/// The constants of transforms of `n` values.
#[derive(Clone, Debug)]
pub(super) struct Constants {
    /// n even: `[c_i, s_i]` of `IV`.
    rotations: Vec<[f32; 2]>,
    /// n odd: `M`, row-major.
    dense_ii: Vec<f32>,
    /// n odd: `N`, row-major.
    dense_iv: Vec<f32>,
}

impl Constants {
    /// The constants for sides `n`, `n / 2`, ... down to the first odd one.
    pub(super) fn halving(mut n: usize) -> Vec<Self> {
        let mut sizes = vec![Self::new(n)];
        while n.is_multiple_of(2) && n > 0 {
            n /= 2;
            sizes.push(Self::new(n));
        }
        sizes
    }

    fn new(n: usize) -> Self {
        let mut constants = Self { rotations: vec![], dense_ii: vec![], dense_iv: vec![] };
        let angle = |steps: usize| PI * steps as f64 / (4 * n) as f64;
        if n.is_multiple_of(2) {
            let rotation = |i| [angle(2 * i + 1).cos() as f32, angle(2 * i + 1).sin() as f32];
            constants.rotations = (0..n / 2).map(rotation).collect();
            return constants;
        }
        for k in 0..n {
            for i in 0..n {
                // Reduced to one turn, so that the argument of cos is as exact as its value must be.
                constants.dense_ii.push(cosine(angle(2 * k * (2 * i + 1) % (8 * n))));
                constants.dense_iv.push(cosine(angle((2 * k + 1) * (2 * i + 1) % (8 * n))));
            }
        }
        constants
    }
}

/// The three one-dimensional transforms.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Ii,
    IiT,
    Iv,
}

/// Replaces `$x`, whose length is that of `$transform` where this is reached, by its transform.
macro_rules! in_place {
    ($x:ident, $transform:ident($simd:ident, $sizes:ident)) => {
        if let Some(x) = $x.first_chunk_mut() {
            *x = $transform($simd, $sizes, *x);
        }
    };
}

/// A transform of `x` in place, for the lengths that are unrolled: 4, 8, 16 and 32. Compiled once per length and kind
/// where the caller makes both known.
#[inline(always)]
pub(super) fn unrolled<S: Simd, const N: usize>(
    simd: S,
    kind: Kind,
    sizes: &[Constants],
    x: &mut [S::f32s; N],
) {
    match (kind, N) {
        (Kind::Ii, 4) => in_place!(x, ii_4(simd, sizes)),
        (Kind::Ii, 8) => in_place!(x, ii_8(simd, sizes)),
        (Kind::Ii, 16) => in_place!(x, ii_16(simd, sizes)),
        (Kind::Ii, 32) => in_place!(x, ii_32(simd, sizes)),
        (Kind::IiT, 4) => in_place!(x, ii_t_4(simd, sizes)),
        (Kind::IiT, 8) => in_place!(x, ii_t_8(simd, sizes)),
        (Kind::IiT, 16) => in_place!(x, ii_t_16(simd, sizes)),
        (Kind::IiT, 32) => in_place!(x, ii_t_32(simd, sizes)),
        (Kind::Iv, 32) => in_place!(x, iv_32(simd, sizes)),
        _ => {}
    }
}

/// A transform of `x` in place, for any length; `t` is as long. `sizes` starts with the constants of that length.
#[inline(always)]
pub(super) fn any_length<S: Simd>(
    simd: S,
    kind: Kind,
    sizes: &[Constants],
    x: &mut [S::f32s],
    t: &mut [S::f32s],
) {
    simd.vectorize(AnyLength { kind, simd, sizes, x, t });
}

/// A transform of any length, by recursion. It is a struct because `vectorize` compiles its body for the vector
/// unit, which a plain recursive function would leave.
struct AnyLength<'a, S: Simd> {
    kind: Kind,
    simd: S,
    sizes: &'a [Constants],
    x: &'a mut [S::f32s],
    t: &'a mut [S::f32s],
}

impl<S: Simd> NullaryFnOnce for AnyLength<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if let (32, Some(x), false) = (self.x.len(), self.x.first_chunk_mut::<32>(), S::IS_SCALAR) {
            return match self.kind {
                Kind::Ii => unrolled(self.simd, Kind::Ii, self.sizes, x),
                Kind::IiT => unrolled(self.simd, Kind::IiT, self.sizes, x),
                Kind::Iv => unrolled(self.simd, Kind::Iv, self.sizes, x),
            };
        }
        let Some((constants, halves)) = self.sizes.split_first() else { return };
        let even = self.x.len().is_multiple_of(2);
        match self.kind {
            Kind::Ii if even => self.ii_even(halves),
            Kind::Ii => self.ii_odd(&constants.dense_ii),
            Kind::IiT if even => self.ii_t_even(halves),
            Kind::IiT => self.ii_t_odd(&constants.dense_ii),
            Kind::Iv if even => self.iv_even(&constants.rotations, halves),
            Kind::Iv => self.iv_odd(&constants.dense_iv),
        }
    }
}

impl<S: Simd> AnyLength<'_, S> {
    #[inline(always)]
    fn ii_even(self, halves: &[Constants]) {
        let Self { simd, x, t, .. } = self;
        let (n, h) = (x.len(), x.len() / 2);
        for i in 0..h {
            t[i] = simd.add_f32s(x[i], x[n - 1 - i]);
            t[h + i] = simd.sub_f32s(x[i], x[n - 1 - i]);
        }
        let (s, d) = t[..n].split_at_mut(h);
        any_length(simd, Kind::Ii, halves, s, &mut x[..h]);
        any_length(simd, Kind::Iv, halves, d, &mut x[..h]);
        for k in 0..h {
            x[2 * k] = s[k];
            x[2 * k + 1] = d[k];
        }
    }

    #[inline(always)]
    fn ii_t_even(self, halves: &[Constants]) {
        let Self { simd, x, t, .. } = self;
        let (n, h) = (x.len(), x.len() / 2);
        for k in 0..h {
            t[k] = x[2 * k];
            t[h + k] = x[2 * k + 1];
        }
        let (e, o) = t[..n].split_at_mut(h);
        any_length(simd, Kind::IiT, halves, e, &mut x[..h]);
        any_length(simd, Kind::Iv, halves, o, &mut x[..h]);
        for i in 0..h {
            x[i] = simd.add_f32s(e[i], o[i]);
            x[n - 1 - i] = simd.sub_f32s(e[i], o[i]);
        }
    }

    #[inline(always)]
    fn iv_even(self, rotations: &[[f32; 2]], halves: &[Constants]) {
        let Self { simd, x, t, .. } = self;
        let (n, h) = (x.len(), x.len() / 2);
        for (i, rotation) in rotations.iter().enumerate() {
            [t[i], t[h + i]] = rotate(simd, rotation, i, x[i], x[n - 1 - i]);
        }
        let (p, q) = t[..n].split_at_mut(h);
        any_length(simd, Kind::Ii, halves, p, &mut x[..h]);
        any_length(simd, Kind::Ii, halves, q, &mut x[..h]);
        x[0] = p[0];
        x[n - 1] = q[0];
        for m in 1..h {
            x[2 * m - 1] = simd.add_f32s(p[m], q[h - m]);
            x[2 * m] = simd.sub_f32s(p[m], q[h - m]);
        }
    }

    #[inline(always)]
    fn ii_odd(self, dense: &[f32]) {
        let Self { simd, x, t, .. } = self;
        let (n, m) = (x.len(), x.len() / 2);
        for i in 0..m {
            t[i] = simd.add_f32s(x[i], x[n - 1 - i]);
            t[m + 1 + i] = simd.sub_f32s(x[i], x[n - 1 - i]);
        }
        t[m] = x[m];
        let (s, d) = t[..n].split_at(m + 1);
        for (k, row) in dense.chunks_exact(n).enumerate() {
            let terms = if k % 2 == 0 { s } else { d };
            x[k] = sum(simd, row, 1, terms, 1, terms.len());
        }
    }

    #[inline(always)]
    fn ii_t_odd(self, dense: &[f32]) {
        let Self { simd, x, t, .. } = self;
        let (n, m) = (x.len(), x.len() / 2);
        for i in 0..=m {
            t[i] = sum(simd, &dense[i..], 2 * n, x, 2, m + 1);
        }
        for i in 0..m {
            t[m + 1 + i] = sum(simd, &dense[n + i..], 2 * n, &x[1..], 2, m);
        }
        for i in 0..m {
            x[i] = simd.add_f32s(t[i], t[m + 1 + i]);
            x[n - 1 - i] = simd.sub_f32s(t[i], t[m + 1 + i]);
        }
        x[m] = t[m];
    }

    #[inline(always)]
    fn iv_odd(self, dense: &[f32]) {
        let Self { simd, x, t, .. } = self;
        let n = x.len();
        t[..n].copy_from_slice(x);
        for (y, row) in x.iter_mut().zip(dense.chunks_exact(n)) {
            *y = sum(simd, row, 1, t, 1, n);
        }
    }
}

/// `coefficients[0] * x[0] + coefficients[step] * x[1 * stride] ...`: the sum of `count` products, in order.
#[inline(always)]
fn sum<S: Simd>(
    simd: S,
    coefficients: &[f32],
    step: usize,
    x: &[S::f32s],
    stride: usize,
    count: usize,
) -> S::f32s {
    let mut total = simd.mul_f32s(simd.splat_f32s(coefficients[0]), x[0]);
    for i in 1..count {
        let product = simd.mul_f32s(simd.splat_f32s(coefficients[i * step]), x[i * stride]);
        total = simd.add_f32s(total, product);
    }
    total
}

/// `[p_i, q_i]` of `IV`, with `a = x_i` and `b = x_{n-1-i}`.
#[inline(always)]
fn rotate<S: Simd>(simd: S, rotation: &[f32; 2], i: usize, a: S::f32s, b: S::f32s) -> [S::f32s; 2] {
    let (c, s) = (simd.splat_f32s(rotation[0]), simd.splat_f32s(rotation[1]));
    let p = simd.add_f32s(simd.mul_f32s(c, a), simd.mul_f32s(s, b));
    let (sa, cb) = (simd.mul_f32s(s, a), simd.mul_f32s(c, b));
    [p, if i.is_multiple_of(2) { simd.sub_f32s(sa, cb) } else { simd.sub_f32s(cb, sa) }]
}

/// The same recursion for small powers of two, unrolled into one run of vector instructions: `$ii`, `$ii_t` and
/// `$iv` of `$n` values from those of `$h = $n / 2`. (Loops, not closures: a closure is compiled outside the vector
/// unit.)
macro_rules! halving {
    ($n:literal $ii:ident $ii_t:ident $iv:ident from $h:literal $half:ident $half_t:ident $half_iv:ident) => {
        #[inline(always)]
        fn $ii<S: Simd>(simd: S, sizes: &[Constants], x: [S::f32s; $n]) -> [S::f32s; $n] {
            let (mut s, mut d, mut y) = ([x[0]; $h], [x[0]; $h], x);
            for i in 0..$h {
                s[i] = simd.add_f32s(x[i], x[$n - 1 - i]);
                d[i] = simd.sub_f32s(x[i], x[$n - 1 - i]);
            }
            let d = $half_iv(simd, &sizes[1..], d);
            let s = $half(simd, &sizes[1..], s);
            for k in 0..$h {
                y[2 * k] = s[k];
                y[2 * k + 1] = d[k];
            }
            y
        }

        #[inline(always)]
        fn $ii_t<S: Simd>(simd: S, sizes: &[Constants], y: [S::f32s; $n]) -> [S::f32s; $n] {
            let (mut e, mut o, mut x) = ([y[0]; $h], [y[0]; $h], y);
            for k in 0..$h {
                e[k] = y[2 * k];
                o[k] = y[2 * k + 1];
            }
            let e = $half_t(simd, &sizes[1..], e);
            let o = $half_iv(simd, &sizes[1..], o);
            for i in 0..$h {
                x[i] = simd.add_f32s(e[i], o[i]);
                x[$n - 1 - i] = simd.sub_f32s(e[i], o[i]);
            }
            x
        }

        #[inline(always)]
        fn $iv<S: Simd>(simd: S, sizes: &[Constants], x: [S::f32s; $n]) -> [S::f32s; $n] {
            let rotations = &sizes[0].rotations[..$h];
            let (mut p, mut q, mut y) = ([x[0]; $h], [x[0]; $h], x);
            for i in 0..$h {
                [p[i], q[i]] = rotate(simd, &rotations[i], i, x[i], x[$n - 1 - i]);
            }
            let (p, q) = ($half(simd, &sizes[1..], p), $half(simd, &sizes[1..], q));
            y[0] = p[0];
            #[allow(clippy::reversed_empty_ranges)] // nothing is left for two values
            for m in 1..$h {
                y[2 * m - 1] = simd.add_f32s(p[m], q[$h - m]);
                y[2 * m] = simd.sub_f32s(p[m], q[$h - m]);
            }
            y[$n - 1] = q[0];
            y
        }
    };
}

halving!(2 ii_2 ii_t_2 iv_2 from 1 ii_1 ii_1 iv_1);
halving!(4 ii_4 ii_t_4 iv_4 from 2 ii_2 ii_t_2 iv_2);
halving!(8 ii_8 ii_t_8 iv_8 from 4 ii_4 ii_t_4 iv_4);
halving!(16 ii_16 ii_t_16 iv_16 from 8 ii_8 ii_t_8 iv_8);
halving!(32 ii_32 ii_t_32 iv_32 from 16 ii_16 ii_t_16 iv_16);

/// `II` of one value is the value.
#[inline(always)]
fn ii_1<S: Simd>(_: S, _: &[Constants], x: [S::f32s; 1]) -> [S::f32s; 1] {
    x
}

/// `IV` of one value is `cos(pi / 4)` times it.
#[inline(always)]
fn iv_1<S: Simd>(simd: S, sizes: &[Constants], [x]: [S::f32s; 1]) -> [S::f32s; 1] {
    [simd.mul_f32s(simd.splat_f32s(sizes[0].dense_iv[0]), x)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether every f64 cosine that is off by a few last places would still round to the same f32.
    fn far_from_a_tie(exact: f64) -> bool {
        (exact - 1e-12) as f32 == (exact + 1e-12) as f32
    }

    #[test]
    fn constants_do_not_depend_on_the_cosine_of_the_machine() {
        for n in 1..=128usize {
            for odd in (1..=2 * n).step_by(2) {
                let angle = PI * odd as f64 / (4 * n) as f64;
                assert!(far_from_a_tie(angle.cos()) && far_from_a_tie(angle.sin()), "n = {n}, {odd}");
            }
            if n % 2 == 1 {
                for steps in 0..8 * n {
                    let cosine = (PI * steps as f64 / (4 * n) as f64).cos();
                    assert!(far_from_a_tie(cosine) || cosine.abs() < 1e-12, "n = {n}, {steps}");
                }
            }
        }
    }
}
