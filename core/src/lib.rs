//! Stores a fine-tuned model as a very small file against its base model, and gives the weights back.
#![forbid(unsafe_code)]

mod archive;
mod checkpoint;
mod codec;
mod container;
mod delta;
mod entropy;
mod error;
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
    Applied, Archive, CompressOptions, Info, Progress, Silent, Summary, TensorSummary, Verified, compress,
};
pub use checkpoint::{Checkpoint, CheckpointWriter, Layout, Shard, SideFile};
pub use error::{Error, ErrorKind, Result};
pub use method::{METHODS, Method, Recipe, Selection};
pub use pair::{Link, Pairing, Relation, Rename, pair};
pub use plan::{Plan, Rescale};
pub use quantize::{Importance, MinMax, Quantizer, Strategy, Uniform};
pub use tensor::{Dtype, TensorInfo, TensorView};
pub use tensor_codec::{decode_tensor, encode_tensor};
pub use transform::{Keep, Lattice, Table, Transform, Wavelet};
