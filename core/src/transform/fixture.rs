//! Recorded outputs of the predecessor, for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// The tensors of a file, as shape and values.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The f32 tensors of a file of `shared/fixtures/codec`, and the i8 ones, widened; `None` (and a note) where the
/// folder does not exist, unless `DELTA_DCT_REQUIRE_SHARED=1`.
pub(crate) fn tensors(file: &str) -> Option<Tensors> {
    let bytes = std::fs::read(path(file)?).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |dtype: Dtype, bytes: &[u8]| match dtype {
        Dtype::F32 => {
            Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        Dtype::I8 => Some(bytes.iter().map(|&b| f32::from(b as i8)).collect()),
        _ => None,
    };
    let numbers = file.iter().filter_map(|(name, view)| {
        Some((name.to_owned(), (view.shape().to_vec(), values(view.dtype(), view.data())?)))
    });
    Some(numbers.collect())
}

/// A JSON file of the same folder.
pub(crate) fn json(file: &str) -> Option<serde_json::Value> {
    Some(serde_json::from_slice(&std::fs::read(path(file)?).unwrap()).unwrap())
}

fn path(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/codec").join(file);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var("DELTA_DCT_REQUIRE_SHARED").as_deref() != Ok("1"),
        "{} does not exist",
        path.display()
    );
    println!("skipped: {} does not exist", path.display());
    None
}
