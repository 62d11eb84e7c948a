//! Bit streams as those of `entropy/bits.rs`, written from their end to their beginning, and read without branches.

use crate::entropy::padded;

/// Puts fields in front of each other, into memory that has room for them, and for 8 bytes more.
pub(super) struct Writer<'a> {
    memory: &'a mut [u8],
    /// Where the bytes begin that are whole.
    at: usize,
    /// What is in front of them.
    pending: u64,
    pending_len: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self { at: memory.len(), memory, pending: 0, pending_len: 0 }
    }

    /// Puts the `len` bits of `value`, at most 56, in front; the bits above are zero.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u64, len: u32) {
        self.pending = self.pending << len | value;
        self.pending_len += len;
        // The highest bits are the first of the whole bytes, or would be. (A shift by 64 is two.)
        let whole = self.pending << (63 - self.pending_len) << 1;
        if let Some(to) = self.memory[..self.at].last_chunk_mut() {
            *to = whole.to_le_bytes();
        }
        self.at -= self.pending_len as usize / 8;
        self.pending_len %= 8;
    }

    /// The bytes: the first begins with a one bit and as many zeros below it as fill it up.
    pub(super) fn finish(mut self) -> &'a [u8] {
        self.put(1, 1);
        self.put(0, (8 - self.pending_len) % 8);
        &self.memory[self.at..]
    }
}

/// 57 bits or more from bit `at` on; zeros behind the end.
#[inline(always)]
pub(super) fn window(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at / 8..).unwrap_or_default();
    let window = rest.first_chunk().copied().unwrap_or_else(|| padded(rest));
    u64::from_le_bytes(window) >> (at % 8)
}

/// The first bit after those that fill up the first byte (see [`Writer::finish`]); none where that has no one bit.
pub(super) fn start(bytes: &[u8]) -> Option<usize> {
    bytes.first().filter(|&&byte| byte > 0).map(|byte| byte.trailing_zeros() as usize + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_come_back() {
        for count in [0, 1, 2, 7, 100] {
            let fields: Vec<(u64, u32)> = (0..count)
                .map(|i: u32| (i * i * 7919 % 57, i))
                .map(|(len, i)| (u64::from(i) & ((1 << len) - 1), len))
                .collect();
            let mut memory = vec![0xff; 8 * count as usize + 9];
            let mut writer = Writer::new(&mut memory);
            fields.iter().rev().for_each(|&(value, len)| writer.put(value, len));
            let bytes = writer.finish();
            let mut at = start(bytes).unwrap();
            for (value, len) in fields {
                assert_eq!(window(bytes, at) & ((1 << len) - 1), value);
                at += len as usize;
            }
            assert_eq!(at, 8 * bytes.len());
        }
        assert!(start(&[]).is_none() && start(&[0, 1]).is_none());
    }
}
