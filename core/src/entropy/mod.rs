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
//!
//! Lists of integers of any size are made of such symbols in `ints.rs`.

mod bits;
mod frequencies;
mod ints;
mod rans;

pub(crate) use bits::{BitReader, BitWriter};
pub(crate) use ints::{decode_ints, detokenize, encode_ints, tokenize};

use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};
use frequencies::Frequencies;
use rans::Table;

/// The tag of a rANS model.
const RANS: u8 = 9;
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
}

impl Model {
    /// The cheapest model for `histogram`, the counts of the 256 symbols over all of a record's `chunks` streams; its
    /// own stored form is counted. rANS only where it saves a 128th of the packed bits, because packed is faster.
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
        if bits + chunks * rans::overhead(total / chunks) < packed - packed / 128 {
            return Self::Rans(Table::new(frequencies));
        }
        Self::Packed { width }
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
        }
    }

    /// The model at the front of `input`.
    pub(crate) fn read(input: &mut Reader) -> Result<Self> {
        match input.u8(WHAT)? {
            0 => Ok(Self::Constant(input.u8(WHAT)?)),
            width @ 1..=8 => Ok(Self::Packed { width: width.into() }),
            RANS => {
                let (frequencies, len) = Frequencies::read(input.0)?;
                input.take(len, WHAT)?;
                Ok(Self::Rans(Table::new(frequencies)))
            }
            tag => Err(Error::unsupported(format!("{WHAT} of kind {tag}: a newer version wrote it"))),
        }
    }

    /// Appends the stream of `symbols`; each of them must be in the histogram that the model was fitted to.
    pub(crate) fn encode(&self, symbols: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Constant(_) => (),
            Self::Packed { width } => bits::pack(symbols, *width, out),
            Self::Rans(table) => table.encode(symbols, out),
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
        }
    }

    /// The `count` symbols of one stream, allocated only if the stream can hold them. Fails as [`Self::decode`] does.
    pub(crate) fn decode_new(&self, bytes: &[u8], count: usize) -> Result<Vec<u8>> {
        self.check_plausible(bytes, count)?;
        let mut symbols = vec![0; count];
        self.decode(bytes, &mut symbols)?;
        Ok(symbols)
    }

    /// How many bytes a stream of `count` symbols has, where that does not depend on the symbols.
    pub(crate) fn stream_len(&self, count: usize) -> Option<usize> {
        match self {
            Self::Constant(_) => Some(0),
            Self::Packed { width } => Some(bits::packed_len(count, *width)),
            Self::Rans(_) => None,
        }
    }

    /// Fails where `bytes` cannot be a stream of `count` symbols, so that nothing is allocated for them. Streams of a
    /// constant model take no bytes and always pass.
    pub(crate) fn check_plausible(&self, bytes: &[u8], count: usize) -> Result<()> {
        let plausible = match self.stream_len(count) {
            Some(len) => bytes.len() == len,
            None => count < rans::MANY || count / rans::SYMBOLS_PER_BYTE <= bytes.len(),
        };
        if plausible {
            return Ok(());
        }
        Err(Error::corrupt(format!("a stream of {count} symbols cannot have {} bytes", bytes.len())))
    }
}

/// How often each symbol occurs.
pub(crate) fn histogram(symbols: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    for &symbol in symbols {
        counts[symbol as usize] += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
