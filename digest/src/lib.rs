//! The digest of delta-dct: XXH3 with 64 bits and seed 0.
//!
//! A crate of its own for its speed: the loop of `twox-hash` is compiled in the crate that calls it, and whether its sums stay in
//! registers there (46 GB/s against 13 on one core) depends on what else that crate has.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

/// The digest of bytes that come in pieces.
#[derive(Default)]
pub struct Digest(XxHash3_64);

impl Digest {
    /// Takes the next bytes.
    #[inline(never)]
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The digest of all bytes taken.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// The digest of `bytes`.
#[inline(never)]
pub fn digest(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * i / 7) as u8).collect();
        // From the reference implementation.
        assert_eq!(digest(b""), 0x2d06_8005_38d3_94c2);
        for piece in [1, 63, 64, 256, 1024, 5000] {
            let mut whole = Digest::default();
            bytes.chunks(piece).for_each(|piece| whole.write(piece));
            assert_eq!(whole.finish(), digest(&bytes), "pieces of {piece}");
        }
    }
}
