//! Tensors coded bit for bit against a prediction (FORMAT.md, "Exact residual").
//!
//! Floats of one sign are ordered as their bits are, so that the difference of two bit patterns counts the floats between
//! them (`words.rs`). How far it spreads depends on the exponent of the prediction: runs of exponents are the contexts of
//! the entropy coder (`contexts.rs`). Its leading bits are coded; the bits under those are noise and kept as they are. Low bits
//! that are zero in nearly all words, as where the tensor once was of a narrower type, are left out (`survey.rs`).

mod bits;
mod contexts;
mod encoder;
mod piece;
mod survey;
mod words;

use std::borrow::Cow;

use rayon::prelude::*;

use self::contexts::Contexts;
use self::encoder::Encoder;
use self::piece::Scratch;
use self::words::{Layout, Meaning};
use crate::delta;
use crate::entropy::tans;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, coded_size};
use crate::wire::{Reader, Writer};

/// Words of a piece.
const PIECE: usize = 1 << 17;
/// Words that go through a stage before the next one takes them up, while they are in the nearest cache.
const BATCH: usize = 1 << 11;
const WHAT: &str = "an exact residual";

/// Packs `target`, which `base` predicts: a tensor of as many elements and the same dtype, or both of coded ones.
pub(crate) fn encode(base: (Dtype, &[u8]), target: (Dtype, &[u8])) -> Result<Vec<u8>> {
    if target.1.is_empty() {
        return Ok(Vec::new());
    }
    match Layout::widths(target.0).0 {
        1 => encode_words::<1>(base, target),
        2 => encode_words::<2>(base, target),
        4 => encode_words::<4>(base, target),
        _ => encode_words::<8>(base, target),
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

fn encode_words<const N: usize>(base: (Dtype, &[u8]), target: (Dtype, &[u8])) -> Result<Vec<u8>> {
    let encoder = Encoder::fit::<N>(base, target)?;
    let mut out = Writer::default();
    encoder.write(&mut out);
    let pieces =
        pieces::<N>(base, target, PIECE).map_init(Scratch::default, |scratch, (predicting, words)| {
            let prediction = predict((base.0, predicting), target.0)?;
            Ok(encoder.encode::<N>(prediction.as_chunks().0, words.as_chunks().0, scratch))
        });
    pieces.collect::<Result<Vec<_>>>()?.iter().for_each(|piece| out.bytes(piece));
    Ok(out.0)
}

/// Runs of `len` words, and what predicts them.
fn pieces<'a, const N: usize>(
    base: (Dtype, &'a [u8]),
    target: (Dtype, &'a [u8]),
    len: usize,
) -> impl IndexedParallelIterator<Item = (&'a [u8], &'a [u8])> {
    base.1.par_chunks(len * width(base.0, target.0)).zip(target.1.par_chunks(len * N))
}

/// [`decode`], where the prediction comes in parts.
pub(crate) struct Decoder<'a> {
    /// Read with the first words.
    models: Option<Models>,
    input: Reader<'a>,
    base: Dtype,
    dtype: Dtype,
    /// The prediction of words that have not been decoded.
    waiting: Vec<u8>,
}

impl<'a> Decoder<'a> {
    /// `base` is the dtype of the prediction, `dtype` that of the tensor.
    pub(crate) fn new(packed: &'a [u8], base: Dtype, dtype: Dtype) -> Self {
        Self { models: None, input: Reader(packed), base, dtype, waiting: Vec::new() }
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
        match Layout::widths(self.dtype).0 {
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
        let input = &mut self.input;
        let models = match self.models.take() {
            Some(models) => models,
            None => Models::read(input, self.dtype)?,
        };
        let pieces: Vec<&[u8]> = base.chunks(PIECE * width(self.base, self.dtype)).collect();
        // Of some pieces at a time, so that memory stays bounded.
        for batch in pieces.chunks(rayon::current_num_threads()) {
            let jobs = batch.iter().map(|&predicting| Ok((predicting, input.bytes("words of a piece")?)));
            let jobs = jobs.collect::<Result<Vec<_>>>()?.into_par_iter();
            let decoded = jobs.map(|(predicting, piece)| {
                let prediction = predict((self.base, predicting), self.dtype)?;
                models.decode::<N>(prediction.as_chunks().0, piece)
            });
            for words in decoded.collect::<Result<Vec<_>>>()? {
                sink(words.as_flattened())?;
            }
        }
        self.models = Some(models);
        Ok(())
    }
}

/// What decodes the words of a tensor.
struct Models {
    layout: Layout,
    /// The context of each exponent.
    of: Vec<u8>,
    decoder: tans::Decoder,
    meanings: [Meaning; 256],
}

impl Models {
    fn read(input: &mut Reader<'_>, dtype: Dtype) -> Result<Self> {
        let dropped = input.u8(WHAT)?;
        let layout = Layout::of(dtype, dropped.into())
            .ok_or_else(|| Error::corrupt(format!("{WHAT}: {dropped} bits of {dtype} are left out")))?;
        let contexts = Contexts::read(input, layout.exponents())?;
        let bytes = Layout::widths(dtype).0;
        let meanings = layout.meanings(bytes);
        let attach = |symbol: u8| meanings[usize::from(symbol)].attached(symbol, bytes);
        let decoder = tans::Decoder::read(input, contexts.firsts.len(), attach)?;
        Ok(Self { layout, of: contexts.spread(), decoder, meanings })
    }
}

/// Bytes of an element of the base: of a word, unless the base has to be cast.
fn width(base: Dtype, dtype: Dtype) -> usize {
    if base == dtype { Layout::widths(dtype).0 } else { coded_size(base) }
}

/// A piece of the base in the target's dtype.
fn predict((from, base): (Dtype, &[u8]), dtype: Dtype) -> Result<Cow<'_, [u8]>> {
    if from == dtype {
        return Ok(Cow::Borrowed(base));
    }
    let mut out = vec![0; base.len() / coded_size(from) * coded_size(dtype)];
    delta::cast((from, base), dtype, &mut out)?;
    Ok(Cow::Owned(out))
}
