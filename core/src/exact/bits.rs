//! Bit streams as those of `entropy/bits.rs`, written from their end to their beginning, and read without branches.

use crate::entropy::padded;

/// Puts fields in front of each other, into memory that has room for them, and for 8 bytes more.
pub(super) struct Writer<'a> {
    memory: &'a mut [u8],
    /// The bit that the bits written so far begin with.
    at: usize,
    /// Those bits, as many as there is room for.
    first: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self { at: 8 * memory.len().saturating_sub(AT_ONCE), memory, first: 0 }
    }

    /// Puts `fields` in front.
    #[inline(always)]
    pub(super) fn put(&mut self, Fields { bits, len }: Fields) {
        self.first = self.first << len | bits;
        self.at = self.at.wrapping_sub(len as usize);
        let byte = self.at / 8;
        // What lies behind is written once more, as it is.
        if let Some(to) = self.memory.get_mut(byte..byte + AT_ONCE) {
            to.copy_from_slice(&(self.first << (self.at % 8)).to_le_bytes());
        }
    }

    /// The bytes: the first begins with a one bit and as many zeros below it as fill it up.
    pub(super) fn finish(mut self) -> &'a [u8] {
        self.put(Fields { bits: 1, len: 1 });
        self.put(Fields { bits: 0, len: (self.at % 8) as u32 });
        &self.memory[self.at / 8..self.memory.len() - AT_ONCE]
    }
}

/// Bytes that are written at once.
const AT_ONCE: usize = 8;

/// Some fields on their way, at most 56 bits of them.
#[derive(Clone, Copy, Default)]
pub(super) struct Fields {
    bits: u64,
    len: u32,
}

impl Fields {
    /// With the `len` low bits of `value`, fewer than 64, in front of the others.
    #[inline(always)]
    pub(super) fn and(self, value: u64, len: u32) -> Self {
        // What is above the low bits is taken off beforehand, which is shorter than a mask.
        let bits = (self.bits.wrapping_sub(value >> len) << len).wrapping_add(value);
        Self { bits, len: self.len + len }
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
            fields.iter().rev().for_each(|&(value, len)| writer.put(Fields::default().and(value, len)));
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
