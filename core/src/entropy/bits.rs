//! Bits in bytes, the lowest bit of a byte first.
//!
//! Bit `k` of a stream is bit `k % 8` of byte `k / 8`; a field of several bits starts with its lowest one. The
//! last byte is filled up with zero bits.

use crate::error::{Error, Result};

/// Collects bit fields.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    pending_len: u32,
}

impl BitWriter {
    /// Appends the low `len` bits of `value`, 0 to 64 of them; the bits above must be zero.
    #[inline]
    pub(crate) fn put(&mut self, value: u64, len: u32) {
        self.pending |= value << self.pending_len;
        let total = self.pending_len + len;
        if total < 64 {
            self.pending_len = total;
            return;
        }
        self.bytes.extend(self.pending.to_le_bytes());
        self.pending = value.checked_shr(64 - self.pending_len).unwrap_or(0);
        self.pending_len = total - 64;
    }

    /// Appends `value` (at least 1) in Elias' gamma code: with `n` bits under its leading one, `n` zero bits, a
    /// one bit, and those `n` bits.
    pub(crate) fn put_gamma(&mut self, value: u64) {
        let n = value.ilog2();
        self.put(1 << n, n + 1);
        self.put(value ^ (1 << n), n);
    }

    /// The bytes, the last one filled up with zeros.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let used = self.pending_len.div_ceil(8) as usize;
        self.bytes.extend(&self.pending.to_le_bytes()[..used]);
        self.bytes
    }
}

/// Takes bit fields from the front of a byte slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit to read.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `len` bits, 0 to 64 of them; `what` names them in the error.
    pub(crate) fn take(&mut self, len: u32, what: &str) -> Result<u64> {
        self.next(len).ok_or_else(|| Error::truncated(what))
    }

    /// The next `len` bits, 0 to 64 of them, if they are there.
    #[inline(always)]
    pub(crate) fn next(&mut self, len: u32) -> Option<u64> {
        if len > 56 {
            let low = self.next_few(32)?;
            return Some(low | self.next_few(len - 32)? << 32);
        }
        self.next_few(len)
    }

    /// The next `len` bits, 0 to 56 of them.
    #[inline(always)]
    fn next_few(&mut self, len: u32) -> Option<u64> {
        let rest = self.bytes.get(self.position / 8..)?;
        let window = match rest.first_chunk() {
            Some(window) => *window,
            None if self.position + len as usize > 8 * self.bytes.len() => return None,
            None => padded(rest),
        };
        let bits = u64::from_le_bytes(window) >> (self.position % 8);
        self.position += len as usize;
        Some(bits & ((1 << len) - 1))
    }

    /// The next value in Elias' gamma code (see [`BitWriter::put_gamma`]), at most 16 bits long.
    pub(crate) fn take_gamma(&mut self, what: &str) -> Result<u64> {
        let mut n = 0;
        while self.take(1, what)? == 0 {
            n += 1;
            if n == 16 {
                return Err(Error::corrupt(format!("{what}: a gamma code of more than 16 bits")));
            }
        }
        Ok(1 << n | self.take(n, what)?)
    }

    /// How many bytes the bits taken so far lie in, after checking that the rest of the last one is zero.
    pub(crate) fn used(mut self, what: &str) -> Result<usize> {
        let used = self.position.div_ceil(8);
        if self.take((8 * used - self.position) as u32, what)? != 0 {
            return Err(Error::corrupt(format!("{what}: the padding after the last bit is not zero")));
        }
        Ok(used)
    }
}

/// Up to eight bytes, with zeros after them.
#[inline(always)]
pub(crate) fn padded(bytes: &[u8]) -> [u8; 8] {
    let mut window = [0; 8];
    for (to, from) in window.iter_mut().zip(bytes) {
        *to = *from;
    }
    window
}

/// How many bytes `count` symbols of `width` bits take: `ceil(count * width / 8)`.
pub(crate) fn packed_len(count: usize, width: u32) -> usize {
    let width = width as usize;
    count / 8 * width + (count % 8 * width).div_ceil(8)
}

/// Appends the low `width` bits (1 to 8) of every symbol.
pub(crate) fn pack(symbols: &[u8], width: u32, out: &mut Vec<u8>) {
    match width {
        1 => pack_width::<1>(symbols, out),
        2 => pack_width::<2>(symbols, out),
        3 => pack_width::<3>(symbols, out),
        4 => pack_width::<4>(symbols, out),
        5 => pack_width::<5>(symbols, out),
        6 => pack_width::<6>(symbols, out),
        7 => pack_width::<7>(symbols, out),
        _ => out.extend(symbols),
    }
}

/// Fills `symbols` from their `width` bits each (1 to 8). Fails unless `bytes` has exactly
/// [`packed_len`] bytes and ends in zero padding.
pub(crate) fn unpack(bytes: &[u8], width: u32, symbols: &mut [u8]) -> Result<()> {
    let needed = packed_len(symbols.len(), width);
    if bytes.len() < needed {
        return Err(Error::truncated("bit-packed levels"));
    }
    if bytes.len() > needed {
        return Err(Error::corrupt(format!("bit-packed levels: {} bytes instead of {needed}", bytes.len())));
    }
    match width {
        1 => unpack_width::<1>(bytes, symbols),
        2 => unpack_width::<2>(bytes, symbols),
        3 => unpack_width::<3>(bytes, symbols),
        4 => unpack_width::<4>(bytes, symbols),
        5 => unpack_width::<5>(bytes, symbols),
        6 => unpack_width::<6>(bytes, symbols),
        7 => unpack_width::<7>(bytes, symbols),
        _ => {
            symbols.copy_from_slice(bytes);
            Ok(())
        }
    }
}

/// Eight symbols are `W` bytes: the symbols' fields move together in three halvings of one 64-bit word.
fn pack_width<const W: usize>(symbols: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + packed_len(symbols.len(), W as u32), 0);
    let (groups, tail) = symbols.as_chunks::<8>();
    let (fields, rest) = out[start..].as_chunks_mut::<W>();
    for (field, group) in fields.iter_mut().zip(groups) {
        field.copy_from_slice(&gather::<W>(*group)[..W]);
    }
    // Without full groups of bytes, `rest` is what the tail takes; a tail may also fill one whole field.
    let last = gather::<W>(padded(tail));
    let target = fields.get_mut(groups.len()).map_or(rest, |field| &mut field[..]);
    for (to, from) in target.iter_mut().zip(last) {
        *to = from;
    }
}

fn unpack_width<const W: usize>(bytes: &[u8], symbols: &mut [u8]) -> Result<()> {
    let (groups, tail) = symbols.as_chunks_mut::<8>();
    let (fields, rest) = bytes.as_chunks::<W>();
    for (group, field) in groups.iter_mut().zip(fields) {
        *group = scatter::<W>(padded(field));
    }
    let last = fields.get(groups.len()).map_or(rest, |field| &field[..]);
    let last = padded(last);
    let used_bits = tail.len() * W;
    if u64::from_le_bytes(last) >> used_bits != 0 {
        return Err(Error::corrupt("bit-packed levels: the padding after the last one is not zero"));
    }
    for (to, from) in tail.iter_mut().zip(scatter::<W>(last)) {
        *to = from;
    }
    Ok(())
}

/// Every second byte, and every second pair of bytes, of a word.
const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
const PAIRS: u64 = 0x0000_ffff_0000_ffff;

/// Eight bytes to eight fields of `W` bits.
#[inline(always)]
fn gather<const W: usize>(group: [u8; 8]) -> [u8; 8] {
    let keep = 0x0101_0101_0101_0101 * ((1 << W) - 1);
    let x = u64::from_le_bytes(group) & keep;
    let x = (x & BYTES) | (x & !BYTES) >> (8 - W);
    let x = (x & PAIRS) | (x & !PAIRS) >> (16 - 2 * W);
    let x = (x & 0xffff_ffff) | x >> 32 << (4 * W);
    x.to_le_bytes()
}

/// Eight fields of `W` bits to eight bytes; what lies above them is ignored.
#[inline(always)]
fn scatter<const W: usize>(field: [u8; 8]) -> [u8; 8] {
    let x = u64::from_le_bytes(field);
    let low = (1 << (4 * W)) - 1;
    let x = (x & low) | (x >> (4 * W) & low) << 32;
    let low = 0x0000_0001_0000_0001 * ((1 << (2 * W)) - 1);
    let x = (x & low) | (x & !low) << (16 - 2 * W);
    let low = 0x0001_0001_0001_0001 * ((1 << W) - 1);
    let x = (x & low) | (x & !low) << (8 - W);
    x.to_le_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_width_and_size_packs_as_single_bits_do() {
        for width in 1..=8u32 {
            for count in [0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 100, 1003] {
                let symbols: Vec<u8> = (0..count).map(|i| (i * 37 % (1 << width)) as u8).collect();
                let mut packed = vec![9];
                pack(&symbols, width, &mut packed);
                let mut naive = vec![0u8; (count as usize * width as usize).div_ceil(8)];
                for bit in 0..count as usize * width as usize {
                    let value = symbols[bit / width as usize] >> (bit % width as usize) & 1;
                    naive[bit / 8] |= value << (bit % 8);
                }
                assert_eq!(packed[1..], naive, "width {width}, {count} symbols");
                let mut back = vec![0; symbols.len()];
                unpack(&naive, width, &mut back).unwrap();
                assert_eq!(back, symbols);
            }
        }
    }

    #[test]
    fn wrong_lengths_and_padding_are_errors() {
        for width in 1..=8 {
            for count in 1..40 {
                let mut packed = Vec::new();
                pack(&vec![0; count], width, &mut packed);
                let mut back = vec![0; count];
                assert!(unpack(&packed[1..], width, &mut back).is_err());
                packed.push(0);
                assert!(unpack(&packed, width, &mut back).is_err());
                packed.pop();
                let padding = 8 * packed.len() - count * width as usize;
                *packed.last_mut().unwrap() |= 0x80;
                assert_eq!(unpack(&packed, width, &mut back).is_err(), padding > 0);
            }
        }
    }

    #[test]
    fn bit_fields_come_back() {
        let fields: Vec<(u64, u32)> = (0..=64u32)
            .chain([0, 64, 1, 63, 57, 56])
            .map(|len| (0x9e37_79b9_7f4a_7c15u64.checked_shr(64 - len).unwrap_or(0), len))
            .collect();
        let mut writer = BitWriter::default();
        for (i, &(value, len)) in fields.iter().enumerate() {
            writer.put(value, len);
            writer.put_gamma(i as u64 + 1);
        }
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        for (i, &(value, len)) in fields.iter().enumerate() {
            assert_eq!(reader.take(len, "test").unwrap(), value);
            assert_eq!(reader.take_gamma("test").unwrap(), i as u64 + 1);
        }
        assert_eq!(reader.used("test").unwrap(), bytes.len());
        assert!(reader.take(8, "test").is_err());
    }
}
