//! The inner loops, compiled for the vector unit at hand.

use pulp::{Arch, NullaryFnOnce};

use super::fused::Activation;

/// `1 / sqrt(2 pi)`
const INV_SQRT_TAU: f32 = 0.398_942_3;
/// `sqrt(2 / pi)`
const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// `activation(x + bias)`, `bias` repeating (none at all: zero).
pub(super) fn biased(x: &[f32], bias: &[f32], activation: Activation, out: &mut [f32]) {
    if bias.is_empty() {
        return activate(x, activation, out);
    }
    for (x, out) in x.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
        for ((out, x), bias) in out.iter_mut().zip(x).zip(bias) {
            *out = x + bias;
        }
    }
    if activation != Activation::None {
        in_place(activation, out);
    }
}

fn activate(x: &[f32], activation: Activation, out: &mut [f32]) {
    out.copy_from_slice(x);
    in_place(activation, out);
}

fn in_place(activation: Activation, values: &mut [f32]) {
    let arch = Arch::new();
    match activation {
        Activation::None => {}
        Activation::Relu => arch.dispatch(Each { values, f: |x: f32| if x > 0.0 { x } else { 0.0 } }),
        Activation::Gelu => arch.dispatch(Each { values, f: gelu }),
        Activation::GeluTanh => arch.dispatch(Each { values, f: gelu_tanh }),
        Activation::QuickGelu => arch.dispatch(Each { values, f: |x: f32| x / (1.0 + exp(-1.702 * x)) }),
        Activation::Silu => arch.dispatch(Each { values, f: |x: f32| x / (1.0 + exp(-x)) }),
        Activation::Tanh => arch.dispatch(Each { values, f: tanh }),
    }
}

/// `grad activation'(x + bias)`, bias repeating.
pub(super) fn slope(x: &[f32], bias: &[f32], grad: &[f32], activation: Activation, out: &mut [f32]) {
    biased(x, bias, Activation::None, out);
    let (arch, values) = (Arch::new(), &mut *out);
    match activation {
        Activation::None => arch.dispatch(Each { values, f: |_| 1.0 }),
        Activation::Relu => arch.dispatch(Each { values, f: |x: f32| if x > 0.0 { 1.0 } else { 0.0 } }),
        Activation::Gelu => arch.dispatch(Each { values, f: gelu_slope }),
        Activation::GeluTanh => arch.dispatch(Each { values, f: gelu_tanh_slope }),
        Activation::QuickGelu => arch.dispatch(Each { values, f: |x: f32| silu_slope(x, 1.702) }),
        Activation::Silu => arch.dispatch(Each { values, f: |x: f32| silu_slope(x, 1.0) }),
        Activation::Tanh => arch.dispatch(Each { values, f: |x: f32| 1.0 - tanh(x) * tanh(x) }),
    }
    out.iter_mut().zip(grad).for_each(|(out, grad)| *out *= grad);
}

struct Each<'a, F> {
    values: &'a mut [f32],
    f: F,
}

impl<F: Fn(f32) -> f32> NullaryFnOnce for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for value in self.values {
            *value = (self.f)(*value);
        }
    }
}

/// `x (1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

/// `Phi(x) + x phi(x)`
#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * INV_SQRT_TAU * exp(-0.5 * x * x)
}

#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    let tanh = tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x));
    let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
    0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
}

/// That of `x / (1 + exp(-a x))`.
#[inline(always)]
fn silu_slope(x: f32, a: f32) -> f32 {
    let s = 1.0 / (1.0 + exp(-a * x));
    s + a * x * s * (1.0 - s)
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    // Where x is small, 1 - 2 / (exp(2x) + 1) cancels: a short series is exact to f32 there.
    let square = x * x;
    let series = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let whole = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if square < 0.01 { series } else { whole }
}

/// Abramowitz and Stegun 7.1.26: off by 1.5e-7 at most.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let poly =
        t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - poly * exp(-a * a)).copysign(x)
}

/// `e^x`, to about 1e-7 of itself; 0 or infinity beyond the range of `f32`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // x = n ln 2 + r, ln 2 in two parts; a polynomial in r (Cephes), and n into the exponent.
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + 0.5).floor();
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let tail = 0.5
        + r * (0.166_666_65 + r * (0.041_665_795 + r * (8.333_452e-3 + r * (1.398_2e-3 + r * 1.987_569e-4))));
    let power = f32::from_bits((((n as i32) + 127) << 23) as u32);
    (r * r * tail + r + 1.0) * power
}

/// `softmax(scale x + mask)`; all slices of the same length.
pub(super) fn softmax(x: &[f32], scale: f32, mask: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(Softmax { x, scale, mask, out });
}

struct Softmax<'a> {
    x: &'a [f32],
    scale: f32,
    mask: &'a [f32],
    out: &'a mut [f32],
}

impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((out, x), mask) in self.out.iter_mut().zip(self.x).zip(self.mask) {
            *out = x * self.scale + mask;
        }
        let max = reduce(self.out, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
        for out in self.out.iter_mut() {
            *out = exp(*out - max);
        }
        let factor = 1.0 / reduce(self.out, 0.0, |a, b| a + b);
        for out in self.out.iter_mut() {
            *out *= factor;
        }
    }
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias`; all slices of the same length.
pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    Arch::new().dispatch(LayerNorm { x, weight, bias, eps, out });
}

struct LayerNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (mean, factor) = mean_and_factor(self.x, self.eps, self.out);
        for (((out, x), weight), bias) in self.out.iter_mut().zip(self.x).zip(self.weight).zip(self.bias) {
            *out = (x - mean) * factor * weight + bias;
        }
    }
}

/// The mean of `x` and `1 / sqrt(variance + eps)`; `scratch` is of the same length.
#[inline(always)]
fn mean_and_factor(x: &[f32], eps: f32, scratch: &mut [f32]) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = reduce(x, 0.0, |a, b| a + b) / n;
    for (out, x) in scratch.iter_mut().zip(x) {
        *out = (x - mean) * (x - mean);
    }
    (mean, 1.0 / (reduce(scratch, 0.0, |a, b| a + b) / n + eps).sqrt())
}

/// The gradient of [`layer_norm`] with respect to `x`; all slices of the same length.
pub(super) fn layer_norm_slope(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, out: &mut [f32]) {
    Arch::new().dispatch(LayerNormSlope { x, weight, grad, eps, out });
}

struct LayerNormSlope<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    grad: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for LayerNormSlope<'_> {
    type Output = ();

    /// With `y` the normal values and `g` the gradient by them: `(g - mean(g) - y mean(g y)) / deviation`.
    #[inline(always)]
    fn call(self) {
        let n = self.x.len() as f32;
        let (mean, factor) = mean_and_factor(self.x, self.eps, self.out);
        let inputs = || self.x.iter().zip(self.weight).zip(self.grad);
        for (out, ((x, weight), grad)) in self.out.iter_mut().zip(inputs()) {
            *out = grad * weight * (x - mean) * factor;
        }
        let along = reduce(self.out, 0.0, |a, b| a + b) / n;
        for (out, ((_, weight), grad)) in self.out.iter_mut().zip(inputs()) {
            *out = grad * weight;
        }
        let shift = reduce(self.out, 0.0, |a, b| a + b) / n;
        for (out, x) in self.out.iter_mut().zip(self.x) {
            *out = (*out - shift - (x - mean) * factor * along) * factor;
        }
    }
}

/// Folds `values` in lanes, then the lanes: the compiler may not reorder sums by itself.
#[inline(always)]
fn reduce(values: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let (runs, rest) = values.as_chunks::<16>();
    let mut lanes = [start; 16];
    for run in runs {
        for (lane, value) in lanes.iter_mut().zip(run) {
            *lane = f(*lane, *value);
        }
    }
    let mut total = start;
    for value in lanes.iter().chain(rest) {
        total = f(total, *value);
    }
    total
}
