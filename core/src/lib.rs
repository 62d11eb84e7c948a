//! Stores a fine-tuned model as a very small file against its base model, and gives the weights back.
//!
//! # From a pair of checkpoints to a file and back
//!
//! [`compress`] pairs the tensors of two [`Checkpoint`]s, encodes each as its [`Selection`] says, and writes a `.ddct`
//! file; [`Archive`] opens one, applies it to its base, and verifies it. One tensor, from memory to memory:
//!
//! ```
//! use delta_dct::{Dtype, TensorView, decode_tensor, encode_tensor};
//!
//! # fn main() -> delta_dct::Result<()> {
//! let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
//! let base: Vec<f32> = (0..4096).map(|i| i as f32 / 4096.0).collect();
//! let finetuned: Vec<f32> = base.iter().enumerate().map(|(i, x)| x + 1e-3 * (i % 7) as f32).collect();
//! let (base, finetuned) = (bytes(&base), bytes(&finetuned));
//! let view = |bytes| TensorView { dtype: Dtype::F32, shape: &[64, 64], bytes };
//!
//! let record = encode_tensor("weight", view(&base), view(&finetuned), &"dct block=32 bits=4".parse()?)?;
//! let mut restored = vec![0; finetuned.len()];
//! decode_tensor("weight", &record, Some(view(&base)), &mut restored)?;
//! assert!(record.len() * 5 < finetuned.len());
//! # Ok(())
//! # }
//! ```
//!
//! # The way of one tensor
//!
//! | | place | encode | decode | between the stages |
//! |---|---|---|---|---|
//! | 1 | `checkpoint/` | load | store | a named tensor: dtype, shape, bytes |
//! | 2 | `delta.rs` | diff | apply | a chunk of the delta, `f32` |
//! | 3 | `transform/` | forward | inverse | bands of coefficients |
//! | 4 | `quantize/` | quantize | dequantize | levels, and the parameters of blocks |
//! | 5 | `entropy/` | encode | decode | payload bytes |
//! | 6 | `container/` | write | read | records in a safetensors file |
//!
//! `codec/` runs stages 2 to 5 as a [`Plan`] says, both ways; `tensor_codec.rs` and `reconstruct.rs` turn a tensor into
//! a record and back; `archive/` is the level of files. The bytes of a file are specified in FORMAT.md, and decoded
//! weights to the bit: they do not depend on the machine, the number of threads or the vector unit.
#![forbid(unsafe_code)]

mod archive;
mod checkpoint;
mod codec;
mod container;
mod delta;
mod entropy;
mod error;
mod exact;
mod method;
mod output;
mod pair;
mod plan;
mod planes;
mod quantize;
mod reconstruct;
mod tensor;
mod tensor_codec;
mod text;
mod transform;
mod wire;

pub use archive::{
    Applied, Archive, CompressOptions, Enhancement, FirstLayer, Info, Progress, Silent, Summary,
    TensorSummary, Verified, compress, compress_layers,
};
pub use checkpoint::{Checkpoint, CheckpointWriter, Layout, Shard, SideFile};
pub use error::{Error, ErrorKind, Result};
pub use method::{METHODS, Method, Recipe, Selection, Target};
pub use output::{OutputFolder, write_whole};
pub use pair::{Link, Pairing, Relation, Rename, pair};
pub use plan::{Plan, Rescale};
pub use quantize::{Importance, MinMax, Quantizer, Strategy, Uniform};
pub use tensor::{Dtype, TensorInfo, TensorView};
pub use tensor_codec::{decode_tensor, encode_tensor};
pub use transform::{Keep, Lattice, Table, Transform, Wavelet};
