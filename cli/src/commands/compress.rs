//! `delta-dct compress`: base and fine-tuned model to one small file.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct::{CompressOptions, Enhancement, Summary, TensorSummary, compress, compress_layers};
use serde::Serialize;

use crate::failure::Outcome;
use crate::groups::{Group, groups};
use crate::method_args::SelectionArgs;
use crate::place;
use crate::plans::Plans;
use crate::progress::Bar;
use crate::run_args::{ReportArgs, WorkArgs};
use crate::table::Columns;
use crate::units;

/// Notes that are printed without `-v` (one more, rather than a line that says so).
const MAX_NOTES: usize = 8;

/// Compress a fine-tuned model against its base into one .ddct file
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CompressArgs {
    /// Base model: a folder, or a .safetensors, .index.json or .bin file
    #[arg(short, long, value_name = "PATH")]
    base: PathBuf,
    /// Fine-tuned model: a folder, or a .safetensors, .index.json or .bin file
    #[arg(short, long, value_name = "PATH")]
    finetuned: PathBuf,
    /// File to write [default: the name of the fine-tuned model with .ddct, in the current folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write a second file beside it, X.exact.ddct for X.ddct, by which the model comes back bit for bit
    #[arg(long)]
    layers: bool,
    /// Overwrite the output
    #[arg(long)]
    force: bool,
    /// Compress models that seem to be unrelated anyway
    #[arg(long)]
    force_unrelated: bool,
    /// Do all the work, but keep no file: the sizes are exact
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// Print a row per tensor, and all notes
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

const AFTER_HELP: &str = "\
Matrices are stored by the chosen method, 1-D tensors by a fine uniform quantiser. So are, with auto and factors, matrices of \
classification heads and those that the base does not have; other methods store heads and what is new exactly, and \
--exclude does so for all that matches. Side files (config, tokenizer) travel inside the file. In the table, bpw is \
bits per weight, and rel. error is \
||result - finetuned||^2 / ||finetuned - base||^2: 0 is exact, 1 is as far off as the base itself (or as zeros, where \
there is none).

Examples:
  delta-dct compress --base bert/ --finetuned bert-sst2/
  delta-dct compress --base B --finetuned F -o X.ddct --ratio 500
  delta-dct compress --base B --finetuned F -o X.ddct --lossless
  delta-dct compress --base B --finetuned F -o X.ddct --quality small --layers
  delta-dct compress --base B --finetuned F -o X.ddct --method dct --block 32 --bits 2:0.5,0:0.5
  delta-dct compress --base B --finetuned F -o X.ddct --method bitdelta --rule '*.embed*=zero'
  delta-dct compress --base B --finetuned F --dry-run --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    output: Option<&'a str>,
    ratio: f64,
    bpw: Option<f64>,
    mb_per_s: f64,
    groups: Vec<Group>,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Runs the command.
pub(crate) fn run(args: &CompressArgs) -> Outcome {
    let selection = args.selection.selection()?;
    args.work.start()?;
    let base = place::checkpoint(&args.base, args.report.quiet)?;
    let finetuned = place::checkpoint(&args.finetuned, args.report.quiet)?;
    let output = match &args.output {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{}.ddct", units::stem(&args.finetuned, "model"))),
    };
    let options = CompressOptions {
        selection,
        force_unrelated: args.force_unrelated,
        overwrite: args.force,
        dry_run: args.dry_run,
    };
    let bar = Bar::new(args.report.quiet);
    let compress = if args.layers { compress_layers } else { compress };
    let summary = compress(&base, &finetuned, &output, &options, &bar)?;
    drop(bar);
    let name = output.to_string_lossy();
    let report = Report {
        output: (!args.dry_run).then_some(&*name),
        ratio: summary.finetuned_bytes as f64 / summary.output_bytes.max(1) as f64,
        bpw: units::bits_per_weight(summary.output_bytes, summary.weights),
        mb_per_s: summary.finetuned_bytes as f64 / 1e6 / summary.seconds.max(1e-9),
        groups: groups(&summary.tensors),
        summary: &summary,
    };
    args.report.print(&report, |out| write_report(out, &report, &name, args.verbose))
}

fn write_report(out: &mut dyn Write, report: &Report, name: &str, verbose: bool) -> io::Result<()> {
    let summary = report.summary;
    if verbose {
        let plans = Plans::of(&summary.tensors);
        tensor_table(&summary.tensors, &plans).write(out)?;
        writeln!(out)?;
        plans.write(out)?;
        writeln!(out)?;
    }
    group_table(report).write(out)?;
    writeln!(out)?;
    writeln!(
        out,
        "{name}: {} smaller, {} of {}, {} bits per weight, in {} ({})",
        units::ratio(summary.finetuned_bytes, summary.output_bytes),
        units::bytes(summary.output_bytes),
        units::bytes(summary.finetuned_bytes),
        units::bpw(summary.output_bytes, summary.weights),
        units::seconds(summary.seconds),
        units::speed(summary.finetuned_bytes, summary.seconds),
    )?;
    if let Some(enhancement) = &summary.enhancement {
        write_enhancement(out, enhancement, summary, name)?;
    }
    for note in notes(summary, verbose) {
        writeln!(out, "note: {note}")?;
    }
    if report.output.is_none() {
        writeln!(out, "dry run: nothing was written, the sizes are exact")?;
    }
    Ok(())
}

fn write_enhancement(
    out: &mut dyn Write,
    second: &Enhancement,
    first: &Summary,
    name: &str,
) -> io::Result<()> {
    let both = first.output_bytes + second.bytes;
    writeln!(
        out,
        "{}: {}, the rest of {}, bit for bit; with {name} {}, {} smaller",
        second.output,
        units::bytes(second.bytes),
        units::plural(second.tensors, "tensor"),
        units::bytes(both),
        units::ratio(first.finetuned_bytes, both),
    )
}

/// A row per group of tensors, then what else the file holds, so that the column of bytes adds up to the file.
fn group_table(report: &Report) -> Columns {
    let summary = report.summary;
    let mut table = Columns::new(["<group", "tensors", "weights", "bytes", "bpw", "rel. error"]);
    for group in &report.groups {
        table.row(cells(group, group.bytes));
    }
    let total = Group::of("total", &summary.tensors);
    let files = summary.files.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let mut extra = |name: &str, bytes: u64| {
        let empty = String::new;
        table.row([name.to_owned(), empty(), empty(), units::count(bytes), empty(), empty()]);
    };
    if files > 0 {
        extra("side files", files);
    }
    extra("header", summary.output_bytes.saturating_sub(total.bytes + files));
    table.total(cells(&total, summary.output_bytes));
    table
}

fn cells(group: &Group, bytes: u64) -> [String; 6] {
    [
        group.group.to_owned(),
        units::count(group.tensors as u64),
        units::count(group.weights),
        units::count(bytes),
        units::bpw(bytes, group.weights),
        units::relative_error(group.relative_error),
    ]
}

/// A row per tensor.
fn tensor_table(tensors: &[TensorSummary], plans: &Plans) -> Columns {
    let header = ["<tensor", "<dtype", "shape", "<kind", "<relation", "bytes", "bpw", "rel. error", "plan"];
    let mut table = Columns::new(header);
    for tensor in tensors {
        table.row([
            tensor.name.clone(),
            tensor.dtype.clone(),
            units::shape(&tensor.shape),
            tensor.kind.to_string(),
            tensor.relation.to_string(),
            units::count(tensor.bytes),
            units::bpw(tensor.bytes, tensor.weights),
            units::relative_error(tensor.relative_error),
            plans.number(&tensor.plan),
        ]);
    }
    table
}

/// Everything odd about the pair, one sentence each.
fn notes(summary: &Summary, verbose: bool) -> Vec<String> {
    let skipped = |(name, bytes): &(String, u64)| format!("{name} ({}) is not carried", units::bytes(*bytes));
    let mut notes = summary.notes.clone();
    notes.extend(summary.skipped_files.iter().map(skipped));
    if !verbose && notes.len() > MAX_NOTES + 1 {
        let more = notes.len() - MAX_NOTES;
        notes.truncate(MAX_NOTES);
        notes.push(format!("and {more} more like these (-v prints them all)"));
    }
    notes
}
