//! Recorded outputs of the predecessor, for tests.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// Tensors by name, as shape and values.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The f32 tensors of a file of `shared/fixtures/codec`; `None` (and a note) where the folder
/// does not exist, unless `DELTA_DCT_REQUIRE_SHARED=1`.
pub(crate) fn tensors(file: &str) -> Option<Tensors> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/codec").join(file);
    if !path.exists() {
        assert!(
            std::env::var("DELTA_DCT_REQUIRE_SHARED").as_deref() != Ok("1"),
            "{} does not exist",
            path.display()
        );
        println!("skipped: {} does not exist", path.display());
        return None;
    }
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let f32s = file.iter().filter(|(_, view)| view.dtype() == Dtype::F32);
    Some(f32s.map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(view.data())))).collect())
}

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
