//! One file per subcommand, each with its options, its help page and `run`.

pub(crate) mod apply;
pub(crate) mod bench;
#[cfg(feature = "eval")]
pub(crate) mod best;
pub(crate) mod completions;
pub(crate) mod compress;
pub(crate) mod demo;
#[cfg(feature = "eval")]
pub(crate) mod eval;
#[cfg(feature = "eval")]
pub(crate) mod finetune;
pub(crate) mod inspect;
pub(crate) mod methods;
#[cfg(feature = "eval")]
pub(crate) mod report;
#[cfg(feature = "hub")]
pub(crate) mod search;
#[cfg(feature = "eval")]
pub(crate) mod sweep;
#[cfg(feature = "eval")]
pub(crate) mod tune;
pub(crate) mod verify;
