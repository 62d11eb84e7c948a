//! The delta of one tensor to payload bytes and back, matrix by matrix: the stages in order, one line each.
//!
//! Both directions run chunk by chunk, in parallel; the bytes do not depend on the number of threads.

mod levels;
mod payload;
#[cfg(test)]
mod predecessor_tests;

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;

use rayon::prelude::*;

use self::levels::{Coding, Levels};
use self::payload::{Packed, Payload};
pub(crate) use self::payload::{check, describe};
use crate::delta;
use crate::error::Result;
use crate::plan::{Moments, Plan, Rescale, energy};
use crate::quantize::{Importance, Quantizer};
use crate::tensor::{Dtype, Matrices, coded_size};
use crate::transform::{Blocks, Chunk, Fitted, Grid, Memory, Source};
use crate::wire::Writer;

/// The elements of a base and a fine-tuned tensor of the same shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) base: (Dtype, &'a [u8]),
    pub(crate) finetuned: (Dtype, &'a [u8]),
    pub(crate) matrices: Matrices,
    /// What may be known of the deltas already, and the tensor's name.
    pub(crate) memory: Option<(&'a Memory, &'a str)>,
}

/// A coded delta.
pub(crate) struct Coded {
    pub(crate) payload: Vec<u8>,
    /// Sum of squares of the delta.
    pub(crate) energy: f64,
    /// Sum of squares of what a reader's result is off by.
    pub(crate) error: f64,
}

/// The payload of the delta of `pair`, coded as `plan` says; `None` if some difference is not finite, or too
/// large for a transform in `f32`.
///
/// What a reader will reconstruct, in `dtype`, goes to `sink`. Both element types must be coded ones (checked by the
/// caller), so that taking differences cannot fail.
pub(crate) fn encode_tensor(
    pair: &Pair<'_>,
    plan: &Plan,
    dtype: Dtype,
    sink: &mut Sink<'_>,
) -> Result<Option<Coded>> {
    /// Weights of the matrices that are coded side by side, at most, but for a single one.
    const TOGETHER: usize = 1 << 23;
    let Matrices { count, rows, cols } = pair.matrices;
    let encode = |i: usize, sink: &mut Sink<'_>| {
        let (base, finetuned) = (matrix(pair.base, rows * cols, i), matrix(pair.finetuned, rows * cols, i));
        let memory = pair.memory.map(|(memory, name)| (memory, name, i));
        let pair = MatrixPair { base, finetuned, rows, cols, memory };
        encode_matrix(&pair, &plan.for_own(i as u64), dtype, sink)
    };
    if count == 1 {
        return encode(0, sink);
    }
    let encode_to_memory = |i: usize| {
        let mut result = Vec::new();
        let coded = encode(i, &mut |bytes| {
            result.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(coded.map(|coded| (coded, result)))
    };
    let (mut payload, mut energy, mut error) = (Writer::default(), 0.0, 0.0);
    let batch = (TOGETHER / (rows * cols).max(1)).max(1);
    for first in (0..count).step_by(batch) {
        let matrices = (first..count.min(first + batch)).into_par_iter();
        for coded in matrices.map(encode_to_memory).collect::<Result<Vec<_>>>()? {
            let Some((coded, result)) = coded else { return Ok(None) };
            sink(&result)?;
            payload.bytes(&coded.payload);
            (energy, error) = (energy + coded.energy, error + coded.error);
        }
    }
    Ok(Some(Coded { payload: payload.0, energy, error }))
}

/// One matrix of a [`Pair`].
struct MatrixPair<'a> {
    base: (Dtype, &'a [u8]),
    finetuned: (Dtype, &'a [u8]),
    rows: usize,
    cols: usize,
    /// The last is the number of the matrix.
    memory: Option<(&'a Memory, &'a str, usize)>,
}

/// Matrix `i` of those of `len` weights each.
fn matrix((dtype, bytes): (Dtype, &[u8]), len: usize, i: usize) -> (Dtype, &[u8]) {
    let len = len * coded_size(dtype);
    (dtype, bytes.get(i * len..(i + 1) * len).unwrap_or_default())
}

/// [`encode_tensor`] of one matrix.
fn encode_matrix(
    pair: &MatrixPair<'_>,
    plan: &Plan,
    dtype: Dtype,
    sink: &mut Sink<'_>,
) -> Result<Option<Coded>> {
    let grid = Grid::new(pair.rows, pair.cols, plan.transform.block());
    let source = |chunk: &Chunk, out: &mut Vec<f32>| pair.diff(chunk, out);
    let Some(survey) = Survey::take(&grid, plan, &source) else { return Ok(None) };
    let transform =
        plan.transform.fit(&grid, survey.rms(), &|| pair.base_rms(&grid), &source, pair.memory)?;
    let classes = survey.classes(&grid, &transform, &plan.quantizer, &source)?;
    let mut coding = Coding::new(grid, transform, plan.quantizer.clone(), classes, survey.rms());

    let rescale = if coding.keeps_means_alone() { Rescale::None } else { plan.rescale };
    let quantize = |coding: &Coding, chunk: &Chunk, scratch: &mut Scratch| -> Result<(Packed, Moments)> {
        source(chunk, &mut scratch.delta);
        coding.quantize(&scratch.delta, chunk, &mut scratch.coeffs, &mut scratch.levels);
        let moments = coding.moments(rescale, chunk, survey.energy(chunk), scratch)?;
        Ok((Packed::new(coding, &mut scratch.levels), moments))
    };
    let mut measured = None;
    let coded: Vec<_> = if rescale == Rescale::None && !coding.is_refined() {
        // The result does not wait for the last chunk: each is restored while it is in the cache.
        let coded: Vec<_> = (0..coding.grid.chunks()).map(|_| OnceLock::new()).collect();
        let levels_of = |i: usize, chunk: &Chunk, scratch: &mut Scratch| {
            let quantized = quantize(&coding, chunk, scratch)?;
            coded[i].get_or_init(|| quantized);
            Ok(())
        };
        measured = Some(restore(&coding, 1.0, &levels_of, pair.base, dtype, Some(pair.finetuned), sink)?);
        coded.into_iter().filter_map(OnceLock::into_inner).collect()
    } else {
        let coded = in_chunks(&coding.grid, |chunk, scratch| quantize(&coding, chunk, scratch));
        coded.into_iter().collect::<Result<_>>()?
    };
    let (packed, moments): (Vec<Packed>, Vec<Moments>) = coded.into_iter().unzip();
    coding.refine(packed.iter().map(|packed| packed.fit));
    let moments = moments.into_iter().fold(Moments::default(), Moments::plus);
    if !moments.dd.is_finite() || !moments.dr.is_finite() || !moments.abs_r.is_finite() {
        return Ok(None);
    }
    let factor = rescale.factor(&moments);
    let levels_of = |i: usize, chunk: &Chunk, scratch: &mut Scratch| {
        packed[i].unpack(&coding, chunk, &mut scratch.levels)
    };
    let error = match measured {
        Some(error) => error,
        None => restore(&coding, factor, &levels_of, pair.base, dtype, Some(pair.finetuned), sink)?,
    };
    let payload = payload::write(&coding, factor, &packed)?;
    Ok(Some(Coded { payload, energy: moments.dd, error }))
}

/// Feeds `base` plus the delta of `payload`, in `dtype`, to `sink`.
///
/// Takes memory in proportion to a matrix: `base` has to have as many weights as all of them.
pub(crate) fn decode_tensor(
    payload: &[u8],
    matrices: Matrices,
    base: (Dtype, &[u8]),
    dtype: Dtype,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let Matrices { rows, cols, .. } = matrices;
    for (i, payload) in payload::split(payload, matrices)?.into_iter().enumerate() {
        let payload = Payload::read(payload, rows, cols)?;
        let levels_of =
            |i: usize, chunk: &Chunk, scratch: &mut Scratch| payload.levels(i, chunk, &mut scratch.levels);
        let base = matrix(base, rows * cols, i);
        restore(&payload.coding, payload.factor, &levels_of, base, dtype, None, sink)?;
    }
    Ok(())
}

/// Sum of squares of the difference of two pieces of the same number of elements. Errors as for [`delta::diff`].
pub(crate) fn distance(a: (Dtype, &[u8]), b: (Dtype, &[u8])) -> Result<f64> {
    // So few that they stay in the nearest cache.
    const PIECE: usize = 1 << 10;
    let mut difference = [0.0; PIECE];
    let mut sum = 0.0;
    for (x, y) in a.1.chunks(PIECE * coded_size(a.0)).zip(b.1.chunks(PIECE * coded_size(b.0))) {
        let difference = &mut difference[..x.len() / coded_size(a.0)];
        delta::diff((a.0, x), (b.0, y), difference)?;
        sum += energy(difference);
    }
    Ok(sum)
}

/// Receives the bytes of a tensor, in order.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Fetches the levels of a chunk of that number.
type LevelsOf<'a> = dyn Fn(usize, &Chunk, &mut Scratch) -> Result<()> + Sync + 'a;

/// Feeds base + factor * reconstruction to `sink`, some chunks at a time; gives the sum of squares of what that is off
/// by from `truth`.
fn restore(
    coding: &Coding,
    factor: f32,
    levels_of: &LevelsOf<'_>,
    base: (Dtype, &[u8]),
    dtype: Dtype,
    truth: Option<(Dtype, &[u8])>,
    sink: &mut Sink<'_>,
) -> Result<f64> {
    thread_local!(static BUFFER: Cell<Vec<u8>> = Cell::default());
    // One a thread, so that they are still in the cache when the sink gets them.
    let batch = rayon::current_num_threads();
    let mut sum = 0.0;
    let mut buffer = BUFFER.take();
    for first in (0..coding.grid.chunks()).step_by(batch) {
        let numbers = first..coding.grid.chunks().min(first + batch);
        let chunks: Vec<_> = numbers.map(|i| (i, coding.grid.chunk(i))).collect();
        buffer.resize(chunks.iter().map(|(_, chunk)| chunk.len() * coded_size(dtype)).sum(), 0);
        let mut rest = buffer.as_mut_slice();
        let mut work = Vec::with_capacity(chunks.len());
        for (i, chunk) in chunks {
            let (out, tail) = rest.split_at_mut(chunk.len() * coded_size(dtype));
            rest = tail;
            work.push((i, chunk, out));
        }
        let measured = work.into_par_iter().map(|(i, chunk, out)| {
            with_scratch(|scratch| {
                levels_of(i, &chunk, scratch)?;
                let Scratch { delta: restored, coeffs, levels, .. } = scratch;
                coding.dequantize(levels, &chunk, coeffs, restored)?;
                delta::apply(part(base, &chunk), restored, factor, dtype, out)?;
                truth.map_or(Ok(0.0), |truth| distance((dtype, out), part(truth, &chunk)))
            })
        });
        // In the order of the chunks, so that it does not depend on the threads.
        sum = measured.collect::<Result<Vec<f64>>>()?.iter().fold(sum, |sum, next| sum + next);
        sink(&buffer)?;
    }
    BUFFER.set(buffer);
    Ok(sum)
}

/// Buffers that a thread uses for one chunk after another: fresh memory costs more than most of the stages.
#[derive(Debug, Default)]
struct Scratch {
    delta: Vec<f32>,
    restored: Vec<f32>,
    coeffs: Vec<f32>,
    levels: Levels,
}

fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => f(&mut scratch),
        Err(_) => f(&mut Scratch::default()),
    })
}

/// Runs `f` over all chunks in parallel; results in chunk order.
fn in_chunks<T: Send>(grid: &Grid, f: impl Fn(&Chunk, &mut Scratch) -> T + Sync + Send) -> Vec<T> {
    let chunks = (0..grid.chunks()).into_par_iter();
    chunks.map(|i| with_scratch(|scratch| f(&grid.chunk(i), scratch))).collect()
}

impl MatrixPair<'_> {
    /// Root mean square of the base in some chunks from all over the matrix.
    fn base_rms(&self, grid: &Grid) -> f32 {
        let (mut sum, mut count) = (0.0, 0);
        for chunk in grid.sample() {
            let base = part(self.base, &chunk);
            let zeros = vec![0; base.1.len()];
            sum += distance((base.0, &zeros), base).unwrap_or(f64::NAN);
            count += chunk.len();
        }
        (sum / count.max(1) as f64).sqrt() as f32
    }

    /// The delta of `chunk`; NaN if the elements cannot be read as numbers.
    fn diff(&self, chunk: &Chunk, out: &mut Vec<f32>) {
        out.resize(chunk.len(), 0.0);
        let (base, tuned) = (part(self.base, chunk), part(self.finetuned, chunk));
        if delta::diff(base, tuned, out).is_err() {
            out.fill(f32::NAN);
        }
    }
}

/// The elements of `chunk`.
fn part<'a>((dtype, bytes): (Dtype, &'a [u8]), chunk: &Chunk) -> (Dtype, &'a [u8]) {
    (dtype, bytes.get(chunk.bytes(coded_size(dtype))).unwrap_or_default())
}

/// What is known of a delta before it is coded: the energy (sum of squares) of each block.
struct Survey {
    energies: Vec<f64>,
    weights: usize,
}

impl Survey {
    /// Looks through the delta if the plan needs it; `None` if some difference is not finite.
    fn take(grid: &Grid, plan: &Plan, source: &Source<'_>) -> Option<Self> {
        let weights = grid.rows * grid.cols;
        if !plan.needs_survey() {
            return Some(Self { energies: Vec::new(), weights });
        }
        let energies = in_chunks(grid, |chunk, Scratch { delta, .. }| {
            source(chunk, delta);
            match plan.transform.block() {
                Some(side) => Blocks::new(chunk, side).energies(delta, chunk.blocks.len()),
                None => vec![energy(delta)],
            }
        });
        let survey = Self { energies: energies.concat(), weights };
        survey.total().is_finite().then_some(survey)
    }

    /// That of the blocks of `chunk`, if it was looked for.
    fn energy(&self, chunk: &Chunk) -> Option<f64> {
        Some(self.energies.get(chunk.blocks.clone())?.iter().sum())
    }

    fn total(&self) -> f64 {
        self.energies.iter().sum()
    }

    /// Root mean square of the delta.
    fn rms(&self) -> f32 {
        (self.total() / self.weights.max(1) as f64).sqrt() as f32
    }

    /// The class of every block; `classes` of a strategy with a single class are left empty.
    fn classes(
        &self,
        grid: &Grid,
        transform: &Fitted,
        quantizer: &Quantizer,
        source: &Source<'_>,
    ) -> Result<Vec<u8>> {
        let Quantizer::MinMax(min_max) = quantizer else { return Ok(Vec::new()) };
        let dropped = min_max.bits.classes().len() as u8;
        if dropped == 1 {
            return Ok(Vec::new());
        }
        let post: Vec<f64>;
        let scores = match min_max.importance {
            Importance::Pre => &self.energies,
            Importance::Post(corner) => {
                let energies = in_chunks(grid, |chunk, Scratch { delta, .. }| {
                    source(chunk, delta);
                    transform.corner_energies(delta, chunk, usize::from(corner))
                });
                post = energies.into_iter().collect::<Result<Vec<_>>>()?.concat();
                &post
            }
        };
        let classes = min_max.bits.allocate(scores, min_max.predecessor);
        Ok(classes.into_iter().map(|class| class.unwrap_or(dropped)).collect())
    }
}
