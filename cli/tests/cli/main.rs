//! The command, by its behaviour: arguments in, exit code, output and files out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod contract;
mod failures;
mod help;
mod interrupts;
mod json;
mod run;
mod selection;
#[cfg(feature = "eval")]
mod sweep;
