//! Levels to bytes and back.
//!
//! A [`Model`] says how the symbols (bytes) of one context become bits. It is chosen from a histogram over a whole
//! record, stored once, and then used for many streams that can be decoded independently. Its stored form:
//!
//! | byte | then | model |
//! |---|---|---|
//! | 0 | the symbol, one byte | constant: a stream has no bytes |
//! | 1 to 8 | | packed: so many bits per symbol, lowest first (`bits.rs`), the last byte filled up with zeros |
//! | 9 | a table (`frequencies.rs`) | rANS (`rans.rs`) |
//! | 10 | a table (`frequencies.rs`) | rANS of pairs: symbols `a`, `b` below 16, in turn, are coded as the one symbol `a + 16 b`; an odd last symbol is paired with itself |
//!
//! Symbols that take turns between contexts, and have bits of their own, use `tans.rs`. Lists of integers of any size are made of symbols in `ints.rs`. Short lists that vary much use `adaptive.rs`.

pub(crate) mod adaptive;
mod bits;
mod frequencies;
mod ints;
mod rans;
mod stream;
pub(crate) mod tans;

pub(crate) use bits::{BitReader, BitWriter, padded};
pub(crate) use frequencies::cost;
pub(crate) use ints::{decode_ints, detokenize, encode_ints, tokenize};
pub(crate) use stream::Stream;

use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};
use rans::{Frequencies, Table};

/// The tags of the rANS models.
const RANS: u8 = 9;
const PAIRS: u8 = 10;
/// Bits of a symbol in a pair.
const HALF: u32 = 4;
const WHAT: &str = "an entropy model";

/// How the symbols of one context become bits.
pub(crate) enum Model {
    /// All symbols are this one.
    Constant(u8),
    /// Each symbol is the low `width` bits, 1 to 8.
    Packed {
        /// Bits per symbol.
        width: u32,
    },
    /// Symbols are coded by their frequencies.
    Rans(Box<Table>),
    /// Symbols below 16 are coded two at a time, which takes half the time.
    Pairs(Box<Table>),
}

impl Model {
    /// The cheapest model for `histogram`, the counts of the 256 symbols over all of a record's `chunks` streams; its
    /// own stored form is counted. rANS only where it saves a 128th of the packed bits, and single symbols only where
    /// they save a 256th against pairs, because the others are faster.
    pub(crate) fn fit(histogram: &[u64; 256], chunks: usize) -> Self {
        let last = histogram.iter().rposition(|&h| h > 0).unwrap_or(0);
        let total: u64 = histogram.iter().sum();
        if histogram[last] == total {
            return Self::Constant(last as u8);
        }
        let width = last.ilog2() + 1;
        let packed = total * u64::from(width);
        let chunks = chunks.max(1) as u64;
        let (frequencies, bits) = Frequencies::fit(histogram);
        if bits + chunks * rans::overhead(total / chunks) >= packed - packed / 128 {
            return Self::Packed { width };
        }
        if width <= HALF {
            let (pairs, pair_bits) = Frequencies::fit(&pair_histogram(histogram, total));
            if pair_bits <= bits + bits / 256 {
                return Self::Pairs(Table::new(pairs));
            }
        }
        Self::Rans(Table::new(frequencies))
    }

    /// Appends the stored form.
    pub(crate) fn write(&self, out: &mut Writer) {
        match self {
            Self::Constant(symbol) => out.0.extend([0, *symbol]),
            Self::Packed { width } => out.u8(*width as u8),
            Self::Rans(table) => {
                out.u8(RANS);
                out.0.extend(table.frequencies.stored());
            }
            Self::Pairs(table) => {
                out.u8(PAIRS);
                out.0.extend(table.frequencies.stored());
            }
        }
    }

    /// The model at the front of `input`.
    pub(crate) fn read(input: &mut Reader) -> Result<Self> {
        match input.u8(WHAT)? {
            0 => Ok(Self::Constant(input.u8(WHAT)?)),
            width @ 1..=8 => Ok(Self::Packed { width: width.into() }),
            RANS => Ok(Self::Rans(read_table(input)?)),
            PAIRS => Ok(Self::Pairs(read_table(input)?)),
            tag => Err(Error::unsupported(format!("{WHAT} of kind {tag}: a newer version wrote it"))),
        }
    }

    /// Appends the stream of `symbols`; each of them must be in the histogram that the model was fitted to.
    pub(crate) fn encode(&self, symbols: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Constant(_) => (),
            Self::Packed { width } => bits::pack(symbols, *width, out),
            Self::Rans(table) => table.encode(symbols, out),
            Self::Pairs(table) => table.encode(&join_pairs(symbols), out),
        }
    }

    /// Fills `symbols` from one stream, which must be used up exactly. Fails with `Corrupt` or `Truncated`.
    pub(crate) fn decode(&self, bytes: &[u8], symbols: &mut [u8]) -> Result<()> {
        match self {
            Self::Constant(symbol) => {
                symbols.fill(*symbol);
                Reader(bytes).finish("a stream of equal symbols")
            }
            Self::Packed { width } => bits::unpack(bytes, *width, symbols),
            Self::Rans(table) => table.decode(bytes, symbols),
            Self::Pairs(table) => {
                let mut pairs = vec![0; symbols.len().div_ceil(2)];
                table.decode(bytes, &mut pairs)?;
                split_pairs(&mut pairs, symbols)
            }
        }
    }

    /// The `count` symbols of one stream, allocated only if the stream can hold them. Fails as [`Self::decode`] does.
    pub(crate) fn decode_new(&self, bytes: &[u8], count: usize) -> Result<Vec<u8>> {
        let mut symbols = Vec::new();
        self.decode_to(bytes, count, &mut symbols)?;
        Ok(symbols)
    }

    /// [`Self::decode_new`] into memory that is there already; replaces the content of `symbols`.
    pub(crate) fn decode_to(&self, bytes: &[u8], count: usize, symbols: &mut Vec<u8>) -> Result<()> {
        self.check_plausible(bytes, count)?;
        symbols.resize(count, 0);
        self.decode(bytes, symbols)
    }

    /// How many bytes a stream of `count` symbols has, where that does not depend on the symbols.
    pub(crate) fn stream_len(&self, count: usize) -> Option<usize> {
        match self {
            Self::Constant(_) => Some(0),
            Self::Packed { width } => Some(bits::packed_len(count, *width)),
            Self::Rans(_) | Self::Pairs(_) => None,
        }
    }

    /// Fails where `bytes` cannot be a stream of `count` symbols, so that nothing is allocated for them. Streams of a
    /// constant model take no bytes and always pass.
    pub(crate) fn check_plausible(&self, bytes: &[u8], count: usize) -> Result<()> {
        let plausible = match self {
            Self::Constant(_) => bytes.is_empty(),
            Self::Packed { width } => bytes.len() == bits::packed_len(count, *width),
            Self::Rans(_) => rans::plausible(bytes, count),
            Self::Pairs(_) => rans::plausible(bytes, count.div_ceil(2)),
        };
        if plausible {
            return Ok(());
        }
        Err(Error::corrupt(format!("a stream of {count} symbols cannot have {} bytes", bytes.len())))
    }
}

fn read_table(input: &mut Reader) -> Result<Box<Table>> {
    let (frequencies, len) = Frequencies::read(input.0)?;
    input.take(len, WHAT)?;
    Ok(Table::new(frequencies))
}

/// How often each pair of symbols below 16 is to be expected; at least once where both symbols occur.
fn pair_histogram(histogram: &[u64; 256], total: u64) -> [u64; 256] {
    std::array::from_fn(|pair| {
        let [a, b] = [pair & 15, pair >> 4].map(|s| u128::from(histogram[s]));
        (a * b).div_ceil(2 * u128::from(total)) as u64
    })
}

fn join_pairs(symbols: &[u8]) -> Vec<u8> {
    let mut pairs = Vec::new();
    bits::pack(symbols, HALF, &mut pairs);
    if let Some(pair) = pairs.last_mut().filter(|_| symbols.len() % 2 == 1) {
        *pair *= 0x11;
    }
    pairs
}

fn split_pairs(pairs: &mut [u8], symbols: &mut [u8]) -> Result<()> {
    if let Some(pair) = pairs.last_mut().filter(|_| symbols.len() % 2 == 1) {
        if *pair % 0x11 != 0 {
            return Err(Error::corrupt("the odd last symbol of a stream of pairs is not paired with itself"));
        }
        *pair &= 15;
    }
    bits::unpack(pairs, HALF, symbols)
}

/// How often each symbol occurs.
pub(crate) fn histogram(symbols: &[u8]) -> [u64; 256] {
    const FEW: u8 = 4;
    let mut counts = [0; 256];
    // Not the largest symbol, but not less than it: cheaper, and as good here.
    let bound = symbols.iter().fold(0, |bound, &symbol| bound | symbol);
    if bound < FEW {
        counts.iter_mut().zip(0..=bound).for_each(|(n, symbol)| *n = count(symbols, symbol));
        return counts;
    }
    // Four tables, so that equal symbols in a row do not wait for each other.
    let mut tables = [[0u32; 256]; 4];
    for run in symbols.chunks(u32::MAX as usize) {
        let (fours, rest) = run.as_chunks::<4>();
        for four in fours {
            for (table, &symbol) in tables.iter_mut().zip(four) {
                table[symbol as usize] += 1;
            }
        }
        rest.iter().for_each(|&symbol| tables[0][symbol as usize] += 1);
        for table in &mut tables {
            counts.iter_mut().zip(table).for_each(|(count, n)| *count += u64::from(std::mem::take(n)));
        }
    }
    counts
}

/// How often `symbol` occurs, counted in bytes, which vectors hold the most of.
fn count(symbols: &[u8], symbol: u8) -> u64 {
    let count_run = |run: &[u8]| run.iter().map(|&x| u8::from(x == symbol)).sum::<u8>();
    symbols.chunks(usize::from(u8::MAX)).map(|run| u64::from(count_run(run))).sum()
}

#[cfg(test)]
mod tests;
