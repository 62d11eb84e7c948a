//! How the words of a tensor are encoded.

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::contexts::Contexts;
use super::survey::Survey;
use super::words::{ESCAPE, Layout};
use super::{BATCH, WHAT, pieces, predict};
use crate::entropy::tans;
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::wire::Writer;

/// What encodes the words of a tensor.
pub(super) struct Encoder {
    pub(super) layout: Layout,
    contexts: Contexts,
    /// 256 times the context of each exponent.
    of: Vec<u16>,
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
        let mut contexts = Contexts::widest(&survey.exponents);
        let mut counts = count::<N>(layout, &contexts, (base.0, target.0), &runs)?;
        contexts.merge(&mut counts);
        for counts in &mut counts {
            let few = |counts: &[u64; 256]| counts.iter().filter(|&&n| n > 0).count() < 2;
            // What the sample does not have. Also, tables are of two symbols or more.
            counts[usize::from(ESCAPE)] += u64::from(step > 1 || few(counts));
            counts[0] += u64::from(few(counts));
        }
        let meanings = layout.meanings(N);
        let extra = |symbol| meanings[usize::from(symbol)].len;
        let models = tans::Encoder::fit(counts.iter(), ESCAPE, extra);
        let of = contexts.spread().into_iter().map(|context| u16::from(context) << 8).collect();
        Ok(Self { layout, contexts, of, models })
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(self.layout.dropped as u8);
        self.contexts.write(out);
        self.models.write(out);
    }

    /// 256 times the context, and the symbol, of some words; `symbols` is memory to work in.
    #[inline(always)]
    pub(super) fn turns<const N: usize>(
        &self,
        prediction: &[[u8; N]],
        words: &[[u8; N]],
        symbols: &mut [u8],
        turns: &mut [u16],
    ) {
        let (layout, of) = (self.layout, &self.of[..]);
        Symbols { layout, prediction, words, symbols: &mut *symbols }.call();
        for ((turn, &p), &symbol) in turns.iter_mut().zip(prediction).zip(&*symbols) {
            *turn = of[layout.exponent(p)] | u16::from(symbol);
        }
    }
}

/// How often each symbol occurs in each context in some runs of words, each with what predicts them; `dtypes` are those of both.
fn count<const N: usize>(
    layout: Layout,
    contexts: &Contexts,
    dtypes: (Dtype, Dtype),
    runs: &[(&[u8], &[u8])],
) -> Result<Vec<[u64; 256]>> {
    let of = contexts.spread();
    let none = || vec![[0; 256]; contexts.firsts.len()];
    let add = |mut counts: Vec<[u32; 256]>, (predicting, words): &(&[u8], &[u8])| {
        let prediction = predict((dtypes.0, predicting), dtypes.1)?;
        let (prediction, words) = (prediction.as_chunks::<N>().0, words.as_chunks().0);
        let mut symbols = [0; BATCH];
        pulp::Arch::new().dispatch(Symbols { layout, prediction, words, symbols: &mut symbols });
        for (&p, symbol) in prediction.iter().zip(symbols) {
            counts[usize::from(of[layout.exponent(p)])][usize::from(symbol)] += 1;
        }
        Ok(counts)
    };
    let counts: Result<Vec<[u32; 256]>> =
        runs.par_iter().with_min_len(16).try_fold(none, add).try_reduce(none, |mut a, b| {
            a.as_flattened_mut().iter_mut().zip(b.as_flattened()).for_each(|(a, b)| *a += b);
            Ok(a)
        });
    Ok(counts?.iter().map(|counts| counts.map(u64::from)).collect())
}

/// The symbols of some words, compiled for the vector instruction set.
struct Symbols<'a, const N: usize> {
    layout: Layout,
    prediction: &'a [[u8; N]],
    words: &'a [[u8; N]],
    symbols: &'a mut [u8],
}

impl<const N: usize> NullaryFnOnce for Symbols<'_, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((symbol, &p), &y) in self.symbols.iter_mut().zip(self.prediction).zip(self.words) {
            *symbol = self.layout.symbol(p, y);
        }
    }
}
