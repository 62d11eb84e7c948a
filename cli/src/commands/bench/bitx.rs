//! The published way of exact deltas, to compare with: XOR with the base, byte planes, zstd of level 3 (BitX in ZipLLM,
//! arXiv:2505.06252).

use delta_dct::{Error, Result};

const LEVEL: i32 = 3;

/// Packs `finetuned`, elements of `size` bytes, against as many bytes of `base`: for each plane its length and its frame.
pub(super) fn encode(base: &[u8], finetuned: &[u8], size: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut plane = vec![0; finetuned.len() / size];
    for p in 0..size {
        let elements = base.chunks_exact(size).zip(finetuned.chunks_exact(size));
        plane.iter_mut().zip(elements).for_each(|(to, (b, f))| *to = b[p] ^ f[p]);
        let frame = zstd::bulk::compress(&plane, LEVEL).map_err(|e| Error::invalid(format!("zstd: {e}")))?;
        out.extend((frame.len() as u64).to_le_bytes());
        out.extend(frame);
    }
    Ok(out)
}

/// Fills `out`, elements of `size` bytes.
pub(super) fn decode(base: &[u8], packed: &[u8], size: usize, out: &mut [u8]) -> Result<()> {
    let cut = || Error::invalid("a plane is cut off");
    let (mut rest, mut plane) = (packed, vec![0; out.len() / size]);
    for p in 0..size {
        let (len, frames) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let (frame, later) = frames.split_at_checked(u64::from_le_bytes(*len) as usize).ok_or_else(cut)?;
        rest = later;
        let unpacked = zstd::bulk::decompress_to_buffer(frame, &mut plane);
        unpacked.map_err(|e| Error::invalid(format!("zstd: {e}")))?;
        let elements = out.chunks_exact_mut(size).zip(base.chunks_exact(size));
        elements.zip(&plane).for_each(|((to, b), x)| to[p] = b[p] ^ x);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_width_comes_back() {
        let base: Vec<u8> = (0..4800).map(|i| (i * 7) as u8).collect();
        let finetuned: Vec<u8> = base.iter().enumerate().map(|(i, b)| b ^ (i % 3) as u8).collect();
        for size in [1, 2, 4, 8] {
            let packed = encode(&base, &finetuned, size).unwrap();
            let mut back = vec![0; base.len()];
            decode(&base, &packed, size, &mut back).unwrap();
            assert_eq!(back, finetuned);
            assert!(decode(&base, &packed[..packed.len() - 1], size, &mut back).is_err());
        }
    }
}
