//! Many recipes on many pairs of models: what the file of each weighs, and what the model that it gives is worth.
//!
//! | place | what |
//! |---|---|
//! | `definition.rs` | a TOML file to pairs and cells |
//! | `fingerprint.rs` | a digest of models, data and options, to tell when they have changed |
//! | `run.rs` | one cell: compress, weigh, reconstruct, judge |
//! | `predecessor.rs` | the size as the Python predecessor counted it |
//! | `row.rs` | what is known about a pair and about a run |
//! | `ledger.rs` | the folder that keeps it, line by line, so that a sweep can go on where it stopped |
//! | `export.rs`, `parquet.rs` | the rows as CSV, JSON and Parquet |
//! | `best.rs` | which run to take |

mod best;
mod definition;
mod export;
mod fingerprint;
mod ledger;
#[cfg(feature = "parquet")]
mod parquet;
mod predecessor;
mod row;
mod run;

pub use best::{Best, Pick, best, front, pick};
pub use definition::{Cell, Pair, Sweep};
pub use export::{COLUMNS, Run, Values, export};
pub use fingerprint::fingerprint;
pub use ledger::{Ledger, Results};
pub use predecessor::{Counted, predecessor_count};
pub use row::{FailedRow, PairRow, Row, TensorError, short_recipe};
pub use run::{RunOptions, run};
