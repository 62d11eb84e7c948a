//! What the benchmark programs share: shapes of a model, weights by seed, and the resident memory of the process.

mod llama;
mod process;
mod weights;

pub use llama::Llama;
pub use process::{cpu_seconds, peak_resident, reset_peak};
pub use weights::{Tensor, hash_name};
