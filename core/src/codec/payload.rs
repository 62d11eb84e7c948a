//! The payload of one matrix: side information, models, and for every chunk its streams (FORMAT.md, "Payload"), and that of
//! a tensor of several.

use std::ops::Range;

use rayon::prelude::*;

use super::levels::{Coding, Levels};
use crate::entropy::{
    BitReader, BitWriter, Model, Stream, decode_ints, detokenize, encode_ints, histogram, tokenize,
};
use crate::error::{Error, ErrorKind, Result};
use crate::quantize::{Quantizer, trellis};
use crate::tensor::Matrices;
use crate::transform::{Chunk, Fitted, Grid};
use crate::wire::{Reader, Writer};

/// Blocks, and numbers beside the levels, that a payload may have where only the file says how large the tensor is:
/// so many for each byte, and so many in any case. They bound what a hostile file can make a reader allocate.
const ITEMS_PER_BYTE: usize = 8;
const ITEMS: usize = 1 << 20;
/// What a chunk counts for among them.
const CHUNK_ITEMS: usize = 16;

/// The payloads of the matrices of a tensor.
pub(super) fn split(bytes: &[u8], matrices: Matrices) -> Result<Vec<&[u8]>> {
    if matrices.count == 1 {
        return Ok(vec![bytes]);
    }
    let mut input = Reader(bytes);
    let parts = (0..matrices.count).map(|_| input.bytes("the payload of a matrix")).collect::<Result<_>>()?;
    input.finish("payload")?;
    Ok(parts)
}

/// Parses the payload of a tensor without a base. What describes much more than its own bytes is only looked at in part.
pub(crate) fn check(bytes: &[u8], matrices: Matrices) -> Result<()> {
    for part in split(bytes, matrices)? {
        match Payload::parse(part, matrices.rows, matrices.cols, limit(part, matrices)) {
            Err(e) if e.kind() == ErrorKind::Limit => {}
            result => drop(result?),
        }
    }
    Ok(())
}

/// The transform and the quantiser of a tensor's first matrix in text form.
pub(crate) fn describe(bytes: &[u8], matrices: Matrices) -> Result<String> {
    let first = split(bytes, matrices)?.first().copied().unwrap_or_default();
    let mut input = Reader(first);
    let limit = limit(first, matrices);
    let transform = Fitted::describe(&mut input, matrices.rows, matrices.cols, limit)?;
    let quantizer = Quantizer::read(&mut input)?;
    Ok(format!("{transform} | {quantizer}"))
}

/// What the payload of one of the `matrices` may hold where there is no base.
fn limit(bytes: &[u8], matrices: Matrices) -> usize {
    (ITEMS / matrices.count.max(1)).max(bytes.len().saturating_mul(ITEMS_PER_BYTE))
}

/// A payload, parsed up to the streams of its chunks.
pub(super) struct Payload<'a> {
    pub(super) coding: Coding,
    pub(super) factor: f32,
    ranges: Vec<(f32, f32)>,
    means: Vec<f32>,
    models: Vec<Option<Model>>,
    chunks: Vec<ChunkBytes<'a>>,
}

struct ChunkBytes<'a> {
    /// Of positions, or of the integers that the first quantiser of the trellis gives.
    count: usize,
    streams: Vec<&'a [u8]>,
    extra: &'a [u8],
    ranges: Range<usize>,
    means: Range<usize>,
}

/// The levels of one chunk while they wait for the rest of their tensor, in little memory.
pub(super) struct Packed {
    /// As in [`ChunkBytes`].
    count: usize,
    /// Positions that are in no stream, since a reader has them from the parameters.
    implied: Vec<u32>,
    streams: Vec<Stream>,
    /// The bits that tokens leave over.
    extra: Vec<u8>,
    ranges: Vec<(f32, f32)>,
    means: Vec<f32>,
    /// See [`Levels::fit`].
    pub(super) fit: (f64, f64),
}

/// Writes the payload of `packed`, one item a chunk.
pub(super) fn write(coding: &Coding, factor: f32, packed: &[Packed]) -> Result<Vec<u8>> {
    let mut out = Writer::default();
    coding.transform.write(&mut out);
    coding.quantizer.write(&mut out);
    out.f32(factor);
    out.f32(coding.step);
    if coding.is_mixed() {
        let model = Model::fit(&histogram(&coding.classes), 1);
        let mut stream = Vec::new();
        model.encode(&coding.classes, &mut stream);
        model.write(&mut out);
        out.bytes(&stream);
    }
    if matches!(coding.quantizer, Quantizer::MinMax(_)) {
        write_parameters(coding, packed, &mut out);
    }

    let models: Vec<Option<Model>> = (coding.streams().into_iter().enumerate())
        .map(|(i, used)| {
            used.then(|| Model::fit(&sum(packed.iter().map(|p| p.streams[i].counts())), packed.len()))
        })
        .collect();
    models.iter().flatten().for_each(|model| model.write(&mut out));

    let encode = |packed: &Packed| -> Result<Vec<u8>> {
        let mut chunk = Writer::default();
        if coding.stores_count() {
            chunk.varint(packed.count as u64);
        }
        for (model, stream) in models.iter().zip(&packed.streams) {
            let Some(model) = model else { continue };
            chunk.bytes(&stream.encode(model)?);
        }
        if coding.has_extra() {
            chunk.bytes(&packed.extra);
        }
        Ok(chunk.0)
    };
    let chunks = packed.par_iter().map(encode).collect::<Result<Vec<_>>>()?;
    out.0.reserve_exact(chunks.iter().map(Vec::len).sum());
    chunks.iter().for_each(|chunk| out.0.extend(chunk));
    Ok(out.0)
}

impl Packed {
    pub(super) fn new(coding: &Coding, levels: &mut Levels) -> Self {
        let extra = levels.tokenize(coding);
        Self {
            count: coding.count(levels),
            implied: if coding.transform.stores_positions() { Vec::new() } else { levels.positions.clone() },
            streams: levels.symbols.iter().map(|symbols| Stream::new(symbols)).collect(),
            extra,
            ranges: levels.ranges.clone(),
            means: levels.means.clone(),
            fit: levels.fit,
        }
    }

    /// Inverse of [`Self::new`]; replaces the content of `levels`.
    pub(super) fn unpack(&self, coding: &Coding, chunk: &Chunk, levels: &mut Levels) -> Result<()> {
        levels.symbols.resize_with(self.streams.len(), Vec::new);
        self.streams.iter().zip(&mut levels.symbols).try_for_each(|(stream, to)| stream.unpack(to))?;
        levels.positions.clone_from(&self.implied);
        levels.ranges.clone_from(&self.ranges);
        levels.means.clone_from(&self.means);
        levels.detokenize(coding, chunk, &self.extra)
    }
}

impl<'a> Payload<'a> {
    /// Parses a payload for a `rows` x `cols` matrix, down to the bytes of each chunk.
    ///
    /// Takes memory in proportion to the matrix, so the caller must hold a base of that size.
    pub(super) fn read(bytes: &'a [u8], rows: usize, cols: usize) -> Result<Self> {
        Self::parse(bytes, rows, cols, usize::MAX)
    }

    /// [`Self::read`] of at most `limit` blocks and numbers beside the levels. Errors: Limit.
    fn parse(bytes: &'a [u8], rows: usize, cols: usize, limit: usize) -> Result<Self> {
        let mut input = Reader(bytes);
        let transform = Fitted::read(&mut input, rows, cols, limit)?;
        let quantizer = Quantizer::read(&mut input)?;
        let factor = input.f32("rescale factor")?;
        let step = input.f32("step")?;
        let grid = Grid::new(rows, cols, transform.transform().block());
        if grid.blocks() > limit || grid.chunks() > limit / CHUNK_ITEMS {
            return Err(Error::limit(format!("{} blocks in {} bytes", grid.blocks(), bytes.len())));
        }
        let mut coding = Coding { grid, transform, quantizer, classes: Vec::new(), step };
        coding.check()?;
        if coding.is_mixed() {
            let model = Model::read(&mut input)?;
            coding.classes = model.decode_new(input.bytes("classes of the blocks")?, grid.blocks())?;
        }
        let mut payload = Self {
            coding,
            factor,
            ranges: Vec::new(),
            means: Vec::new(),
            models: Vec::new(),
            chunks: Vec::new(),
        };
        payload.read_parameters(&mut input, limit)?;
        for used in payload.coding.streams() {
            payload.models.push(if used { Some(Model::read(&mut input)?) } else { None });
        }
        payload.read_chunks(&mut input)?;
        input.finish("payload")?;
        Ok(payload)
    }

    /// Splits what is left of `input` into the streams of the chunks.
    fn read_chunks(&mut self, input: &mut Reader<'a>) -> Result<()> {
        let (mut range, mut mean) = (0, 0);
        for i in 0..self.coding.grid.chunks() {
            let chunk = self.coding.grid.chunk(i);
            let count = match self.coding.stores_count() {
                true => input.varint_to(self.coding.most(&chunk) as u64, "number in a chunk")?,
                false => 0,
            };
            let streams = (self.models.iter())
                .map(|model| model.as_ref().map_or(Ok(&[][..]), |_| input.bytes("stream")))
                .collect::<Result<_>>()?;
            let extra = if self.coding.has_extra() { input.bytes("extra bits")? } else { &[] };
            let (ranges, means) = self.coding.parameters(&chunk);
            let chunk = ChunkBytes {
                count,
                streams,
                extra,
                ranges: range..range + ranges,
                means: mean..mean + means,
            };
            (range, mean) = (chunk.ranges.end, chunk.means.end);
            self.chunks.push(chunk);
        }
        Ok(())
    }

    /// Decodes the levels of chunk `index`; replaces the content of `levels`.
    pub(super) fn levels(&self, index: usize, chunk: &Chunk, levels: &mut Levels) -> Result<()> {
        let missing = || Error::corrupt(format!("there is no chunk {index}"));
        let bytes = self.chunks.get(index).ok_or_else(missing)?;
        self.coding.transform.implied_positions(chunk, &mut levels.positions);
        let counts = self.coding.counts(chunk, bytes.count + levels.positions.len());
        levels.symbols.resize_with(counts.len(), Vec::new);
        let streams = self.models.iter().zip(&bytes.streams).zip(&mut levels.symbols).zip(counts);
        for (((model, bytes), to), count) in streams {
            match model {
                Some(model) => model.decode_to(bytes, count, to)?,
                None => to.clear(),
            }
        }
        levels.ranges.clear();
        levels.ranges.extend(self.ranges.get(bytes.ranges.clone()).unwrap_or_default());
        levels.means.clear();
        levels.means.extend(self.means.get(bytes.means.clone()).unwrap_or_default());
        levels.detokenize(&self.coding, chunk, bytes.extra)
    }

    fn read_parameters(&mut self, input: &mut Reader<'_>, limit: usize) -> Result<()> {
        if !matches!(self.coding.quantizer, Quantizer::MinMax(_)) {
            return Ok(());
        }
        let (mut ranges, mut means) = (0, 0);
        for i in 0..self.coding.grid.chunks() {
            let (r, m) = self.coding.parameters(&self.coding.grid.chunk(i));
            (ranges, means) = (ranges + r, means + m);
        }
        if ranges + means > limit {
            return Err(Error::limit(format!("{} parameters of blocks", ranges + means)));
        }
        let exact = self.coding.predecessor();
        let lo = read_floats(input, ranges, exact)?;
        let hi = read_floats(input, ranges, exact)?;
        self.ranges = lo.into_iter().zip(hi).collect();
        self.means = match exact {
            true => read_floats(input, means, true)?,
            false => decode_ints(input, means)?.into_iter().map(|mean| mean as f32).collect(),
        };
        Ok(())
    }
}

/// The block parameters of all chunks: extremes, then means.
fn write_parameters(coding: &Coding, packed: &[Packed], out: &mut Writer) {
    let exact = coding.predecessor();
    let ranges = || packed.iter().flat_map(|chunk| &chunk.ranges);
    let means = || packed.iter().flat_map(|chunk| chunk.means.iter().copied());
    write_floats(ranges().map(|range| range.0), exact, out);
    write_floats(ranges().map(|range| range.1), exact, out);
    match exact {
        true => write_floats(means(), true, out),
        false => encode_ints(&means().map(|mean| mean as i64).collect::<Vec<_>>(), out),
    }
}

/// Numbers that are bfloat16, or any `f32` if `exact`, as integers around the median of some of them: the magnitude's bits,
/// negative for a negative number. (Not the middle of the range: a few blocks may lie far from all others, and most may be 0.)
fn write_floats(values: impl Iterator<Item = f32>, exact: bool, out: &mut Writer) {
    let key = |x: f32| {
        let magnitude = i64::from((x.to_bits() & 0x7fff_ffff) >> if exact { 0 } else { 16 });
        if x.is_sign_negative() { -magnitude } else { magnitude }
    };
    let keys: Vec<i64> = values.map(key).collect();
    /// So many tell the median well enough.
    const SAMPLE: usize = 1 << 12;
    let mut order: Vec<i64> = keys.iter().step_by(keys.len() / SAMPLE + 1).copied().collect();
    let half = order.len() / 2;
    let middle = if order.is_empty() { 0 } else { *order.select_nth_unstable(half).1 };
    out.u64(middle as u64);
    encode_ints(&keys.iter().map(|key| key - middle).collect::<Vec<_>>(), out);
}

fn read_floats(input: &mut Reader<'_>, count: usize, exact: bool) -> Result<Vec<f32>> {
    let middle = input.u64("middle of the block parameters")? as i64;
    let value = |offset: i64| {
        let key = middle.wrapping_add(offset);
        let magnitude = (key.unsigned_abs() as u32) << if exact { 0 } else { 16 };
        let value = f32::from_bits(magnitude & 0x7fff_ffff);
        if key < 0 { -value } else { value }
    };
    Ok(decode_ints(input, count)?.into_iter().map(value).collect())
}

impl Levels {
    /// Makes tokens of the integers, and of the gaps between stored positions or, along a trellis, of the integers from
    /// the second quantiser; gives the bits that these leave over.
    fn tokenize(&mut self, coding: &Coding) -> Vec<u8> {
        let mut extra = BitWriter::default();
        let [.., tokens, second] = self.symbols.as_mut_slice() else { return Vec::new() };
        tokens.clear();
        second.clear();
        if coding.transform.stores_positions() {
            let mut next = 0;
            let distances: Vec<i32> = (self.positions.iter())
                .map(|&at| {
                    let gap = at - next;
                    next = at + 1;
                    gap as i32
                })
                .collect();
            tokenize(&distances, second, &mut extra);
        }
        if coding.quantizer == Quantizer::Rest {
            let [even, odd] = trellis::split(&self.integers);
            tokenize(&even, tokens, &mut extra);
            tokenize(&odd, second, &mut extra);
        } else {
            tokenize(&self.integers, tokens, &mut extra);
        }
        extra.finish()
    }

    /// Inverse of [`Self::tokenize`]. Errors: Corrupt, Truncated.
    fn detokenize(&mut self, coding: &Coding, chunk: &Chunk, bytes: &[u8]) -> Result<()> {
        let mut extra = BitReader::new(bytes);
        let [.., tokens, second] = self.symbols.as_slice() else { return Ok(()) };
        if coding.transform.stores_positions() {
            self.positions = read_positions(second, &mut extra, chunk.len())?;
        }
        self.integers.resize(tokens.len(), 0);
        detokenize(tokens, &mut extra, &mut self.integers)?;
        if coding.quantizer == Quantizer::Rest {
            let mut odd = vec![0; second.len()];
            detokenize(second, &mut extra, &mut odd)?;
            self.integers = trellis::join([&self.integers, &odd])?;
        }
        match extra.used("the extra bits of a chunk")? == bytes.len() {
            true => Ok(()),
            false => Err(Error::corrupt("extra bits left over in a chunk")),
        }
    }
}

fn sum<'a>(counts: impl Iterator<Item = &'a [u64]>) -> [u64; 256] {
    counts.fold([0; 256], |mut total, counts| {
        total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        total
    })
}

/// Positions from the gaps between them, all below `limit`.
fn read_positions(gaps: &[u8], extra: &mut BitReader<'_>, limit: usize) -> Result<Vec<u32>> {
    let mut distances = vec![0i32; gaps.len()];
    detokenize(gaps, extra, &mut distances)?;
    let mut next = 0u64;
    let mut positions = Vec::with_capacity(distances.len());
    for gap in distances {
        let at = u64::try_from(gap).map_err(|_| Error::corrupt("a negative gap between positions"))? + next;
        if at >= limit as u64 {
            return Err(Error::corrupt(format!("position {at} in a chunk of {limit} weights")));
        }
        positions.push(at as u32);
        next = at + 1;
    }
    Ok(positions)
}

impl Coding {
    /// Whether blocks have different classes, and the classes are stored.
    fn is_mixed(&self) -> bool {
        self.quantizer.classes().len() > 1
    }

    /// The [`ChunkBytes::count`] of `levels` that have become tokens.
    fn count(&self, levels: &Levels) -> usize {
        match (&self.quantizer, levels.symbols.as_slice()) {
            (Quantizer::Rest, [.., tokens, _]) => tokens.len(),
            _ => levels.positions.len(),
        }
    }

    /// The largest [`ChunkBytes::count`] that `chunk` can have.
    fn most(&self, chunk: &Chunk) -> usize {
        self.transform.bands(chunk, chunk.len()).iter().map(|band| band.len).sum()
    }

    /// Whether chunks say how many tokens they have.
    fn stores_count(&self) -> bool {
        self.transform.stores_positions() || self.quantizer == Quantizer::Rest && !self.transform.says_all()
    }

    /// Which streams a chunk has: the symbol contexts, then the two lists of tokens.
    fn streams(&self) -> Vec<bool> {
        let integers = self.quantizer.has_integers();
        let symbols = !integers;
        let mut used: Vec<bool> =
            self.quantizer.classes().iter().map(|&(bits, _)| symbols && bits > 0).collect();
        used.push(symbols && self.transform.has_details());
        used.extend([integers && !self.transform.says_all(), self.stores_count()]);
        used
    }

    fn has_extra(&self) -> bool {
        self.streams().iter().rev().take(2).any(|&used| used)
    }

    /// Numbers of ranges and of means in `chunk`.
    fn parameters(&self, chunk: &Chunk) -> (usize, usize) {
        if !matches!(self.quantizer, Quantizer::MinMax(_)) {
            return (0, 0);
        }
        let bands = self.transform.bands(chunk, 0);
        let (mut ranges, mut means) = (0, 0);
        for (class, blocks) in self.tally(chunk) {
            if !self.is_transformed(class) {
                means += blocks;
                continue;
            }
            for &band in &bands {
                match self.width(class, band).0 {
                    0 => means += blocks,
                    _ => ranges += blocks,
                }
            }
        }
        (ranges, means)
    }

    /// The classes in `chunk`, and how many blocks each has there.
    fn tally(&self, chunk: &Chunk) -> impl Iterator<Item = (u8, usize)> {
        let mut blocks = [0; 256];
        chunk.blocks.clone().for_each(|i| blocks[usize::from(self.class(i))] += 1);
        (0..=u8::MAX).zip(blocks).filter(|&(_, blocks)| blocks > 0)
    }

    /// Number of symbols in each stream of `chunk`, given its [`ChunkBytes::count`].
    pub(super) fn counts(&self, chunk: &Chunk, count: usize) -> Vec<usize> {
        let bands = self.transform.bands(chunk, count);
        let mut counts = vec![0; self.contexts()];
        for (class, blocks) in self.tally(chunk) {
            for &band in bands.iter().filter(|_| self.is_transformed(class)) {
                let (bits, context) = self.width(class, band);
                if bits > 0 {
                    counts[context] += band.len * blocks;
                }
            }
        }
        let integers: usize = if self.quantizer.has_integers() { counts.drain(..).sum() } else { 0 };
        counts.resize(self.contexts(), 0);
        counts.extend(match self.quantizer {
            Quantizer::Rest => [count, integers.saturating_sub(count)],
            _ => [integers, count],
        });
        counts
    }

    /// Combinations that no writer makes.
    fn check(&self) -> Result<()> {
        let one_class = matches!(self.quantizer.classes(), [(1.., _)]);
        if self.grid.side() == 1 && !one_class {
            return Err(Error::corrupt("several classes, or one without bits, but no blocks"));
        }
        if !self.step.is_finite() || self.step < 0.0 {
            return Err(Error::corrupt(format!("a step of {}", self.step)));
        }
        Ok(())
    }
}
