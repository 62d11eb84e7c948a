//! `delta-dct verify`: whether a file is whole, and gives the right weights with a base.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct::{ErrorKind, Verified};
use serde::Serialize;

use super::apply::WRONG_BASE;
use crate::failure::{Advise, Outcome};
use crate::place;
use crate::progress::Bar;
use crate::run_args::{FileArgs, ReportArgs, WorkArgs};
use crate::units;

/// Check a .ddct file, and with --base also the weights that it gives
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Base model: decode every tensor and compare it with the digest of what compress saw
    #[arg(short, long, value_name = "PATH")]
    base: Option<PathBuf>,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
}

const AFTER_HELP: &str = "\
Without --base the checksums of the file and of every record are checked. Nothing is written. \
The exit code is 0 if all is well, 4 if the file is damaged, 6 if the base is another one.

Examples:
  delta-dct verify X.ddct
  delta-dct verify X.ddct --base B
  delta-dct verify -q X.ddct && echo fine";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a str,
    #[serde(flatten)]
    verified: &'a Verified,
}

/// Runs the command.
pub(crate) fn run(args: &VerifyArgs) -> Outcome {
    args.work.start()?;
    let archive = args.file.open(args.report.quiet)?;
    let base = args.base.as_deref().map(|base| place::checkpoint(base, args.report.quiet)).transpose()?;
    let bar = Bar::new(args.report.quiet);
    let verified = archive.verify(base.as_ref(), &bar).advise(ErrorKind::Mismatch, WRONG_BASE)?;
    drop(bar);
    let file = args.file.file.to_string_lossy();
    let report = Report { file: &file, verified: &verified };
    args.report.print(&report, |out| write_report(out, &report))
}

fn write_report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let verified = report.verified;
    let tensors = units::plural(verified.tensors, "tensor");
    let seconds = units::seconds(verified.seconds);
    if verified.decoded {
        writeln!(out, "{}: OK, {tensors} decoded, each as compress saw it, in {seconds}", report.file)
    } else {
        writeln!(out, "{}: OK, the checksums of {tensors} are right, in {seconds}", report.file)?;
        writeln!(out, "With --base the decoded weights are checked, too.")
    }
}
