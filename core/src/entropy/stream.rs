//! The symbols of one stream while they wait for their model, which is fitted to all streams of a record.

use std::borrow::Cow;

use super::{Model, bits, histogram};
use crate::error::Result;

/// Symbols in as few bits each as the largest of them needs, and how often each occurs.
pub(crate) struct Stream {
    len: usize,
    width: u32,
    bits: Vec<u8>,
    counts: Vec<u64>,
}

impl Stream {
    pub(crate) fn new(symbols: &[u8]) -> Self {
        let counts = histogram(symbols);
        let last = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
        let width = last.checked_ilog2().unwrap_or(0) + 1;
        let mut bits = Vec::with_capacity(bits::packed_len(symbols.len(), width));
        bits::pack(symbols, width, &mut bits);
        Self { len: symbols.len(), width, bits, counts: counts[..=last].to_vec() }
    }

    /// How often each symbol occurs, up to the largest one.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The symbols; replaces the content of `symbols`.
    pub(crate) fn unpack(&self, symbols: &mut Vec<u8>) -> Result<()> {
        symbols.resize(self.len, 0);
        bits::unpack(&self.bits, self.width, symbols)
    }

    /// The stream of `model`, whose histogram these symbols were counted in.
    pub(crate) fn encode(&self, model: &Model) -> Result<Cow<'_, [u8]>> {
        if matches!(model, Model::Packed { width } if *width == self.width) {
            return Ok(Cow::Borrowed(&self.bits));
        }
        let (mut symbols, mut out) = (Vec::new(), Vec::new());
        self.unpack(&mut symbols)?;
        model.encode(&symbols, &mut out);
        Ok(Cow::Owned(out))
    }
}
