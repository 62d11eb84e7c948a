//! `delta-dct inspect`: what a file holds, without its base.

use std::io;
use std::io::Write;

use clap::Args;
use delta_dct::{FirstLayer, Info, TensorSummary};
use serde::Serialize;

use crate::failure::Outcome;
use crate::plans::Plans;
use crate::run_args::{FileArgs, ReportArgs};
use crate::table::Columns;
use crate::units;

/// Show what a .ddct file holds; its base is not needed
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    report: ReportArgs,
}

const AFTER_HELP: &str = "\
Kinds of records: delta (coded against the base), base (the tensor is the base's), alias (the tensor is another \
one of the file), exact (bit for bit, against the base), refined (bit for bit, against the first layer), raw (carried \
exactly), alone (coded, without a base). Sizes of an enhancement are those of both files.

Examples:
  delta-dct inspect X.ddct
  delta-dct inspect X.ddct --json | jq '.tensors[] | select(.kind == \"raw\") | .name'";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a str,
    #[serde(flatten)]
    info: &'a Info,
    ratio: f64,
    weights: u64,
    bpw: Option<f64>,
    tensors: &'a [TensorSummary],
    files: Vec<SideFile>,
}

/// A file of the fine-tuned model's folder that travels along.
#[derive(Serialize)]
struct SideFile {
    name: String,
    bytes: u64,
}

/// Runs the command.
pub(crate) fn run(args: &InspectArgs) -> Outcome {
    let archive = args.file.open(args.report.quiet)?;
    let info = archive.info();
    let tensors = archive.tensors()?;
    let weights = tensors.iter().map(|t| t.weights).sum();
    let report = Report {
        file: &args.file.file.to_string_lossy(),
        info: &info,
        ratio: info.finetuned_bytes as f64 / info.bytes.max(1) as f64,
        weights,
        bpw: units::bits_per_weight(info.bytes, weights),
        tensors: &tensors,
        files: archive.files().into_iter().map(|(name, bytes)| SideFile { name, bytes }).collect(),
    };
    args.report.print(&report, |out| write_report(out, &report))
}

fn write_report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let info = report.info;
    let records = report.tensors.iter().map(|t| t.bytes).sum::<u64>();
    let files = report.files.iter().map(|f| f.bytes).sum::<u64>();
    for (name, value) in [
        ("file", report.file.to_owned()),
        ("format", format!("{}, written by {}", info.format_version, info.created_by)),
        ("base", info.base.clone()),
        ("finetuned", info.finetuned.clone()),
        ("recipe", info.recipe.clone()),
        ("size", size(report, records, files)),
        ("layer", info.layer.as_ref().map_or(String::new(), first_layer)),
    ] {
        if !value.is_empty() {
            writeln!(out, "{name:<10} {value}")?;
        }
    }
    writeln!(out)?;
    let plans = Plans::of(report.tensors);
    tensor_table(report, records, &plans).write(out)?;
    writeln!(out)?;
    plans.write(out)?;
    if !report.files.is_empty() {
        writeln!(out)?;
        let mut table = Columns::new(["<side file", "bytes"]);
        for file in &report.files {
            table.row([file.name.clone(), units::count(file.bytes)]);
        }
        table.write(out)?;
    }
    Ok(())
}

fn first_layer(layer: &FirstLayer) -> String {
    format!("{}, {} of these bytes", layer.file, units::count(layer.bytes))
}

fn size(report: &Report, records: u64, files: u64) -> String {
    let bytes = report.info.bytes;
    format!(
        "{} bytes, {} smaller than {}: records {}, side files {}, header {}",
        units::count(bytes),
        units::ratio(report.info.finetuned_bytes, bytes),
        units::bytes(report.info.finetuned_bytes),
        units::count(records),
        units::count(files),
        units::count(bytes.saturating_sub(records + files)),
    )
}

fn tensor_table(report: &Report, records: u64, plans: &Plans) -> Columns {
    let mut table = Columns::new(["<tensor", "<dtype", "shape", "<kind", "bytes", "bpw", "plan"]);
    for tensor in report.tensors {
        table.row([
            tensor.name.clone(),
            tensor.dtype.clone(),
            units::shape(&tensor.shape),
            tensor.kind.to_string(),
            units::count(tensor.bytes),
            units::bpw(tensor.bytes, tensor.weights),
            plans.number(&tensor.plan),
        ]);
    }
    table.total([
        units::plural(report.tensors.len(), "tensor"),
        String::new(),
        units::count(report.weights),
        String::new(),
        units::count(records),
        units::bpw(records, report.weights),
        String::new(),
    ]);
    table
}
