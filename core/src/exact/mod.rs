//! Tensors coded bit for bit against a prediction (FORMAT.md, "Exact residual").
//!
//! Floats of one sign are ordered as their bits are, so that the difference of two bit patterns counts the floats between
//! them (`words.rs`). How far it spreads depends on the exponent of the prediction: runs of exponents are the contexts of
//! the entropy coder. Its leading bits are coded; the bits under those are noise and kept as they are.

mod words;

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use self::words::{Layout, join};
use crate::delta;
use crate::entropy::{BitReader, BitWriter, Model, cost, histogram};
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use crate::wire::{Reader, Writer};

/// Words of a piece.
const PIECE: usize = 1 << 18;
/// Most contexts of a tensor.
const MAX_CONTEXTS: usize = 32;
/// What a context adds to a piece besides its symbols, in bits: the ends of a stream, and its length.
const STREAM_BITS: u64 = 8 * 15;
const WHAT: &str = "an exact residual";

/// How often each symbol occurs, for each exponent of the prediction.
type Counts = Vec<[u64; 256]>;

/// Packs `target`, which `base` predicts: a tensor of as many elements and the same dtype, or both of coded ones.
pub(crate) fn encode(base: (Dtype, &[u8]), target: (Dtype, &[u8])) -> Result<Vec<u8>> {
    let layout = Layout::of(target.0);
    match layout.bytes {
        1 => encode_words::<1>(layout, base, target),
        2 => encode_words::<2>(layout, base, target),
        4 => encode_words::<4>(layout, base, target),
        _ => encode_words::<8>(layout, base, target),
    }
}

/// Unpacks the tensor of `dtype` that `base` predicts (see [`encode`]), piece by piece into `sink`.
///
/// Errors: Corrupt, Truncated, Unsupported.
pub(crate) fn decode(
    packed: &[u8],
    base: (Dtype, &[u8]),
    dtype: Dtype,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut decoder = Decoder::new(packed, base.0, dtype);
    decoder.decode(base.1, sink)?;
    decoder.finish(sink)
}

fn encode_words<const N: usize>(
    layout: Layout,
    base: (Dtype, &[u8]),
    (dtype, target): (Dtype, &[u8]),
) -> Result<Vec<u8>> {
    let mut out = Writer::default();
    if target.is_empty() {
        return Ok(out.0);
    }
    let pieces = || target.par_chunks(PIECE * N).zip(base.1.par_chunks(PIECE * width(base.0, dtype)));
    let none = || vec![[0; 256]; layout.exponents()];
    let count = |counts, (target, predicting): (&[u8], &[u8])| {
        let prediction = predict((base.0, predicting), dtype)?;
        Ok(layout.count::<N>(counts, prediction.as_chunks().0, target.as_chunks().0))
    };
    let counts: Result<Counts> = pieces().try_fold(none, count).try_reduce(none, |a, b| Ok(sum(a, &b)));
    let contexts = Contexts::fit(&counts?, target.len().div_ceil(PIECE * N));
    contexts.write(&mut out);
    let packed = pieces().map(|(target, predicting)| {
        let prediction = predict((base.0, predicting), dtype)?;
        Ok(contexts.encode::<N>(layout, prediction.as_chunks().0, target.as_chunks().0))
    });
    packed.collect::<Result<Vec<_>>>()?.into_iter().for_each(|piece| out.0.extend(piece));
    Ok(out.0)
}

/// [`decode`], where the prediction comes in parts.
pub(crate) struct Decoder<'a> {
    layout: Layout,
    /// Read with the first words.
    contexts: Option<Contexts>,
    input: Reader<'a>,
    base: Dtype,
    dtype: Dtype,
    /// The prediction of words that have not been decoded.
    waiting: Vec<u8>,
}

impl<'a> Decoder<'a> {
    /// `base` is the dtype of the prediction, `dtype` that of the tensor.
    pub(crate) fn new(packed: &'a [u8], base: Dtype, dtype: Dtype) -> Self {
        let (contexts, waiting) = (None, Vec::new());
        Self { layout: Layout::of(dtype), contexts, input: Reader(packed), base, dtype, waiting }
    }

    /// Takes the next part of the prediction; words come as soon as there are pieces for all threads.
    pub(crate) fn push(&mut self, part: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.waiting.extend(part);
        let piece = PIECE * width(self.base, self.dtype);
        if self.waiting.len() < piece * rayon::current_num_threads() {
            return Ok(());
        }
        let rest = self.waiting.split_off(self.waiting.len() / piece * piece);
        let whole = std::mem::replace(&mut self.waiting, rest);
        self.decode(&whole, sink)
    }

    /// The words that are left. Errors: Corrupt where the packed bytes are not used up.
    pub(crate) fn finish(mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let rest = std::mem::take(&mut self.waiting);
        self.decode(&rest, sink)?;
        self.input.finish(WHAT)
    }

    /// The words that `base` predicts: whole pieces, but for the last part.
    fn decode(&mut self, base: &[u8], sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self.layout.bytes {
            1 => self.decode_words::<1>(base, sink),
            2 => self.decode_words::<2>(base, sink),
            4 => self.decode_words::<4>(base, sink),
            _ => self.decode_words::<8>(base, sink),
        }
    }

    fn decode_words<const N: usize>(
        &mut self,
        base: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if base.is_empty() {
            return Ok(());
        }
        let (layout, input) = (self.layout, &mut self.input);
        let contexts = match self.contexts.take() {
            Some(contexts) => contexts,
            None => Contexts::read(input, layout)?,
        };
        let pieces: Vec<&[u8]> = base.chunks(PIECE * width(self.base, self.dtype)).collect();
        // Of some pieces at a time, so that memory stays bounded.
        for batch in pieces.chunks(rayon::current_num_threads()) {
            let jobs = batch.iter().map(|&predicting| Ok((predicting, contexts.streams(input)?)));
            let decoded = jobs.collect::<Result<Vec<_>>>()?.into_par_iter().map(|(predicting, streams)| {
                let prediction = predict((self.base, predicting), self.dtype)?;
                contexts.decode::<N>(layout, prediction.as_chunks().0, &streams)
            });
            for words in decoded.collect::<Result<Vec<_>>>()? {
                sink(words.as_flattened())?;
            }
        }
        self.contexts = Some(contexts);
        Ok(())
    }
}

/// Bytes of an element of the base: of a word, unless the base has to be cast.
fn width(base: Dtype, dtype: Dtype) -> usize {
    if base == dtype { Layout::of(dtype).bytes } else { base.bitsize() / 8 }
}

/// A piece of the base in the target's dtype.
fn predict((from, base): (Dtype, &[u8]), dtype: Dtype) -> Result<Cow<'_, [u8]>> {
    if from == dtype {
        return Ok(Cow::Borrowed(base));
    }
    let mut out = vec![0; base.len() / (from.bitsize() / 8) * (dtype.bitsize() / 8)];
    delta::cast((from, base), dtype, &mut out)?;
    Ok(Cow::Owned(out))
}

fn sum(mut a: Counts, b: &[[u64; 256]]) -> Counts {
    a.as_flattened_mut().iter_mut().zip(b.as_flattened()).for_each(|(a, b)| *a += b);
    a
}

impl Layout {
    /// Adds the symbols of some words to `counts`.
    fn count<const N: usize>(self, mut counts: Counts, prediction: &[[u8; N]], target: &[[u8; N]]) -> Counts {
        for (&p, &y) in prediction.iter().zip(target) {
            counts[self.exponent(p)][usize::from(self.split(p, y).symbol)] += 1;
        }
        counts
    }
}

/// Which exponents of the prediction share a model, and these models.
struct Contexts {
    /// The context of each exponent.
    of: Vec<u8>,
    models: Vec<Model>,
}

/// The streams of one piece: of each context, and the extra bits.
struct Streams<'a> {
    symbols: Vec<&'a [u8]>,
    extra: &'a [u8],
}

impl Contexts {
    /// Starts from a context for each exponent that occurs, and merges neighbours while that saves bits.
    fn fit(counts: &[[u64; 256]], pieces: usize) -> Self {
        let price = |counts: &[u64; 256]| cost(counts) + ((STREAM_BITS * pieces as u64) << 16);
        let occurring = counts.iter().enumerate().filter(|(_, counts)| counts.iter().any(|&n| n > 0));
        let mut runs: Vec<_> = occurring.map(|(first, &counts)| (first, counts, price(&counts))).collect();
        let join = |a: &[u64; 256], b: &[u64; 256]| -> [u64; 256] { std::array::from_fn(|s| a[s] + b[s]) };
        // What is saved where run i + 1 is joined to run i.
        let saving = |runs: &[(usize, [u64; 256], u64)], i: usize| {
            let (a, b) = (&runs[i], &runs[i + 1]);
            (a.2 + b.2) as i64 - price(&join(&a.1, &b.1)) as i64
        };
        let mut savings: Vec<i64> = (1..runs.len()).map(|i| saving(&runs, i - 1)).collect();
        while let Some(best) = (0..savings.len()).max_by_key(|&i| (savings[i], std::cmp::Reverse(i)))
            && (savings[best] >= 0 || runs.len() > MAX_CONTEXTS)
        {
            let (_, merged, _) = runs.remove(best + 1);
            savings.remove(best);
            let run = &mut runs[best];
            run.1 = join(&run.1, &merged);
            run.2 = price(&run.1);
            for i in best.saturating_sub(1)..(best + 1).min(savings.len()) {
                savings[i] = saving(&runs, i);
            }
        }
        let firsts: Vec<usize> = runs.iter().map(|run| run.0).collect();
        let models = runs.iter().map(|run| Model::fit(&run.1, pieces)).collect();
        Self { of: Self::spread(&firsts, counts.len()), models }
    }

    /// The context of each exponent, given the first exponent of each context; that of context 0 counts as 0.
    fn spread(firsts: &[usize], exponents: usize) -> Vec<u8> {
        (0..exponents).map(|e| firsts.iter().skip(1).take_while(|&&first| first <= e).count() as u8).collect()
    }

    fn write(&self, out: &mut Writer) {
        out.u8(self.models.len() as u8);
        let firsts = (1..self.of.len()).filter(|&e| self.of[e] > self.of[e - 1]);
        firsts.fold(0, |previous, first| {
            out.varint((first - previous) as u64);
            first
        });
        self.models.iter().for_each(|model| model.write(out));
    }

    fn read(input: &mut Reader<'_>, layout: Layout) -> Result<Self> {
        let count = usize::from(input.u8(WHAT)?);
        if !(1..=MAX_CONTEXTS).contains(&count) {
            return Err(Error::corrupt(format!("{WHAT}: {count} contexts")));
        }
        let mut firsts = vec![0];
        let mut first = 0;
        for _ in 1..count {
            let step = input.varint_to((layout.exponents() - 1 - first) as u64, "exponents of a context")?;
            if step == 0 {
                return Err(Error::corrupt(format!("{WHAT}: a context without exponents")));
            }
            first += step;
            firsts.push(first);
        }
        let models = (0..count).map(|_| Model::read(input)).collect::<Result<_>>()?;
        Ok(Self { of: Self::spread(&firsts, layout.exponents()), models })
    }

    /// The streams of the next piece.
    fn streams<'a>(&self, input: &mut Reader<'a>) -> Result<Streams<'a>> {
        let symbols = self.models.iter().map(|_| input.bytes("symbols of a context"));
        Ok(Streams { symbols: symbols.collect::<Result<_>>()?, extra: input.bytes("extra bits")? })
    }

    /// The context of each word of a piece, and the range of each context's symbols if they are sorted by context.
    fn assign<const N: usize>(&self, layout: Layout, prediction: &[[u8; N]]) -> (Vec<u8>, Vec<Range<usize>>) {
        let contexts: Vec<u8> = prediction.iter().map(|&p| self.of[layout.exponent(p)]).collect();
        let mut end = 0;
        let mut range = |n: u64| {
            let start = end;
            end += n as usize;
            start..end
        };
        let counts = histogram(&contexts);
        let ranges = counts.iter().take(self.models.len()).map(|&n| range(n)).collect();
        (contexts, ranges)
    }

    /// The streams of one piece.
    fn encode<const N: usize>(&self, layout: Layout, prediction: &[[u8; N]], target: &[[u8; N]]) -> Vec<u8> {
        let (contexts, ranges) = self.assign(layout, prediction);
        let (mut symbols, mut extra) = (vec![0; target.len()], BitWriter::default());
        let mut next = starts(&ranges);
        for ((&p, &y), &context) in prediction.iter().zip(target).zip(&contexts) {
            let split = layout.split(p, y);
            let at = &mut next[usize::from(context)];
            symbols[*at] = split.symbol;
            *at += 1;
            extra.put(split.extra, split.len);
        }
        let mut out = Writer::default();
        for (model, range) in self.models.iter().zip(ranges) {
            let mut stream = Vec::new();
            model.encode(&symbols[range], &mut stream);
            out.bytes(&stream);
        }
        out.bytes(&extra.finish());
        out.0
    }

    /// The words of one piece.
    fn decode<const N: usize>(
        &self,
        layout: Layout,
        prediction: &[[u8; N]],
        streams: &Streams<'_>,
    ) -> Result<Vec<[u8; N]>> {
        let (contexts, ranges) = self.assign(layout, prediction);
        let mut symbols = vec![0; prediction.len()];
        for ((model, range), stream) in self.models.iter().zip(&ranges).zip(&streams.symbols) {
            model.decode(stream, &mut symbols[range.clone()])?;
        }
        let magnitudes = layout.magnitudes();
        let mut extra = BitReader::new(streams.extra);
        let mut next = starts(&ranges);
        let mut words = vec![[0; N]; prediction.len()];
        for ((word, &p), &context) in words.iter_mut().zip(prediction).zip(&contexts) {
            let at = &mut next[usize::from(context)];
            let symbol = symbols[*at];
            *at += 1;
            let (magnitude, len) = magnitudes[usize::from(symbol)];
            let low = extra.next(len).ok_or_else(|| Error::truncated("extra bits"))?;
            *word = join(p, symbol, magnitude | low);
        }
        if extra.used("extra bits")? != streams.extra.len() {
            return Err(Error::corrupt(format!("{WHAT}: extra bits are left over")));
        }
        Ok(words)
    }
}

/// The start of each range, by context.
fn starts(ranges: &[Range<usize>]) -> [usize; 256] {
    std::array::from_fn(|context| ranges.get(context).map_or(0, |range| range.start))
}
