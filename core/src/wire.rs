//! The only code that turns record bytes into numbers and back: little-endian fixed-width values and LEB128
//! varints (FORMAT.md, "Conventions").

use crate::error::{Error, Result};

/// Appends values to a byte vector.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, value: f32) {
        self.0.extend(value.to_le_bytes());
    }

    /// LEB128: seven bits a byte, low bits first, the high bit set on every byte but the last.
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// A varint length, then the bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

/// Takes values from the front of a byte slice; every read is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `n` bytes; `what` names them in the error.
    pub(crate) fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n).ok_or_else(|| Error::truncated(what))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk().ok_or_else(|| Error::truncated(what))?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, what: &str) -> Result<u8> {
        self.array::<1>(what).map(|[b]| b)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn f32(&mut self, what: &str) -> Result<f32> {
        self.array(what).map(f32::from_le_bytes)
    }

    pub(crate) fn varint(&mut self, what: &str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::corrupt(format!("{what}: a varint of more than 64 bits")))
    }

    /// A varint that must be at most `limit`.
    pub(crate) fn varint_to(&mut self, limit: u64, what: &str) -> Result<usize> {
        let value = self.varint(what)?;
        if value > limit {
            return Err(Error::corrupt(format!("{what}: {value} is more than the {limit} possible here")));
        }
        usize::try_from(value).map_err(|_| Error::limit(format!("{what}: {value} does not fit this machine")))
    }

    /// A varint length, then that many bytes.
    pub(crate) fn bytes(&mut self, what: &str) -> Result<&'a [u8]> {
        let n = self.varint(what)?;
        let n = usize::try_from(n).map_err(|_| Error::truncated(what))?;
        self.take(n, what)
    }

    /// Fails unless every byte was read.
    pub(crate) fn finish(self, what: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::corrupt(format!("{what}: {} bytes left over", self.0.len())))
    }
}
