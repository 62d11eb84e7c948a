//! Method `auto`: the delta D (rows x cols) as coarse singular factors, and, where the rate allows, a rotated rest.
//!
//! ```text
//! D'[i, j] = c[0] a[0, i] * b[0, j] + c[1] a[1, i] * b[1, j] + ...       (from left to right, no fused multiply-add)
//! ```
//!
//! in `f32`, with small integers a (rank x rows) and b (rank x cols), mostly -1, 0 and 1, and a gain c[k]; the product
//! `c[k] a[k, i]` is rounded first. For the singular triple s, u, v of D, a and b are s u and s v in units of one step,
//! so that strong components get fine levels, and weak ones none at all.
//!
//! Levels that coarse shrink each component. Its gain gives it back its full projection on D, `c = s / (<u, a> <v, b>)`:
//! a model feels a direction that is missing far more than noise in all of them. Where too little of a component is
//! left (the squared cosine with its levels is small) the noise would outweigh it, and it is dropped.
//!
//! Wire form: rank (varint), gains (f32 each), then a byte length and an adaptive stream (`entropy/adaptive.rs`) with
//! the levels: for every component those of a, then those of b. The context of a level is `4 t + n`, t = 0 for a and 1
//! for b, n = how many of the three components before have a level other than 0 at the same place (0 to 3).

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::low_rank::expand_rows;
use super::subspace::Source;
use crate::entropy::adaptive::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// Magnitudes below this part of a step become 0.
const ZONE: f32 = 0.45;
/// The least squared cosine between a component and its levels; the second where the rest is coded as well, which then
/// takes over what is dropped.
const MIN_COS2: [f64; 2] = [0.1, 0.4];
/// Levels are cut to this magnitude, so that their products are exact.
const MAX_LEVEL: f32 = 4095.0;
/// Components before that make the context of a level.
const MEMORY: usize = 3;
const CONTEXTS: usize = 2 * (MEMORY + 1);

/// Integer factors with their gains, ready to decode with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Factors {
    rows: usize,
    cols: usize,
    gains: Vec<f32>,
    /// a and b, component-major.
    left: Vec<i16>,
    right: Vec<i16>,
    /// `c[k] a[k, i]`, and b, as they are multiplied.
    coefficients: Vec<f32>,
    basis: Vec<f32>,
}

impl Factors {
    /// Puts D' from row `first_row` on in the place of `delta`.
    pub(crate) fn expand(&self, first_row: usize, delta: &mut [f32]) {
        let coefficients = self.coefficients.get(first_row..).unwrap_or_default();
        expand_rows(&self.basis, self.cols, coefficients, self.rows, delta);
    }

    /// Number of components.
    pub(crate) fn rank(&self) -> usize {
        self.gains.len()
    }

    fn new(rows: usize, cols: usize, gains: Vec<f32>, left: Vec<i16>, right: Vec<i16>) -> Self {
        let component = left.chunks_exact(rows.max(1)).zip(&gains);
        let coefficients =
            component.flat_map(|(a, &gain)| a.iter().map(move |&a| gain * f32::from(a))).collect();
        let basis = right.iter().map(|&b| f32::from(b)).collect();
        Self { rows, cols, gains, left, right, coefficients, basis }
    }

    /// Appends the wire form.
    pub(crate) fn write(&self, out: &mut Writer) {
        out.varint(self.gains.len() as u64);
        self.gains.iter().for_each(|&gain| out.f32(gain));
        let mut encoder = Encoder::new(CONTEXTS);
        for k in 0..self.rank() {
            for (side, (levels, n)) in
                [(&self.left, self.rows), (&self.right, self.cols)].into_iter().enumerate()
            {
                for i in 0..n {
                    encoder.put(context(side, levels, n, k, i), levels[k * n + i].into());
                }
            }
        }
        out.bytes(&encoder.finish());
    }

    /// Inverse of [`Self::write`]. Errors: Limit above `limit` levels, Corrupt, Truncated.
    pub(crate) fn read(input: &mut Reader<'_>, rows: usize, cols: usize, limit: usize) -> Result<Self> {
        let rank = input.varint_to(rows.min(cols) as u64, "number of components")?;
        let count = rank.saturating_mul(rows.saturating_add(cols));
        if count > limit {
            return Err(Error::limit(format!("factors of {count} numbers")));
        }
        let gains = (0..rank).map(|_| input.f32("gain of a component")).collect::<Result<Vec<_>>>()?;
        if let Some(gain) = gains.iter().find(|gain| !gain.is_finite()) {
            return Err(Error::corrupt(format!("a gain of {gain}")));
        }
        let mut decoder = Decoder::new(input.bytes("levels of the factors")?, CONTEXTS);
        let (mut left, mut right) = (Vec::with_capacity(rank * rows), Vec::with_capacity(rank * cols));
        for k in 0..rank {
            for (side, (levels, n)) in [(&mut left, rows), (&mut right, cols)].into_iter().enumerate() {
                for i in 0..n {
                    let level = decoder.take(context(side, levels, n, k, i))?;
                    let level =
                        i16::try_from(level).ok().filter(|level| f32::from(*level).abs() <= MAX_LEVEL);
                    levels.push(level.ok_or_else(|| Error::corrupt("a level of a factor is too large"))?);
                }
            }
        }
        if !decoder.is_used_up() {
            return Err(Error::corrupt("bytes left over behind the levels of the factors"));
        }
        Ok(Self::new(rows, cols, gains, left, right))
    }
}

/// The context of level `i` of component `k`, given all before it.
#[inline(always)]
fn context(side: usize, levels: &[i16], n: usize, k: usize, i: usize) -> usize {
    let before = (1..=MEMORY.min(k)).filter(|back| levels[(k - back) * n + i] != 0).count();
    side * (MEMORY + 1) + before
}

/// How a delta becomes factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    /// The unit of s u and s v, absolute.
    pub(crate) step: f32,
    /// No more components than this.
    pub(crate) rank: usize,
    /// Whether the rest is coded as well.
    pub(crate) rest: bool,
}

impl Fit {
    /// The factors of the matrix that `source` gives in chunks, all finite. Does not depend on the number of threads.
    pub(crate) fn run(self, source: &Source<'_>) -> Factors {
        let (len, largest) = source.survey();
        let cols = source.cols;
        let rows = len.checked_div(cols).unwrap_or(0);
        if largest == 0.0 || rows == 0 {
            return Factors::new(rows, cols, Vec::new(), Vec::new(), Vec::new());
        }
        let scale = 1.0 / largest.max(f32::MIN_POSITIVE);
        let directions = source.leading_directions(self.rank, rows, scale);
        let (mut gains, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
        for (v, image) in directions.iter().zip(images(source, &directions, rows)) {
            if let Some((gain, a, b)) = self.component(&image, v) {
                gains.push(gain);
                left.extend(a);
                right.extend(b);
            }
        }
        Factors::new(rows, cols, gains, left, right)
    }

    /// Gain and levels of the component with the right singular vector `v` and its `image` D v = s u; none where too
    /// little is left of it.
    fn component(self, image: &[f32], v: &[f32]) -> Option<(f32, Vec<i16>, Vec<i16>)> {
        let s = energy(image).sqrt();
        let quantize = |x: f32| {
            let level = (x.abs() / self.step + 1.0 - ZONE).floor().min(MAX_LEVEL);
            (if x < 0.0 { -level } else { level }) as i16
        };
        let a: Vec<i16> = image.iter().map(|&x| quantize(x)).collect();
        let b: Vec<i16> = v.iter().map(|&x| quantize(x * s as f32)).collect();
        let along = |x: &[f32], levels: &[i16]| -> f64 {
            x.iter().zip(levels).map(|(&x, &level)| f64::from(x) * f64::from(level)).sum()
        };
        let size = |levels: &[i16]| levels.iter().map(|&level| f64::from(level).powi(2)).sum::<f64>();
        let (ua, vb) = (along(image, &a) / s, along(v, &b));
        let cos2 = (ua * ua / size(&a)) * (vb * vb / size(&b));
        let gain = (s / (ua * vb)) as f32;
        // Not a number where all levels of a side are 0.
        (cos2 >= MIN_COS2[usize::from(self.rest)] && gain.is_finite()).then_some((gain, a, b))
    }
}

fn energy(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// `D v` of each direction.
fn images(source: &Source<'_>, directions: &[Vec<f32>], rows: usize) -> Vec<Vec<f32>> {
    let (cols, rank) = (source.cols, directions.len());
    let v = DMatrix::from_iterator(cols, rank, directions.iter().flatten().copied());
    let chunk = |i: usize| {
        let mut rows = Vec::new();
        (source.chunk)(i, &mut rows);
        // A view of whole rows is D^T, column by column.
        DMatrixView::from_slice(&rows, cols, rows.len() / cols.max(1)).tr_mul(&v)
    };
    let parts: Vec<DMatrix<f32>> = (0..source.chunk_count).into_par_iter().map(chunk).collect();
    let image = |k: usize| {
        let mut image = Vec::with_capacity(rows);
        parts.iter().for_each(|part| image.extend(part.column(k).iter()));
        image
    };
    (0..rank).map(image).collect()
}
