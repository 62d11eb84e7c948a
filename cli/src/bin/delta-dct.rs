//! The program `delta-dct`; the library of this crate is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(delta_dct_cli::run(std::env::args_os()))
}
