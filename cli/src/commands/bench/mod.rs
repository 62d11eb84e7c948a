//! `delta-dct bench`: how fast and how small the methods are, from memory to memory.

mod bitx;
mod measure;
mod sample;

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct::{Checkpoint, METHODS};
use serde::Serialize;

use crate::failure::Outcome;
use crate::method_args;
use crate::run_args::{ReportArgs, start_threads};
use crate::table::Columns;
use crate::units;
use measure::{Bench, Coder, Measured};
use sample::{Element, Sample};

/// Measure size, error and speed of the methods in memory
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BenchArgs {
    /// Base model of a real pair; without one, the pair is synthetic
    #[arg(short, long, value_name = "PATH", requires = "finetuned")]
    base: Option<PathBuf>,
    /// Fine-tuned model of a real pair
    #[arg(short, long, value_name = "PATH", requires = "base")]
    finetuned: Option<PathBuf>,
    /// Methods or recipes to measure; may be given again [default: every method]
    #[arg(short, long = "method", value_name = "RECIPE")]
    methods: Vec<String>,
    /// Round the real pair to this type first
    #[arg(long, value_name = "TYPE", requires = "base")]
    cast: Option<Element>,
    /// Measure XOR, byte planes and zstd of level 3 (BitX) too, which is exact
    #[arg(long)]
    bitx: bool,
    /// Runs; the median counts
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Worker threads
    #[arg(short = 'T', long, default_value_t = 1, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    synthetic: SyntheticArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// The synthetic pair: one matrix per thread.
#[derive(Args)]
#[command(next_help_heading = "Synthetic pair (Gaussian, one matrix per thread)")]
struct SyntheticArgs {
    /// Rows of a matrix
    #[arg(long, default_value_t = 1024, value_name = "N", conflicts_with = "base")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    rows: u32,
    /// Columns of a matrix
    #[arg(long, default_value_t = 1024, value_name = "N", conflicts_with = "base")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    cols: u32,
    /// Type of the weights
    #[arg(long, default_value = "f32", value_name = "TYPE", conflicts_with = "base")]
    dtype: Element,
}

const AFTER_HELP: &str = "\
Speeds are bytes of the fine-tuned tensors per second, in GB/s (1 GB is 1,000,000,000 bytes), and then as a share of \
the speed of a plain memory copy of the same bytes in the same run. Of a real pair every tensor with two or more \
dimensions that both models have in the same shape is measured; it is read into memory first.

Examples:
  delta-dct bench
  delta-dct bench --method dct --method 'dct block=8' --runs 9
  delta-dct bench --base B --finetuned F --cast bf16 --method lossless --bitx
  delta-dct bench --base B --finetuned F --threads 2 --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    tensors: usize,
    weights: u64,
    bytes: u64,
    threads: usize,
    runs: u32,
    memory_copy_gb_per_s: f64,
    methods: Vec<Measured>,
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> Outcome {
    let texts = match args.methods.as_slice() {
        [] => METHODS.iter().map(|method| method.name.to_owned()).collect(),
        given => given.to_vec(),
    };
    let recipes = texts.iter().map(|text| method_args::recipe(text)).collect::<Outcome<Vec<_>>>()?;
    start_threads(args.threads)?;
    let samples = match (&args.base, &args.finetuned) {
        (Some(base), Some(finetuned)) => {
            sample::of_pair(&Checkpoint::open(base)?, &Checkpoint::open(finetuned)?, args.cast)?
        }
        _ => sample::synthetic(args.synthetic.shape(), args.synthetic.dtype, args.threads)?,
    };
    let mut bench = Bench::new(&samples, args.runs);
    let mut report = Report {
        tensors: samples.len(),
        weights: samples.iter().map(Sample::weights).sum(),
        bytes: bench.bytes(),
        threads: args.threads,
        runs: args.runs,
        memory_copy_gb_per_s: bench.memory_copy()?,
        methods: Vec::new(),
    };
    for (text, recipe) in texts.into_iter().zip(&recipes) {
        report.methods.push(bench.measure(text, Coder::Recipe(recipe))?);
    }
    if args.bitx {
        report.methods.push(bench.measure("xor, planes, zstd-3".to_owned(), Coder::Bitx)?);
    }
    args.report.print(&report, |out| write_report(out, &report))
}

impl SyntheticArgs {
    fn shape(&self) -> [usize; 2] {
        [self.rows as usize, self.cols as usize]
    }
}

fn write_report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    writeln!(
        out,
        "{} with {} weights, {}; {}, median of {}; memory copy {:.2} GB/s",
        units::plural(report.tensors, "tensor"),
        units::count(report.weights),
        units::bytes(report.bytes),
        units::plural(report.threads, "thread"),
        units::plural(report.runs as usize, "run"),
        report.memory_copy_gb_per_s,
    )?;
    writeln!(out)?;
    let header =
        ["<method", "bytes", "bpw", "rel. error", "compress GB/s", "of copy", "apply GB/s", "of copy"];
    let mut table = Columns::new(header);
    for row in &report.methods {
        table.row([
            row.method.clone(),
            units::count(row.bytes),
            units::bpw(row.bytes, report.weights),
            units::relative_error((row.relative_error > 0.0).then_some(row.relative_error)),
            format!("{:.2}", row.compress_gb_per_s),
            format!("{:.2}", row.compress_to_copy),
            format!("{:.2}", row.apply_gb_per_s),
            format!("{:.2}", row.apply_to_copy),
        ]);
    }
    table.write(out)
}
