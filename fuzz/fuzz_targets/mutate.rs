//! Encodes a tensor by some method, changes the record, decodes it: an error, or the values that were encoded.
#![no_main]

use arbitrary::Arbitrary;
use delta_dct::{Dtype, METHODS, Recipe, TensorView, decode_tensor, encode_tensor};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case {
    method: u8,
    half: bool,
    rows: u8,
    cols: u8,
    base: u64,
    /// The delta, repeated over the tensor.
    delta: Vec<u8>,
    /// (position, xor): changes of the record.
    changes: Vec<(u16, u8)>,
    /// Bytes that the record is cut to.
    cut: Option<u16>,
}

impl Case {
    /// The elements of the base, or of the fine-tuned tensor: their low bytes are those of the delta.
    fn bytes(&self, size: usize, finetuned: bool) -> Vec<u8> {
        let pattern = self.base.to_le_bytes();
        let count = usize::from(self.rows) * usize::from(self.cols) * size;
        let mut bytes: Vec<u8> = (0..count).map(|i| pattern[i % 8]).collect();
        if finetuned && !self.delta.is_empty() {
            for (i, element) in bytes.chunks_exact_mut(size).enumerate() {
                element[0] ^= self.delta[i % self.delta.len()];
            }
        }
        bytes
    }
}

fuzz_target!(|case: Case| {
    let (dtype, size) = if case.half { (Dtype::BF16, 2) } else { (Dtype::F32, 4) };
    let shape = [usize::from(case.rows), usize::from(case.cols)];
    let (base, finetuned) = (case.bytes(size, false), case.bytes(size, true));
    let view = |bytes| TensorView { dtype, shape: &shape, bytes };
    let method = METHODS[usize::from(case.method) % METHODS.len()].name;
    let recipe: Recipe = method.parse().expect("a method's defaults");
    let valid =
        encode_tensor("weight", view(&base), view(&finetuned), &recipe).expect("a pair that can be coded");

    let mut expected = vec![0; finetuned.len()];
    decode_tensor("weight", &valid, Some(view(&base)), &mut expected).expect("a record as it was written");

    let mut record = valid;
    for (at, change) in case.changes {
        let at = usize::from(at) % record.len();
        record[at] ^= change;
    }
    record.truncate(case.cut.map_or(record.len(), usize::from));
    let mut out = vec![0; finetuned.len()];
    if decode_tensor("weight", &record, Some(view(&base)), &mut out).is_ok() {
        assert!(out == expected, "a changed record decodes to other values");
    }
});
