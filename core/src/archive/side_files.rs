//! Files that lie beside the weights: config, tokenizer and the like.

use std::io::Read;
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::container::digest;
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// A side file may not grow beyond this when it is unpacked.
const MAX_BYTES: u64 = 64 << 20;
const LEVEL: i32 = 19;

/// The entry of a file: the digest of one of the same name beside the base if they are equal, else the content.
pub(super) fn encode(content: &[u8], name: &str, base: &Checkpoint) -> Result<Vec<u8>> {
    let mut out = Writer::default();
    if same_in_base(name, base).is_some_and(|other| other == content) {
        out.u8(1);
        out.u64(digest(content));
        return Ok(out.0);
    }
    out.u8(0);
    out.0.extend(pack(content)?);
    Ok(out.0)
}

/// The content of the file from its entry.
pub(super) fn decode(entry: &[u8], name: &str, base: &Checkpoint) -> Result<Vec<u8>> {
    let mut input = Reader(entry);
    match input.u8("side file")? {
        0 => unpack(input.0),
        1 => {
            let expected = input.u64("digest of a side file")?;
            let wrong =
                || Error::mismatch(format!("{name} has to lie beside the base, as it did at compress"));
            same_in_base(name, base).filter(|content| digest(content) == expected).ok_or_else(wrong)
        }
        kind => Err(Error::unsupported(format!("side file kind {kind} is not known to this version"))),
    }
}

/// zstd with a bounded result.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let corrupt = |e: std::io::Error| Error::corrupt(format!("zstd: {e}"));
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(corrupt)?;
    decoder.window_log_max(MAX_BYTES.ilog2()).map_err(corrupt)?;
    let (mut content, mut part) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let n = decoder.read(&mut part).map_err(corrupt)?;
        if n == 0 {
            return Ok(content);
        }
        if content.len() + n > MAX_BYTES as usize {
            return Err(Error::limit(format!("a side file unpacks to more than {MAX_BYTES} bytes")));
        }
        content.extend(part.iter().take(n));
    }
}

pub(super) fn pack(content: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(content, LEVEL).map_err(|e| Error::corrupt(format!("zstd: {e}")))
}

fn same_in_base(name: &str, base: &Checkpoint) -> Option<Vec<u8>> {
    let file = base.side_files().iter().find(|file| file.name == name)?;
    std::fs::read(&file.path).ok()
}

/// The content of a file of the fine-tuned model.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read", path, e))
}
