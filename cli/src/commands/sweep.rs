//! `delta-dct sweep`: many recipes on many pairs.

use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use delta_dct::ErrorKind;
use delta_dct_eval::sweep::{
    Ledger, Results, Row, RunOptions, Sweep, export, run as run_sweep, short_recipe,
};

use crate::failure::{Advise, Failure, Outcome, say};
use crate::model_threads;
use crate::place;
use crate::progress::Bar;
use crate::run_args::{ReportArgs, WorkArgs};
use crate::table::Columns;
use crate::units;

/// Try many recipes on many pairs of models, and keep a row for each
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SweepArgs {
    /// TOML file that names pairs, methods and grids
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder for the rows; a sweep that is there already goes on where it stopped
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Run these pairs only: names with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pairs: Vec<String>,
    /// Judge on the first N examples of each pair only, whatever the file says
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Stop after N runs
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Keep the .ddct files, in DIR/deltas
    #[arg(long)]
    keep: bool,
    /// Throw away the rows that DIR has, and begin again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
}

const AFTER_HELP: &str = "\
Each run compresses to a real file, takes its size, and judges the model that it gives. Its row is on disk before the \
next run begins: stop the sweep whenever you like, and start the same command again. A run that cannot be made is kept \
with its `error` and no figures; the others go on, the exit code is 1, and the same command tries it again. At the end all rows are in \
DIR/results.csv, .json and .parquet. Models are loaded once per pair. The ratio of files is followed by the one that the \
Python predecessor counted (a byte per coefficient, and no file).

A sweep file:
  [[pair]]
  name = \"digits\"
  base = \"../demo/base\"          # from the folder of this file, or hf://ORG/NAME
  finetuned = \"../demo/ft\"
  data = \"../demo/eval/test.safetensors\"
  [[grid]]                       # every combination of the lists is a run
  method = [\"dct\", \"dct-jpeg\"]
  block = [16, 32]

Examples:
  delta-dct sweep sweeps/demo.toml -o demo-sweep
  delta-dct sweep sweeps/pairs.toml --pairs vit-cifar10 --limit 300 -o first-look
  delta-dct best demo-sweep
  delta-dct report demo-sweep -o report.html";

/// Runs the command.
pub(crate) fn run(args: &SweepArgs) -> Outcome {
    model_threads::settle();
    args.work.start()?;
    let whole = Sweep::read(&args.file)?;
    let sweep = whole.clone().narrowed(&args.pairs, args.limit)?;
    let mut ledger = Ledger::open(&args.output, args.force)?;
    let changed = ledger.note_sweep(&sweep.text)?;
    let options = RunOptions { runs: args.runs, keep: args.keep };
    let bar = Bar::counting(args.report.quiet);
    let local = |path: &Path, split: Option<&str>| place::data(path, split, false, args.report.quiet);
    let made = run_sweep(&sweep, &mut ledger, options, local, &bar)
        .advise(ErrorKind::Interrupted, "finished runs are kept: the same command goes on from here")?;
    drop(bar);
    let (results, others) = ledger.results().of(&sweep)?;
    for failed in &results.failures {
        say(&format!("warning: {}, {}: {}", failed.pair, short_recipe(&failed.recipe), failed.error));
    }
    let files = export(&ledger.results().of(&whole)?.0, &args.output)?;
    args.report.print(&results, |out| {
        table(&results).write(out)?;
        writeln!(out)?;
        let runs = |n: usize| units::plural(n, "run");
        let missing = sweep.cells.len() - results.rows.len() - results.failures.len();
        write!(out, "{} made now, {} made before", runs(made), results.rows.len() - made)?;
        writeln!(out, "{}", if missing > 0 { format!(", {missing} left") } else { String::new() })?;
        if changed {
            writeln!(
                out,
                "{} is not as it was; {} that it no longer names are left out",
                args.file.display(),
                runs(others)
            )?;
        }
        notes(out, &results)?;
        writeln!(out, "wrote {} in {}", files.join(", "), args.output.display())
    })?;
    match results.failures.len() {
        0 => Ok(()),
        failed => Err(Failure::Runs(failed, failed + results.rows.len())),
    }
}

fn notes(out: &mut dyn Write, results: &Results) -> io::Result<()> {
    for pair in &results.pairs {
        for note in &pair.notes {
            writeln!(out, "{}: {note}", pair.pair)?;
        }
    }
    Ok(())
}

fn table(results: &Results) -> Columns {
    let mut table = Columns::new([
        "<pair",
        "<method",
        "<options",
        "bytes",
        "ratio",
        PREDECESSORS_RATIO,
        "bpw",
        "rel. error",
        measure_name(results),
        "change",
        "KL",
        "agreement",
    ]);
    for row in &results.rows {
        let share =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{:.2}%", 100.0 * value));
        table.row([
            row.pair.clone(),
            row.method.clone(),
            row.options(),
            units::count(row.bytes),
            units::ratio(row.finetuned_bytes, row.bytes),
            predecessors_ratio(row),
            format!("{:.3}", row.bpw),
            units::relative_error(row.relative_error),
            measure(row),
            change(results, row),
            row.quality.kl.map_or(String::new(), |kl| units::relative_error(Some(kl))),
            share(row.quality.agreement),
        ]);
    }
    table
}

/// The column of [`predecessors_ratio`].
pub(super) const PREDECESSORS_RATIO: &str = "predecessor's";

/// The ratio as the predecessor counted it, where it had the method.
pub(super) fn predecessors_ratio(row: &Row) -> String {
    row.predecessor_ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"))
}

/// What [`measure`] gives of these runs.
pub(super) fn measure_name(results: &Results) -> &'static str {
    let language = |row: &&Row| row.quality.perplexity.is_some();
    match results.rows.iter().filter(language).count() {
        0 => "accuracy",
        n if n == results.rows.len() => "perplexity",
        _ => "accuracy | perplexity",
    }
}

/// Accuracy or perplexity of a run.
pub(super) fn measure(row: &Row) -> String {
    match (row.quality.perplexity, row.quality.accuracy) {
        (Some(perplexity), _) => format!("{perplexity:.3}"),
        (None, Some(accuracy)) => format!("{:.2}%", 100.0 * accuracy),
        (None, None) => String::new(),
    }
}

/// Points of accuracy against the fine-tuned model, or percent of perplexity.
pub(super) fn change(results: &Results, row: &Row) -> String {
    let Some(harm) = results.pair(&row.pair).map(|pair| pair.harm(row)).filter(|harm| harm.is_finite())
    else {
        return String::new();
    };
    match row.quality.perplexity {
        Some(_) => format!("{:+.2}%", 100.0 * harm),
        None => format!("{:+.2}", -100.0 * harm + 0.0),
    }
}
