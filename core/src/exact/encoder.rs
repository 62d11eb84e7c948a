//! How the words of a tensor are encoded.

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::contexts::{Contexts, Rows};
use super::survey::Survey;
use super::words::{ESCAPE, Layout};
use super::{BATCH, WHAT, pieces, predict};
use crate::entropy::tans;
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::wire::Writer;

/// What encodes the words of a tensor.
pub(super) struct Encoder {
    pub(super) turning: Turning,
    contexts: Contexts,
    pub(super) models: tans::Encoder,
}

impl Encoder {
    /// Looks at all words of a small tensor, and at a sample of a large one.
    pub(super) fn fit<const N: usize>(base: (Dtype, &[u8]), target: (Dtype, &[u8])) -> Result<Self> {
        /// At least so many words are looked at, if there are.
        const SAMPLE: usize = 1 << 17;
        let step = (target.1.len() / (SAMPLE * N)).max(1);
        let runs: Vec<_> = pieces::<N>(base, target, BATCH).step_by(step).collect();
        let whole = Layout::of(target.0, 0).ok_or_else(|| Error::limit(WHAT))?;
        let mut survey = Survey::new(whole);
        for (predicting, words) in &runs {
            let prediction = predict((base.0, predicting), target.0)?;
            survey.add(whole, prediction.as_chunks::<N>().0, words.as_chunks().0);
        }
        let layout = Layout::of(target.0, survey.low_zeros(target.0)).ok_or_else(|| Error::limit(WHAT))?;
        let rows = Rows::widest(&survey.exponents);
        let turning = Turning { layout, rows };
        let mut counts = count::<N>(turning, (base.0, target.0), &runs)?;
        let mut contexts = Contexts::each(rows, layout.exponents());
        contexts.merge(&mut counts);
        for counts in &mut counts {
            let few = |counts: &[u64; 256]| counts.iter().filter(|&&n| n > 0).count() < 2;
            // What the sample does not have. Also, tables are of two symbols or more.
            counts[usize::from(ESCAPE)] += u64::from(step > 1 || few(counts));
            counts[0] += u64::from(few(counts));
        }
        let meanings = layout.meanings(N);
        let extra = |symbol| meanings[usize::from(symbol)].len;
        let models = tans::Encoder::fit(counts.iter(), contexts.of_rows(rows), ESCAPE, extra);
        Ok(Self { turning, contexts, models })
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(self.turning.layout.dropped as u8);
        self.contexts.write(out);
        self.models.write(out);
    }
}

/// What makes a turn of a word: 256 times the row of its prediction, and its symbol.
#[derive(Clone, Copy)]
pub(super) struct Turning {
    pub(super) layout: Layout,
    rows: Rows,
}

impl Turning {
    /// The turns of some words.
    #[inline(always)]
    pub(super) fn turns<const N: usize>(self, prediction: &[[u8; N]], words: &[[u8; N]], turns: &mut [u16]) {
        for ((turn, &p), &y) in turns.iter_mut().zip(prediction).zip(words) {
            let row = self.rows.of(self.layout.exponent(p)) as u16;
            *turn = row << 8 | u16::from(self.layout.symbol(p, y));
        }
    }
}

/// How often each symbol occurs in each row in some runs of words, each with what predicts them; `dtypes` are those of both.
fn count<const N: usize>(
    turning: Turning,
    dtypes: (Dtype, Dtype),
    runs: &[(&[u8], &[u8])],
) -> Result<Vec<[u64; 256]>> {
    let none = || vec![[0; 256]; turning.rows.count()];
    let add = |mut counts: Vec<[u32; 256]>, (predicting, words): &(&[u8], &[u8])| {
        let prediction = predict((dtypes.0, predicting), dtypes.1)?;
        let (prediction, words) = (prediction.as_chunks::<N>().0, words.as_chunks().0);
        let mut turns = [0; BATCH];
        pulp::Arch::new().dispatch(Turns { turning, prediction, words, turns: &mut turns });
        let flat = counts.as_flattened_mut();
        turns[..words.len()].iter().for_each(|&turn| flat[usize::from(turn)] += 1);
        Ok(counts)
    };
    let counts: Result<Vec<[u32; 256]>> =
        runs.par_iter().with_min_len(16).try_fold(none, add).try_reduce(none, |mut a, b| {
            a.as_flattened_mut().iter_mut().zip(b.as_flattened()).for_each(|(a, b)| *a += b);
            Ok(a)
        });
    Ok(counts?.iter().map(|counts| counts.map(u64::from)).collect())
}

/// [`Turning::turns`], compiled for the vector instruction set.
struct Turns<'a, const N: usize> {
    turning: Turning,
    prediction: &'a [[u8; N]],
    words: &'a [[u8; N]],
    turns: &'a mut [u16],
}

impl<const N: usize> NullaryFnOnce for Turns<'_, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.turning.turns(self.prediction, self.words, self.turns);
    }
}
