//! Tensors carried exactly: byte planes, each packed as well as an order-0 model can (FORMAT.md, "Raw planes").
//!
//! Byte `p` of every element forms plane `p`: exponents and signs gather in the high planes, which repeat themselves.

use crate::entropy::{Model, histogram};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

/// Symbols that one model and stream cover.
const PIECE: usize = 1 << 20;

/// Packs `bytes`, elements of `size` bytes each.
pub(crate) fn encode(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = Writer::default();
    for piece in bytes.chunks(PIECE * size) {
        for plane in 0..size {
            let symbols: Vec<u8> = piece.iter().skip(plane).step_by(size).copied().collect();
            let model = Model::fit(&histogram(&symbols), 1);
            let mut stream = Vec::new();
            model.encode(&symbols, &mut stream);
            model.write(&mut out);
            out.bytes(&stream);
        }
    }
    out.0
}

/// Unpacks `len` bytes, elements of `size` bytes each, piece by piece into `sink`.
pub(crate) fn decode(
    packed: &[u8],
    size: usize,
    len: usize,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut input = Reader(packed);
    let pieces = len.div_ceil(PIECE * size);
    if pieces.saturating_mul(size) > packed.len() {
        return Err(Error::truncated("the raw planes"));
    }
    let mut left = len;
    for _ in 0..pieces {
        let mut piece = vec![0; left.min(PIECE * size)];
        left -= piece.len();
        for plane in 0..size {
            let model = Model::read(&mut input)?;
            let mut symbols = vec![0; piece.len() / size];
            model.decode(input.bytes("raw plane")?, &mut symbols)?;
            piece.iter_mut().skip(plane).step_by(size).zip(symbols).for_each(|(byte, symbol)| *byte = symbol);
        }
        sink(&piece)?;
    }
    input.finish("raw planes")
}
