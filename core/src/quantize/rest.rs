//! What singular factors leave over: multiples of one step, with a dead zone, because most of them are 0.
//!
//! `magnitude of the level = floor(|x| / step + 0.4)`, `value = level * gain`, where the gain takes the step's place in
//! the file: `sum x level / sum level^2`, the one of least error.

/// Magnitudes below this part of a step become 0.
const ZONE: f32 = 0.6;
/// Levels are cut to this magnitude.
const MAX_LEVEL: f32 = (1 << 24) as f32;

/// Appends the level of each coefficient; gives `sum x level` and `sum level^2`.
#[inline(always)]
pub(crate) fn quantize(coeffs: &[f32], step: f32, levels: &mut Vec<i32>) -> (f64, f64) {
    /// Coefficients whose products are summed in `f32`.
    const RUN: usize = 2048;
    const LANES: usize = 8;
    let inverse = 1.0 / step;
    let level = |x: f32| (x.abs() * inverse + (1.0 - ZONE)).floor().min(MAX_LEVEL).copysign(x);
    levels.reserve(coeffs.len());
    let mut sums = (0.0, 0.0);
    for run in coeffs.chunks(RUN) {
        levels.extend(run.iter().map(|&x| level(x) as i32));
        let (mut products, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
        for lanes in run.chunks(LANES) {
            for ((product, square), &x) in products.iter_mut().zip(&mut squares).zip(lanes) {
                let level = level(x);
                *product += x * inverse * level;
                *square += level * level;
            }
        }
        let total = |lanes: [f32; LANES]| lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        sums = (sums.0 + total(products) * f64::from(step), sums.1 + total(squares));
    }
    sums
}
