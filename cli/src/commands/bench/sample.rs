//! What is measured: tensors of a real pair, or synthetic ones, in memory.

use std::collections::BTreeMap;

use clap::ValueEnum;
use delta_dct::{Checkpoint, Dtype, Error, Link, Relation, Result, TensorInfo, pair};
use half::{bf16, f16};
use rayon::prelude::*;

/// Standard deviation of synthetic base weights, and of their deltas: 2% of it, as in full fine-tunes.
const BASE_STD: f32 = 0.02;
const DELTA_STD: f32 = 0.0004;

/// A tensor of base and fine-tuned model.
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    pub(super) base: Vec<u8>,
    pub(super) finetuned: Vec<u8>,
}

/// Types of weights that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    Bf16,
}

impl Element {
    fn of(dtype: Dtype) -> Option<Self> {
        Self::value_variants().iter().copied().find(|element| element.dtype() == dtype)
    }

    /// The library's name for it.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::F64 => Dtype::F64,
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Bytes of a weight.
    pub(super) fn size(self) -> usize {
        self.dtype().bitsize() / 8
    }

    /// Values of little-endian `bytes`.
    fn widen(self, bytes: &[u8]) -> Vec<f64> {
        fn map<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect()
        }
        match self {
            Self::F64 => map(bytes, f64::from_le_bytes),
            Self::F32 => map(bytes, |b| f32::from_le_bytes(b).into()),
            Self::F16 => map(bytes, |b| f16::from_le_bytes(b).into()),
            Self::Bf16 => map(bytes, |b| bf16::from_le_bytes(b).into()),
        }
    }

    /// Little-endian bytes of `values`.
    fn narrow(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F64 => values.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect(),
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        }
    }
}

impl Sample {
    /// Elements of the tensor.
    pub(super) fn weights(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// `||result - finetuned||^2` and `||finetuned - base||^2`.
    pub(super) fn squares(&self, result: &[u8]) -> (f64, f64) {
        // In pieces, because widened weights take several times their memory.
        const PIECE: usize = 1 << 16;
        let mut sums = (0.0, 0.0);
        let pieces = self.base.chunks(PIECE).zip(self.finetuned.chunks(PIECE)).zip(result.chunks(PIECE));
        for ((base, finetuned), result) in pieces {
            let [base, finetuned, result] = [base, finetuned, result].map(|bytes| self.element.widen(bytes));
            for ((b, f), r) in base.iter().zip(&finetuned).zip(&result) {
                sums.0 += (r - f) * (r - f);
                sums.1 += (f - b) * (f - b);
            }
        }
        sums
    }
}

/// Copies of the tensors with two or more dimensions that correspond, in the same shape and dtype. Errors:
/// InvalidArgument if there are none. They are rounded to the type `cast`, if there is one.
pub(super) fn of_pair(
    base: &Checkpoint,
    finetuned: &Checkpoint,
    cast: Option<Element>,
) -> Result<Vec<Sample>> {
    let sample = |link: &Link| {
        let Relation::Same { base: name } = &link.relation else { return None };
        let (old, new) = (base.get(name)?, finetuned.get(&link.name)?);
        let fits = old.dtype == new.dtype && new.shape.len() >= 2 && !new.is_empty();
        let own = Element::of(new.dtype)?;
        let element = cast.unwrap_or(own);
        let rounded = |bytes: &[u8]| match element == own {
            true => bytes.to_vec(),
            false => element.narrow(&own.widen(bytes).iter().map(|&x| x as f32).collect::<Vec<_>>()),
        };
        fits.then(|| Sample {
            name: link.name.clone(),
            element,
            shape: new.shape.to_vec(),
            base: rounded(old.bytes),
            finetuned: rounded(new.bytes),
        })
    };
    let samples: Vec<Sample> =
        pair(&infos(base), &infos(finetuned)).links.iter().filter_map(sample).collect();
    if samples.is_empty() {
        return Err(Error::invalid(
            "no matrix of one model corresponds to one of the other in shape and type",
        ));
    }
    Ok(samples)
}

/// Dtype and shape of every tensor.
fn infos(checkpoint: &Checkpoint) -> BTreeMap<String, TensorInfo> {
    let info = |name: &str| {
        let view = checkpoint.get(name)?;
        Some((name.to_owned(), TensorInfo { dtype: view.dtype, shape: view.shape.to_vec() }))
    };
    checkpoint.names().filter_map(info).collect()
}

/// `count` Gaussian matrices of `shape` with Gaussian deltas, the same ones every time. Errors: InvalidArgument if
/// there is not enough memory.
pub(super) fn synthetic(shape: [usize; 2], element: Element, count: usize) -> Result<Vec<Sample>> {
    let weights = shape[0] * shape[1];
    (0..count as u64)
        .into_par_iter()
        .map(|i| {
            let mut values = Vec::<f32>::new();
            values.try_reserve_exact(weights).map_err(|e| Error::invalid(format!("--rows, --cols: {e}")))?;
            let mut random = Gaussian::new(i);
            values.extend((0..weights).map(|_| BASE_STD * random.next()));
            let base = element.narrow(&values);
            values.iter_mut().for_each(|value| *value += DELTA_STD * random.next());
            let finetuned = element.narrow(&values);
            Ok(Sample {
                name: format!("synthetic.{i}.weight"),
                element,
                shape: shape.to_vec(),
                base,
                finetuned,
            })
        })
        .collect()
}

/// Normal deviates by the polar method, from SplitMix64.
struct Gaussian {
    state: u64,
    spare: Option<f32>,
}

impl Gaussian {
    fn new(seed: u64) -> Self {
        Self { state: seed, spare: None }
    }

    /// Uniform in (-1, 1).
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn next(&mut self) -> f32 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        loop {
            let (x, y) = (self.uniform(), self.uniform());
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviates_have_mean_0_and_variance_1() {
        let mut random = Gaussian::new(7);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(random.next())).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn every_type_keeps_what_it_can_hold() {
        for element in Element::value_variants() {
            assert_eq!(element.widen(&element.narrow(&[0.5, -2.0])), [0.5, -2.0], "{element:?}");
        }
    }
}
