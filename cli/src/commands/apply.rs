//! `delta-dct apply`: base model and file to the fine-tuned model.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct::{Applied, ErrorKind};
use serde::Serialize;

use crate::failure::{Advise, Outcome};
use crate::place;
use crate::progress::Bar;
use crate::run_args::{FileArgs, ReportArgs, WorkArgs};
use crate::units;

/// Advice for commands that are given a base which does not fit the file.
pub(crate) const WRONG_BASE: &str =
    "--base must be the base model that the file was made with; `inspect` shows its name";

/// Give the fine-tuned model back from its base and a .ddct file
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Base model that the file was made with: a folder, or a .safetensors, .index.json or .bin file
    #[arg(short, long, value_name = "PATH")]
    base: PathBuf,
    /// Folder to write, or a .safetensors file for the weights alone [default: a folder in the current one, named
    /// like FILE without .ddct]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Overwrite the output
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// Print the names of the files
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

const AFTER_HELP: &str = "\
The result has the tensors, dtypes, shards, metadata and side files of the fine-tuned model. Every tensor is \
compared with the digest of what compress saw before the result appears under its name. X.exact.ddct, the \
enhancement that `compress --layers` writes, gives the fine-tuned model bit for bit, from itself and X.ddct beside it.

Examples:
  delta-dct apply --base B X.ddct -o DIR
  delta-dct apply --base B X.ddct -o model.safetensors
  delta-dct apply --base B X.exact.ddct -o DIR
  delta-dct apply --base B X.ddct --force --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a str,
    mb_per_s: f64,
    #[serde(flatten)]
    applied: &'a Applied,
}

/// Runs the command.
pub(crate) fn run(args: &ApplyArgs) -> Outcome {
    args.work.start()?;
    let archive = args.file.open(args.report.quiet)?;
    let base = place::checkpoint(&args.base, args.report.quiet)?;
    let output =
        args.output.clone().unwrap_or_else(|| PathBuf::from(units::stem(&args.file.file, "finetuned")));
    let bar = Bar::new(args.report.quiet);
    let applied = archive.apply(&base, &output, args.force, &bar).advise(ErrorKind::Mismatch, WRONG_BASE)?;
    drop(bar);
    let report = Report {
        output: &output.to_string_lossy(),
        mb_per_s: applied.bytes as f64 / 1e6 / applied.seconds.max(1e-9),
        applied: &applied,
    };
    args.report.print(&report, |out| write_report(out, &report, args.verbose))
}

fn write_report(out: &mut dyn Write, report: &Report, verbose: bool) -> io::Result<()> {
    let applied = report.applied;
    writeln!(
        out,
        "{}: {}, {} in {} ({})",
        report.output,
        units::plural(applied.tensors, "tensor"),
        units::bytes(applied.bytes),
        units::seconds(applied.seconds),
        units::speed(applied.bytes, applied.seconds),
    )?;
    for file in applied.files.iter().filter(|_| verbose) {
        writeln!(out, "  {file}")?;
    }
    Ok(())
}
