//! `delta-dct demo`: every lossy method on a small real pair, through real files.

mod judge;

use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use delta_dct::{Archive, Checkpoint, CompressOptions, Error, METHODS, Selection, Summary, compress};
use serde::Serialize;

use self::judge::{Judge, Worth};
use crate::failure::Outcome;
use crate::groups::Group;
use crate::method_args;
use crate::progress::Bar;
use crate::run_args::{ReportArgs, WorkArgs};
use crate::table::Columns;
use crate::units;

/// Compress, apply and verify the demo pair with every lossy method
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DemoArgs {
    /// Folder with a base model in base/, a fine-tuned one in ft/, and data in eval/test.safetensors
    #[arg(default_value = "demo", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
}

const AFTER_HELP: &str = "\
Files are written to a temporary folder and removed. Bytes and ratio are those of the whole .ddct file against the \
weight files of the fine-tuned model; bpw is bits per weight; rel. error is \
||result - finetuned||^2 / ||finetuned - base||^2. A build with the feature `eval` shows accuracy, too, and KL: the \
mean divergence of the outputs from those of the fine-tuned model, in nats per example.

Examples:
  delta-dct demo
  delta-dct demo path/to/pair --json";

/// What one method made of the pair.
#[derive(Serialize)]
struct Row {
    method: &'static str,
    bytes: u64,
    ratio: f64,
    bpw: Option<f64>,
    relative_error: Option<f64>,
    compress_seconds: f64,
    apply_seconds: f64,
    verified: bool,
    #[serde(flatten)]
    worth: Option<Worth>,
}

/// The base or the fine-tuned model itself.
#[derive(Serialize)]
struct Original {
    role: &'static str,
    #[serde(flatten)]
    worth: Worth,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    base: String,
    finetuned: String,
    finetuned_bytes: u64,
    weights: u64,
    /// Examples that the models were judged on, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    examples: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<Original>,
    methods: Vec<Row>,
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Outcome {
    #[cfg(feature = "eval")]
    crate::model_threads::settle();
    args.work.start()?;
    let (base, finetuned) = (args.dir.join("base"), args.dir.join("ft"));
    let judge = Judge::open(&args.dir)?;
    let mut report = Report {
        base: base.display().to_string(),
        finetuned: finetuned.display().to_string(),
        finetuned_bytes: 0,
        weights: 0,
        examples: judge.examples(),
        models: Vec::new(),
        methods: Vec::new(),
    };
    let (base, finetuned) = (Checkpoint::open(&base)?, Checkpoint::open(&finetuned)?);
    let bar = Bar::new(args.report.quiet);
    for (role, worth) in judge.originals(&bar)? {
        report.models.push(Original { role, worth });
    }
    for method in METHODS.iter().filter(|method| method.name != "raw") {
        let selection = Selection::new(method_args::recipe(method.name)?)?;
        let (row, summary) = try_method(method.name, selection, (&base, &finetuned), &judge, &bar)?;
        (report.finetuned_bytes, report.weights) = (summary.finetuned_bytes, summary.weights);
        report.methods.push(row);
    }
    drop(bar);
    args.report.print(&report, |out| write_report(out, &report))
}

/// Compresses, applies, verifies and judges in a temporary folder that is gone afterwards.
fn try_method(
    method: &'static str,
    selection: Selection,
    (base, finetuned): (&Checkpoint, &Checkpoint),
    judge: &Judge,
    bar: &Bar,
) -> Outcome<(Row, Summary)> {
    let folder = tempfile::tempdir()
        .map_err(|e| Error::io("create a temporary folder in", &std::env::temp_dir(), e))?;
    let (file, restored): (PathBuf, &Path) =
        (folder.path().join("demo.ddct"), &folder.path().join("restored"));
    let options = CompressOptions { selection, force_unrelated: false, overwrite: false, dry_run: false };
    let summary = compress(base, finetuned, &file, &options, bar)?;
    let archive = Archive::open(&file)?;
    let applied = archive.apply(base, restored, false, bar)?;
    let verified = archive.verify(Some(base), bar)?;
    let row = Row {
        method,
        bytes: summary.output_bytes,
        ratio: summary.finetuned_bytes as f64 / summary.output_bytes.max(1) as f64,
        bpw: units::bits_per_weight(summary.output_bytes, summary.weights),
        relative_error: Group::of("total", &summary.tensors).relative_error,
        compress_seconds: summary.seconds,
        apply_seconds: applied.seconds,
        verified: verified.decoded,
        worth: judge.delta(&archive, &file, bar)?,
    };
    Ok((row, summary))
}

fn write_report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    writeln!(
        out,
        "{} against {}: {} weights, {}",
        report.finetuned,
        report.base,
        units::count(report.weights),
        units::bytes(report.finetuned_bytes)
    )?;
    if let Some(examples) = report.examples {
        writeln!(out, "accuracy and KL on {}", units::plural(examples, "example"))?;
    }
    writeln!(out)?;
    table(report).write(out)
}

fn table(report: &Report) -> Columns {
    let judged = report.examples.is_some();
    let header = ["<method", "bytes", "ratio", "bpw", "rel. error", "compress s", "apply s", "<verified"];
    let mut table =
        Columns::new(header.into_iter().chain(judged.then_some(["accuracy", "KL"]).into_iter().flatten()));
    for model in &report.models {
        let blank = std::iter::repeat_n(String::new(), header.len() - 1);
        table.row(std::iter::once(model.role.to_owned()).chain(blank).chain(model.worth.cells()));
    }
    for row in &report.methods {
        let cells = [
            row.method.to_owned(),
            units::count(row.bytes),
            units::ratio(report.finetuned_bytes, row.bytes),
            units::bpw(row.bytes, report.weights),
            units::relative_error(row.relative_error),
            format!("{:.3}", row.compress_seconds),
            format!("{:.3}", row.apply_seconds),
            if row.verified { "yes" } else { "NO" }.to_owned(),
        ];
        table.row(cells.into_iter().chain(row.worth.iter().flat_map(Worth::cells)));
    }
    table
}
