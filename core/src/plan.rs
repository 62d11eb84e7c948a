//! How one tensor is coded, as one value with a text form: `dct block=32 | minmax bits=2:0.5,0:0.5 | unbiased`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::quantize::{Importance, MinMax, Quantizer, Uniform};
use crate::transform::{Table, Transform, Wavelet};

/// The stages that code the delta of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Delta to coefficients.
    pub transform: Transform,
    /// Coefficients to levels.
    pub quantizer: Quantizer,
    /// The factor on the reconstruction.
    pub rescale: Rescale,
}

impl Plan {
    /// The plan for a tensor of a model, or a matrix of a tensor, `own` being a number of its own: those of equal shape shall not
    /// lose the same weights to the same mask.
    pub(crate) fn for_own(&self, own: u64) -> Self {
        let mut plan = self.clone();
        if let Transform::Mask { seed, .. } = &mut plan.transform {
            *seed = seed.wrapping_add(own);
        }
        plan
    }

    /// What may be a better plan where many weights did not change, as directions change all of them. Only beside a rest:
    /// where a file has no room for one, nothing is worth more than directions.
    pub(crate) fn for_few_changes(&self) -> Option<Self> {
        /// The step, in steps of the rest.
        const SHARE: f32 = 0.4;
        let step = SHARE * self.transform.rest_step();
        let quantizer = Quantizer::Uniform(Uniform { step });
        let plan = Self { transform: Transform::None, quantizer, rescale: Rescale::None };
        (step > 0.0).then_some(plan)
    }

    /// Whether the energies of the blocks, or of the whole delta, have to be known before it is coded.
    pub(crate) fn needs_survey(&self) -> bool {
        let classes = self.quantizer.classes();
        let integers = self.quantizer.has_integers();
        let fitted = matches!(self.transform, Transform::LowRank { .. } | Transform::Top { .. });
        integers || fitted || classes.len() > 1 || classes.iter().any(|&(bits, _)| bits == 0)
    }

    /// Fails for stages that do not go together.
    fn check(self) -> Result<Self> {
        if self.quantizer == Quantizer::Sign && self.rescale == Rescale::None {
            return Err(Error::invalid("signs have no size of their own: rescale is unbiased or mean-abs"));
        }
        let factors = matches!(self.transform, Transform::Factors { .. });
        if factors != (self.quantizer == Quantizer::Rest) || factors && self.rescale != Rescale::None {
            return Err(Error::invalid("factors, rest and rescale=none go together, and with nothing else"));
        }
        let Quantizer::MinMax(min_max) = &self.quantizer else {
            check_table(&self.transform)?;
            return Ok(self);
        };
        let classes = min_max.bits.classes();
        let mixed = classes.len() > 1 || classes.iter().any(|&(bits, _)| bits == 0);
        if mixed && self.transform.block().is_none() {
            return Err(Error::invalid(format!(
                "bits={}: only the blocks of dct and dwt differ in bits",
                min_max.bits
            )));
        }
        if min_max.importance != Importance::Pre && !matches!(self.transform, Transform::Dct { .. }) {
            return Err(Error::invalid(format!("importance={} needs the dct", min_max.importance)));
        }
        match min_max {
            MinMax { predecessor: true, details, .. } => check_predecessor(&self.transform, *details)?,
            _ => check_table(&self.transform)?,
        }
        Ok(self)
    }
}

/// The table is one for the DCT: only the predecessor divided wavelet bands by it.
fn check_table(transform: &Transform) -> Result<()> {
    match transform {
        Transform::Dwt { table: Table::Jpeg, .. } => {
            Err(Error::invalid("table=jpeg is made for the dct; with wavelets it needs predecessor=true"))
        }
        _ => Ok(()),
    }
}

/// What the predecessor had, and did right.
fn check_predecessor(transform: &Transform, details: u8) -> Result<()> {
    match transform {
        Transform::Dct { .. } => Ok(()),
        Transform::Dwt { block, .. } if block % 2 == 1 => Err(Error::invalid(format!(
            "block={block}: the predecessor garbled wavelets of odd blocks; take an even one"
        ))),
        Transform::Dwt { wavelet: Wavelet::Haar, levels: 1, .. } if details == 1 => Ok(()),
        _ => Err(Error::invalid("the predecessor had dct, and dwt with wavelet=haar levels=1 details=1")),
    }
}

/// What the factor `f` of a tensor makes true of its reconstruction `f d'` of the delta `d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rescale {
    /// `f = 1`.
    None,
    /// The same mean magnitude: `f = mean|d| / mean|d'|` (Delta-DCT).
    MeanAbs,
    /// The same projection on the delta: `f = |d|^2 / <d, d'>`. A model's behaviour follows the delta in few
    /// directions, where shrinking costs far more than noise does.
    #[default]
    Unbiased,
}

/// Sums over a delta `d` and its reconstruction `r`; those of magnitudes only where they are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    pub(crate) dd: f64,
    pub(crate) dr: f64,
    pub(crate) rr: f64,
    pub(crate) abs_d: f64,
    pub(crate) abs_r: f64,
}

impl Moments {
    /// The sums that `rescale` needs, over two slices of the same length.
    pub(crate) fn of(rescale: Rescale, delta: &[f32], restored: &[f32]) -> Self {
        let mut moments = Self::default();
        match rescale {
            Rescale::None => moments.dd = energy(delta),
            Rescale::Unbiased => {
                [moments.dd, moments.dr, moments.rr] = sums::<true>(delta, restored);
            }
            Rescale::MeanAbs => {
                [moments.dd, moments.abs_d] = sizes(delta);
                moments.abs_r = sizes(restored)[1];
            }
        }
        moments
    }

    /// The sums over a delta and its signs, -1 and 1.
    pub(crate) fn of_signs(delta: &[f32]) -> Self {
        let ([dd, size], count) = (sizes(delta), delta.len() as f64);
        Self { dd, dr: size, rr: count, abs_d: size, abs_r: count }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            dd: self.dd + other.dd,
            dr: self.dr + other.dr,
            rr: self.rr + other.rr,
            abs_d: self.abs_d + other.abs_d,
            abs_r: self.abs_r + other.abs_r,
        }
    }
}

/// Sum of squares.
pub(crate) fn energy(values: &[f32]) -> f64 {
    sums::<false>(values, values)[1]
}

/// Sums in `f32` go over runs that are short enough to lose nothing.
const RUN: usize = 1024;
/// Magnitudes of sums of products that neither overflowed nor vanished.
const SAFE: std::ops::Range<f64> = 1e-24..1e30;
/// Sums side by side, which the compiler can make vectors of.
const LANES: usize = 16;

/// The sums of all lanes together.
#[inline(always)]
fn together(lanes: &[f32; LANES]) -> f64 {
    lanes.iter().fold(0.0, |total, &lane| total + f64::from(lane))
}

/// Sums of squares and of magnitudes.
fn sizes(values: &[f32]) -> [f64; 2] {
    pulp::Arch::new().dispatch(Sizes(values))
}

/// [`sizes`], compiled for the vector unit, and summed as in [`Sums`].
struct Sizes<'a>(&'a [f32]);

impl pulp::NullaryFnOnce for Sizes<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn call(self) -> [f64; 2] {
        let mut totals = [0.0; 2];
        for values in self.0.chunks(RUN) {
            let [mut squares, mut magnitudes] = [[0.0f32; LANES]; 2];
            let mut add = |lane: usize, x: f32| {
                squares[lane] += x * x;
                magnitudes[lane] += x.abs();
            };
            let (runs, rest) = values.as_chunks::<LANES>();
            for run in runs {
                for (lane, &x) in run.iter().enumerate() {
                    add(lane, x);
                }
            }
            for (lane, &x) in rest.iter().enumerate() {
                add(lane, x);
            }
            let (squares, magnitudes) = (together(&squares), together(&magnitudes));
            let is_safe = SAFE.contains(&squares);
            totals[0] += if is_safe { squares } else { wide(values, values) };
            totals[1] += if is_safe { magnitudes } else { values.iter().map(|&x| f64::from(x.abs())).sum() };
        }
        totals
    }
}

/// Sums of `x x`, `x y` and `y y` over two slices of the same length; only the one in the middle unless `ALL`.
fn sums<const ALL: bool>(x: &[f32], y: &[f32]) -> [f64; 3] {
    pulp::Arch::new().dispatch(Sums::<ALL> { x, y })
}

/// [`sums`], compiled for the vector unit.
struct Sums<'a, const ALL: bool> {
    x: &'a [f32],
    y: &'a [f32],
}

impl<const ALL: bool> pulp::NullaryFnOnce for Sums<'_, ALL> {
    type Output = [f64; 3];

    /// In `f32` over runs that are short enough to lose nothing, and in `f64` over the runs.
    #[inline(always)]
    fn call(self) -> [f64; 3] {
        let mut totals = [0.0; 3];
        for (x, y) in self.x.chunks(RUN).zip(self.y.chunks(RUN)) {
            let (sums, factors) = (narrow::<ALL>(x, y), [(x, x), (x, y), (y, y)]);
            for i in if ALL { 0..3 } else { 1..2 } {
                let (x, y) = factors[i];
                totals[i] += if SAFE.contains(&sums[i].abs()) { sums[i] } else { wide(x, y) };
            }
        }
        totals
    }
}

#[inline(always)]
fn narrow<const ALL: bool>(x: &[f32], y: &[f32]) -> [f64; 3] {
    let [mut xx, mut xy, mut yy] = [[0.0f32; LANES]; 3];
    let mut add = |lane: usize, x: f32, y: f32| {
        if ALL {
            xx[lane] += x * x;
            yy[lane] += y * y;
        }
        xy[lane] += x * y;
    };
    let ((x_runs, x_rest), (y_runs, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x_runs.iter().zip(y_runs) {
        for lane in 0..LANES {
            add(lane, x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
        add(lane, x, y);
    }
    [together(&xx), together(&xy), together(&yy)]
}

/// A sum of [`narrow`] in `f64`, for the smallest and the largest values.
#[cold]
fn wide(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Below this squared cosine between a delta and its reconstruction there is nothing worth the noise: the factor is
/// then the one of least error.
const MIN_COS2: f64 = 1.0 / 256.0;

impl Rescale {
    /// The factor; 1 where none can be found. It may be 0: signs have a size where there is no delta, too.
    pub(crate) fn factor(self, moments: &Moments) -> f32 {
        let factor = match self {
            Self::None => 1.0,
            Self::MeanAbs => moments.abs_d / moments.abs_r,
            // The unbiased reconstruction is off by 1 / cos^2 - 1 times the delta's energy.
            Self::Unbiased if moments.dr * moments.dr > MIN_COS2 * moments.dd * moments.rr => {
                moments.dd / moments.dr
            }
            Self::Unbiased => moments.dr / moments.rr,
        };
        if factor.is_finite() && factor >= 0.0 { factor as f32 } else { 1.0 }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {} | {}", self.transform, self.quantizer, self.rescale)
    }
}

impl FromStr for Plan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let stages: Vec<&str> = text.split('|').collect();
        let [transform, quantizer, rescale] = stages[..] else {
            return Err(Error::invalid("a plan is TRANSFORM | QUANTIZER | RESCALE"));
        };
        Self {
            transform: transform.parse()?,
            quantizer: quantizer.parse()?,
            rescale: rescale.trim().parse()?,
        }
        .check()
    }
}

impl fmt::Display for Rescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::MeanAbs => "mean-abs",
            Self::Unbiased => "unbiased",
        })
    }
}

impl FromStr for Rescale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "mean-abs" => Ok(Self::MeanAbs),
            "unbiased" => Ok(Self::Unbiased),
            _ => Err(Error::invalid("rescale is none, mean-abs or unbiased")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn stages_that_do_not_go_together_are_refused() {
        for (text, reason) in [
            ("dwt block=8 table=jpeg | minmax | none", "predecessor=true"),
            ("dwt block=8 table=jpeg | uniform | none", "predecessor=true"),
            ("dwt block=9 | minmax predecessor=true | none", "odd"),
            ("dwt block=8 wavelet=db2 | minmax predecessor=true | none", "haar"),
            ("dwt block=8 levels=2 | minmax predecessor=true | none", "levels=1"),
            ("dwt block=8 | minmax details=2 predecessor=true | none", "details=1"),
            ("dct block=8 | minmax bits=8 predecessor=true | none", "7 bits"),
            ("none | minmax predecessor=true | none", "dct"),
            ("dwt block=8 | minmax importance=post4 | none", "dct"),
            ("top share=0.1 | minmax bits=4:0.5,2:0.5 | none", "blocks"),
            ("none | minmax bits=0 | none", "blocks"),
        ] {
            let error = text.parse::<Plan>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}: {error}");
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn sums_hold_for_every_magnitude() {
        for scale in [1e-42f32, 1e-25, 1e-3, 1.0, 1e25, 1e35] {
            let values = |seed: usize| -> Vec<f32> {
                (0..1300).map(|i| ((i * seed + 7) % 83) as f32 * scale - 40.0 * scale).collect()
            };
            let (delta, restored) = (values(31), values(17));
            let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                delta.iter().zip(&restored).map(|(&d, &r)| f(f64::from(d), f64::from(r))).sum()
            };
            let found = Moments::of(Rescale::Unbiased, &delta, &restored);
            let magnitudes = Moments::of(Rescale::MeanAbs, &delta, &restored);
            for (found, expected) in [
                (found.dd, sum(&|d, _| d * d)),
                (found.dr, sum(&|d, r| d * r)),
                (magnitudes.abs_d, sum(&|d, _| d.abs())),
                (magnitudes.abs_r, sum(&|_, r| r.abs())),
            ] {
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs(),
                    "{scale:e}: {found:e} {expected:e}"
                );
            }
        }
        assert!(!energy(&[1.0, f32::NAN]).is_finite());
        assert!(!energy(&[1.0, f32::INFINITY]).is_finite());
    }

    #[test]
    fn the_text_form_is_the_plan() {
        for text in [
            "dct block=16 table=jpeg | minmax bits=2:0.5,0:0.5 importance=post4 details=1 | unbiased",
            "dwt block=8 wavelet=haar levels=1 keep=ll_lh_hl table=jpeg \
             | minmax bits=4:0.34,2:0.33,0:0.33 importance=pre details=1 predecessor=true | mean-abs",
            "none | uniform step=0.25 | none",
        ] {
            assert_eq!(text.parse::<Plan>().unwrap().to_string(), text);
        }
    }
}
