//! Any bytes as a `.ddct` file, and as a record: nothing may panic, hang or take much memory.
//!
//! Start from the golden files: `cargo +nightly fuzz run decode fuzz/corpus/decode core/tests/golden`.
#![no_main]

use std::io::Write;

use delta_dct::{Archive, Dtype, Silent, TensorView, decode_tensor};
use libfuzzer_sys::fuzz_target;

const SHAPE: [usize; 2] = [12, 17];

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a full disk");
    if let Ok(archive) = Archive::open(file.path()) {
        let _ = (archive.info(), archive.files(), archive.tensors());
        let _ = archive.verify(None, &Silent);
    }
    let bytes = [0; SHAPE[0] * SHAPE[1] * 4];
    let base = TensorView { dtype: Dtype::F32, shape: &SHAPE, bytes: &bytes };
    let mut out = [0; SHAPE[0] * SHAPE[1] * 4];
    let _ = decode_tensor("weight", data, Some(base), &mut out);
});
