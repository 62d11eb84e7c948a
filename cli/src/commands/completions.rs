//! `delta-dct completions`: scripts for shells.

use std::io;
use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::failure::Outcome;

/// Print the completion script of a shell
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

const AFTER_HELP: &str = "\
Examples:
  delta-dct completions bash > ~/.local/share/bash-completion/completions/delta-dct
  delta-dct completions zsh > ~/.zfunc/_delta-dct
  delta-dct completions fish > ~/.config/fish/completions/delta-dct.fish";

/// Runs the command.
pub(crate) fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "delta-dct", &mut script);
    Ok(io::stdout().write_all(&script)?)
}
