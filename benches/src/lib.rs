//! What the benchmark programs share: shapes of a model and weights by seed.

mod llama;
mod weights;

pub use llama::Llama;
pub use weights::{Tensor, hash_name};
