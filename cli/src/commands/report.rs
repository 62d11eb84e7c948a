//! `delta-dct report`: a sweep as one HTML file.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct::write_whole;
use delta_dct_eval::report::{html, markdown};
use delta_dct_eval::sweep::Results;

use super::best::RuleArgs;
use crate::failure::Outcome;

/// Write the plots and tables of a sweep as one HTML file
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ReportArgs {
    /// Folder of a sweep
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// File to write
    #[arg(short, long, default_value = "report.html", value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the output
    #[arg(long)]
    force: bool,
    /// Print the tables of the default codec beside the other methods as Markdown, and write no file
    #[arg(long, conflicts_with_all = ["output", "force", "threshold"])]
    markdown: bool,
    #[command(flatten)]
    rule: RuleArgs,
}

const AFTER_HELP: &str = "\
The file needs nothing else: no network, no other file. It holds, for each pair, KL and accuracy against bytes, all runs, \
each run of the default codec beside the best of the other methods with at most a tenth more bytes, the relative error of each matrix, and the commands that repeat them.

Examples:
  delta-dct report demo-sweep
  delta-dct report demo-sweep -o report.html --force
  delta-dct report demo-sweep --markdown";

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Outcome {
    let results = Results::read(&args.dir)?;
    if args.markdown {
        return Ok(io::stdout().write_all(markdown(&results)?.as_bytes())?);
    }
    let page = html(&results, &args.dir, args.rule.share())?;
    Ok(write_whole(&args.output, page.as_bytes(), args.force)?)
}
