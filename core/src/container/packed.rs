//! zstd, with bounded results, and optionally with a prefix: bytes that both sides have (FORMAT.md, "Conventions").

use std::io::{Read, Write};

use crate::error::{Error, Result};

/// Packed data may not grow beyond this.
pub(crate) const MAX_PACKED: usize = 64 << 20;
/// zstd's level where the bytes are to last; one that is nearly as good where there are few, seven times as fast; and the
/// one that tells how many there would be.
pub(crate) const BEST: i32 = 19;
pub(crate) const GOOD: i32 = 12;
pub(crate) const QUICK: i32 = 3;

/// `content` as one zstd frame that may refer to `prefix`.
pub(crate) fn pack(content: &[u8], prefix: &[u8], level: i32) -> Result<Vec<u8>> {
    let pack = || {
        let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), level, prefix)?;
        encoder.set_pledged_src_size(Some(content.len() as u64))?;
        if !prefix.is_empty() {
            // What lies outside of the window cannot be referred to.
            let reach = (prefix.len() + content.len()).next_power_of_two().clamp(1 << 10, MAX_PACKED);
            encoder.window_log(reach.ilog2())?;
        }
        encoder.write_all(content)?;
        encoder.finish()
    };
    pack().map_err(corrupt)
}

/// The content of [`pack`]ed bytes. Errors: Corrupt, Limit (more than [`MAX_PACKED`]).
pub(crate) fn unpack(packed: &[u8], prefix: &[u8]) -> Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(packed, prefix).map_err(corrupt)?;
    decoder.window_log_max(MAX_PACKED.ilog2()).map_err(corrupt)?;
    let (mut content, mut part) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let n = decoder.read(&mut part).map_err(corrupt)?;
        if n == 0 {
            return Ok(content);
        }
        if content.len() + n > MAX_PACKED {
            return Err(Error::limit(format!("packed data unpack to more than {MAX_PACKED} bytes")));
        }
        content.extend(part.iter().take(n));
    }
}

fn corrupt(error: std::io::Error) -> Error {
    Error::corrupt(format!("zstd: {error}"))
}
