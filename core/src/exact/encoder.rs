//! How the words of a tensor are encoded.

use rayon::prelude::*;

use super::contexts::Contexts;
use super::survey::Survey;
use super::words::{ESCAPE, Layout, Meaning};
use super::{BATCH, WHAT, bits, pieces, predict};
use crate::entropy::mixed;
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::wire::Writer;

/// What encodes the words of a tensor.
pub(super) struct Encoder {
    layout: Layout,
    contexts: Contexts,
    /// 256 times the context of each exponent.
    of: Vec<u16>,
    models: mixed::Encoder,
    /// Of 256 times a context and a symbol the same with a symbol that can be encoded in this context.
    turns: Vec<u16>,
    meanings: [Meaning; 256],
}

/// Memory to encode in.
#[derive(Default)]
pub(super) struct Scratch {
    /// 256 times the context, and the symbol, of each word.
    turns: Vec<u16>,
    words: Vec<[u8; 4]>,
    stream: Vec<u8>,
    extra: Vec<u8>,
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
        let models = mixed::Encoder::fit(counts.iter());
        let of = contexts.spread().into_iter().map(|context| u16::from(context) << 8).collect();
        let known = |turn: u16| if models.knows(turn) { turn } else { turn | u16::from(ESCAPE) };
        let turns = (0..256 * counts.len() as u16).map(known).collect();
        Ok(Self { layout, contexts, of, turns, models, meanings: layout.meanings(N) })
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(self.layout.dropped as u8);
        self.contexts.write(out);
        self.models.write(out);
    }

    /// The streams of one piece.
    pub(super) fn encode<const N: usize>(
        &self,
        prediction: &[[u8; N]],
        words: &[[u8; N]],
        scratch: &mut Scratch,
    ) -> Vec<u8> {
        let Scratch { turns, extra, .. } = scratch;
        turns.resize(words.len(), 0);
        extra.resize(extra.len().max(N * words.len() + 8), 0);
        let mut bits = bits::Writer::new(extra);
        let mut symbols = [0; BATCH];
        let batches = prediction.chunks(BATCH).zip(words.chunks(BATCH)).zip(turns.chunks_mut(BATCH));
        for ((prediction, words), turns) in batches {
            let batch = Batch { encoder: self, prediction, words, symbols: &mut symbols, turns, bits };
            bits = pulp::Arch::new().dispatch(batch);
        }
        let mut out = Writer::default();
        let extra = bits.finish();
        scratch.stream.clear();
        self.models.encode(&scratch.turns, &mut scratch.words, &mut scratch.stream);
        out.bytes(&scratch.stream);
        out.bytes(extra);
        out.0
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

/// The turns and the extra bits of some words, compiled for the vector instruction set.
struct Batch<'a, 'b, const N: usize> {
    encoder: &'a Encoder,
    prediction: &'a [[u8; N]],
    words: &'a [[u8; N]],
    symbols: &'a mut [u8],
    turns: &'a mut [u16],
    bits: bits::Writer<'b>,
}

impl<'b, const N: usize> pulp::NullaryFnOnce for Batch<'_, 'b, N> {
    type Output = bits::Writer<'b>;

    #[inline(always)]
    fn call(self) -> bits::Writer<'b> {
        let Self { encoder, prediction, words, symbols, turns, mut bits } = self;
        let (layout, of, known, meanings) =
            (encoder.layout, &encoder.of[..], &encoder.turns[..], &encoder.meanings);
        Symbols { layout, prediction, words, symbols: &mut *symbols }.call();
        for ((turn, &p), &symbol) in turns.iter_mut().zip(prediction).zip(&*symbols) {
            *turn = known[usize::from(of[layout.exponent(p)] | u16::from(symbol))];
        }
        let extra = |p, y, turn: u16| layout.extra(p, y, meanings[usize::from(turn as u8)]);
        let mut rest = 0;
        if N <= 2 {
            // The extra bits of two words are written at once.
            let (pairs, _) = words.as_chunks::<2>();
            rest = 2 * pairs.len();
            for ((y, p), turn) in
                pairs.iter().zip(prediction.as_chunks::<2>().0).zip(turns.as_chunks::<2>().0)
            {
                let (first, second) = (extra(p[0], y[0], turn[0]), extra(p[1], y[1], turn[1]));
                bits.put(first.0 | second.0 << first.1, first.1 + second.1);
            }
        }
        for ((&y, &p), &turn) in words.iter().zip(prediction).zip(&*turns).skip(rest) {
            let (value, len) = extra(p, y, turn);
            let low = len.min(32);
            bits.put(value & 0xffff_ffff, low);
            if N == 8 {
                bits.put(value >> low, len - low);
            }
        }
        bits
    }
}

/// The symbols of some words, compiled for the vector instruction set.
struct Symbols<'a, const N: usize> {
    layout: Layout,
    prediction: &'a [[u8; N]],
    words: &'a [[u8; N]],
    symbols: &'a mut [u8],
}

impl<const N: usize> pulp::NullaryFnOnce for Symbols<'_, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((symbol, &p), &y) in self.symbols.iter_mut().zip(self.prediction).zip(self.words) {
            *symbol = self.layout.symbol(p, y);
        }
    }
}
