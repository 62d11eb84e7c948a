//! What singular factors leave over: much like Gaussian noise, quantised along the trellis of one chunk.
//!
//! `value * gain`, where the gain takes the step's place in the file: `sum x value / sum value^2`, the one of least
//! error.

use super::trellis::{self, GRID};

/// What a bit may cost, in squares of the values' unit: where the rate falls as the error rises, for a Gaussian.
const PRICE: f32 = 0.3;
/// Magnitudes with a price of their own.
const PRICED: usize = 64;

/// Appends the value of each coefficient; gives `sum x value` and `sum value^2`.
#[inline(always)]
pub(crate) fn quantize(coeffs: &[f32], step: f32, values: &mut Vec<i32>) -> (f64, f64) {
    let first = values.len();
    let prices = prices(coeffs, step);
    trellis::quantize(coeffs, step, PRICE, &[prices], std::iter::repeat(0), values);
    coeffs.iter().zip(&values[first..]).fold((0.0, 0.0), |sums, (&x, &value)| {
        let (x, value) = (f64::from(x), f64::from(value));
        (sums.0 + x * value, sums.1 + value * value)
    })
}

/// Bits of each magnitude of either quantiser, for a Gaussian of the coefficients' energy.
fn prices(coeffs: &[f32], step: f32) -> [[f32; PRICED]; 2] {
    let unit = f64::from(GRID * step);
    let energy: f64 = coeffs.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let precision = 0.5 * unit * unit * coeffs.len() as f64 / energy.max(f64::MIN_POSITIVE);
    [0, 1].map(|q: usize| {
        let exponent = |m: usize| precision * ((2 * m).saturating_sub(q) as f64).powi(2);
        let total: f64 = (0..PRICED).map(|m| (-exponent(m)).exp() * if m > 0 { 2.0 } else { 1.0 }).sum();
        std::array::from_fn(|m| ((exponent(m) + total.ln()) / std::f64::consts::LN_2) as f32)
    })
}
