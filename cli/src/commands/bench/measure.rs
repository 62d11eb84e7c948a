//! The measuring itself: recipes over samples, and a memory copy to compare with.

use std::time::Instant;

use delta_dct::{Recipe, Result, TensorView, decode_tensor, encode_tensor};
use rayon::prelude::*;
use serde::Serialize;

use super::bitx;
use super::sample::Sample;
use crate::interrupt;
use crate::units;

/// What one recipe does to the samples.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) method: String,
    pub(super) bytes: u64,
    pub(super) bpw: Option<f64>,
    pub(super) relative_error: f64,
    pub(super) compress_gb_per_s: f64,
    pub(super) compress_to_copy: f64,
    pub(super) apply_gb_per_s: f64,
    pub(super) apply_to_copy: f64,
}

/// What is measured.
#[derive(Clone, Copy)]
pub(super) enum Coder<'a> {
    Recipe(&'a Recipe),
    Bitx,
}

/// Samples, and memory for what is decoded, so that no run pays for fresh pages.
pub(super) struct Bench<'a> {
    samples: &'a [Sample],
    outputs: Vec<Vec<u8>>,
    runs: u32,
    /// GB/s of a memory copy.
    copy: f64,
}

impl<'a> Bench<'a> {
    pub(super) fn new(samples: &'a [Sample], runs: u32) -> Self {
        // Copied and not zeroed: zero pages would not be in memory yet.
        let outputs = samples.iter().map(|sample| sample.finetuned.clone()).collect();
        Self { samples, outputs, runs, copy: f64::NAN }
    }

    /// Bytes of the fine-tuned tensors.
    pub(super) fn bytes(&self) -> u64 {
        self.samples.iter().map(|sample| sample.finetuned.len() as u64).sum()
    }

    /// GB/s of a copy of the fine-tuned tensors by the same threads.
    pub(super) fn memory_copy(&mut self) -> Result<f64> {
        let (bytes, runs, samples) = (self.bytes(), self.runs, self.samples);
        self.copy = speed(bytes, runs, || {
            let pairs = samples.par_iter().zip(&mut self.outputs);
            pairs.for_each(|(sample, output)| output.copy_from_slice(&sample.finetuned));
            Ok(())
        })?;
        Ok(self.copy)
    }

    /// Encodes and decodes every sample by `coder`. Errors: those of the library, Interrupted.
    pub(super) fn measure(&mut self, method: String, coder: Coder<'_>) -> Result<Measured> {
        let (bytes, runs, samples) = (self.bytes(), self.runs, self.samples);
        let mut records = Vec::new();
        let compress = speed(bytes, runs, || {
            records = samples.par_iter().map(|sample| encode(sample, coder)).collect::<Result<Vec<_>>>()?;
            Ok(())
        })?;
        let apply = speed(bytes, runs, || {
            let pairs = samples.par_iter().zip(&records).zip(&mut self.outputs);
            pairs.map(|((sample, record), output)| decode(sample, coder, record, output)).collect()
        })?;
        let weights = samples.iter().map(Sample::weights).sum();
        let size = records.iter().map(|record| record.len() as u64).sum();
        Ok(Measured {
            method,
            bytes: size,
            bpw: units::bits_per_weight(size, weights),
            relative_error: self.relative_error(),
            compress_gb_per_s: compress,
            compress_to_copy: compress / self.copy,
            apply_gb_per_s: apply,
            apply_to_copy: apply / self.copy,
        })
    }

    /// `||result - finetuned||^2 / ||finetuned - base||^2` over all samples; 0 where nothing differs.
    fn relative_error(&self) -> f64 {
        let pairs = self.samples.par_iter().zip(&self.outputs);
        let sums = pairs.map(|(sample, output)| sample.squares(output));
        let (noise, delta) = sums.collect::<Vec<_>>().iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        if noise > 0.0 { noise / delta } else { 0.0 }
    }
}

fn encode(sample: &Sample, coder: Coder<'_>) -> Result<Vec<u8>> {
    let (base, finetuned) = (view(sample, &sample.base), view(sample, &sample.finetuned));
    match coder {
        Coder::Recipe(recipe) => encode_tensor(&sample.name, base, finetuned, recipe),
        Coder::Bitx => bitx::encode(base.bytes, finetuned.bytes, sample.element.size()),
    }
}

fn decode(sample: &Sample, coder: Coder<'_>, record: &[u8], output: &mut [u8]) -> Result<()> {
    match coder {
        Coder::Recipe(_) => decode_tensor(&sample.name, record, Some(view(sample, &sample.base)), output),
        Coder::Bitx => bitx::decode(&sample.base, record, sample.element.size(), output),
    }
}

fn view<'a>(sample: &'a Sample, bytes: &'a [u8]) -> TensorView<'a> {
    TensorView { dtype: sample.element.dtype(), shape: &sample.shape, bytes }
}

/// GB/s at which `work` treats `bytes`: the median of `runs` runs.
fn speed(bytes: u64, runs: u32, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..runs {
        interrupt::check()?;
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    Ok(bytes as f64 / 1e9 / median.max(1e-9))
}
