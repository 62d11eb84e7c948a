//! The extra bits of a piece: bit streams as those of `entropy/bits.rs`, written and read without branches.

use super::words::low_bits;
use crate::entropy::padded;
use crate::error::{Error, Result};

/// Appends fields to memory that has room for them, and for 8 bytes more.
pub(super) struct Writer<'a> {
    memory: &'a mut [u8],
    /// Whole bytes written.
    at: usize,
    pending: u64,
    pending_len: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self { memory, at: 0, pending: 0, pending_len: 0 }
    }

    /// Appends the `len` bits of `value`, at most 56; the bits above are zero.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u64, len: u32) {
        self.pending |= value << self.pending_len;
        self.pending_len += len;
        if let Some(to) = self.memory.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut()) {
            *to = self.pending.to_le_bytes();
        }
        let whole = self.pending_len & !7;
        self.at += whole as usize / 8;
        self.pending = self.pending >> (whole / 2) >> (whole - whole / 2);
        self.pending_len -= whole;
    }

    /// The bytes, the last one filled up with zeros.
    pub(super) fn finish(self) -> &'a [u8] {
        &self.memory[..self.at + usize::from(self.pending_len > 0)]
    }
}

/// Takes fields off the front of some bytes; zeros behind their end.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next 57 bits or more, of which `len` count as taken.
    #[inline(always)]
    pub(super) fn next(&mut self, len: u32) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let window = rest.first_chunk().copied().unwrap_or_else(|| padded(rest));
        let bits = u64::from_le_bytes(window) >> (self.at % 8);
        self.at += len as usize;
        bits
    }

    /// The next `len` bits, at most `8 N`.
    #[inline(always)]
    pub(super) fn take<const N: usize>(&mut self, len: u32) -> u64 {
        if N < 8 {
            return low_bits::<N>(self.next(len), len);
        }
        let low_len = len.min(32);
        let low = low_bits::<N>(self.next(low_len), low_len);
        low | low_bits::<N>(self.next(len - low_len), len - low_len) << low_len
    }

    /// Errors: Truncated, or Corrupt where bytes are left over or the padding of the last one is not zero.
    pub(super) fn finish(mut self, what: &str) -> Result<()> {
        let used = self.at.div_ceil(8);
        let padding = (8 * used - self.at) as u32;
        match used.cmp(&self.bytes.len()) {
            std::cmp::Ordering::Greater => Err(Error::truncated(what)),
            std::cmp::Ordering::Equal if self.take::<4>(padding) == 0 => Ok(()),
            _ => Err(Error::corrupt(format!("{what}: they do not end where they should"))),
        }
    }
}
