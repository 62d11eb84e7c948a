//! `delta-dct tune`: the smallest file that keeps the model's quality.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use delta_dct::Checkpoint;
use delta_dct_eval::tune::{Goal, Trial, Tuned, Tuner};
use delta_dct_eval::{Comparison, Sources};
use serde::Serialize;

use crate::data_args::DataArgs;
use crate::failure::Outcome;
use crate::model_threads;
use crate::place;
use crate::progress::Bar;
use crate::run_args::{ReportArgs, WorkArgs};
use crate::table::Columns;
use crate::units;

/// Find the smallest .ddct file that keeps the model's quality, and write it
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TuneArgs {
    /// Base model: a folder or file, or hf://ORG/NAME
    #[arg(short, long, value_name = "PATH")]
    base: PathBuf,
    /// Fine-tuned model: a folder with config.json and tokenizer or preprocessor, or hf://ORG/NAME
    #[arg(short, long, value_name = "PATH")]
    finetuned: PathBuf,
    /// File to write [default: the name of the fine-tuned model with .ddct, in the current folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    goal: GoalArgs,
    /// Try these methods only: names with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Vec<String>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// What the file has to keep.
#[derive(Args)]
#[command(next_help_heading = "Goal (all that is given counts)")]
struct GoalArgs {
    /// Accuracy that may be lost against the fine-tuned model, in percentage points: 0.5%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_drop: Option<f64>,
    /// Have the whole 95% interval of the lost accuracy within --max-drop, not just the measured loss
    #[arg(long, requires = "max_drop")]
    sure: bool,
    /// Mean KL divergence from the fine-tuned model's outputs, in nats
    #[arg(long, value_name = "NATS")]
    max_kl: Option<f64>,
    /// Mean relative error of the weights, as compress prints it; needs no data
    #[arg(long, value_name = "ERROR")]
    max_error: Option<f64>,
}

const AFTER_HELP: &str = "\
Recipes of many methods are tried, from coarse to fine; a recipe is judged on the data only if its file is smaller than \
the best so far. The file is written by the best one and judged once more. Of accuracy a small set of examples says \
little: the table shows the 95% interval of the difference on the same examples, and --sure asks that all of it passes. \
KL divergence is the steadier goal. Examples that chose the recipe flatter it: judge the result on others with eval.

Examples:
  delta-dct tune --base B --finetuned F --data dev.tsv --max-kl 0.01 -o X.ddct
  delta-dct tune --base B --finetuned F --data images/ --max-drop 0.5% -o X.ddct
  delta-dct tune --base B --finetuned F --max-error 0.1 --methods dct,uniform --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a str,
    ratio: f64,
    seconds: f64,
    goal: Goal,
    #[serde(flatten)]
    tuned: Tuned,
}

/// Runs the command.
pub(crate) fn run(args: &TuneArgs) -> Outcome {
    model_threads::settle();
    args.work.start()?;
    let start = Instant::now();
    let (base, finetuned) = (place::local(&args.base)?, place::local(&args.finetuned)?);
    let output = args.output.clone();
    let output = output.unwrap_or_else(|| format!("{}.ddct", units::stem(&args.finetuned, "model")).into());
    let goal = Goal {
        max_drop: args.goal.max_drop,
        max_kl: args.goal.max_kl,
        max_error: args.goal.max_error,
        sure: args.goal.sure,
    };
    let bar = Bar::counting(args.report.quiet);
    let comparison = match args.data.is_given() {
        true => Some(Comparison::open(&Sources {
            base: base.clone(),
            finetuned: finetuned.clone(),
            data: args.data.paths()?,
            options: args.data.options(),
            batch: args.data.batch(),
        })?),
        false => None,
    };
    let tuner = Tuner {
        base: &Checkpoint::open(&base)?,
        finetuned: &Checkpoint::open(&finetuned)?,
        comparison: comparison.as_ref(),
        goal: goal.clone(),
        methods: args.methods.clone(),
        progress: &bar,
    };
    let tuned = tuner.run(&output, args.force)?;
    drop(bar);
    let report = Report {
        output: &output.to_string_lossy(),
        ratio: tuned.finetuned_bytes as f64 / tuned.bytes.max(1) as f64,
        seconds: start.elapsed().as_secs_f64(),
        goal,
        tuned,
    };
    args.report.print(&report, |out| write_report(out, &report))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let share = number.map(|number| number / 100.0).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it is written in percentage points, as in 0.5%".to_owned())
}

fn write_report(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let tuned = &report.tuned;
    table(&tuned.tried, &tuned.recipe).write(out)?;
    writeln!(out)?;
    writeln!(
        out,
        "{}: {} smaller, {} of {}, in {}",
        report.output,
        units::ratio(tuned.finetuned_bytes, tuned.bytes),
        units::bytes(tuned.bytes),
        units::bytes(tuned.finetuned_bytes),
        units::seconds(report.seconds),
    )?;
    writeln!(out, "recipe: {}", tuned.recipe)?;
    let Some(quality) = tuned.result.as_ref().map(|judged| &judged.quality) else { return Ok(()) };
    let kl = quality.kl.map_or(String::new(), |kl| format!(", KL {}", units::relative_error(Some(kl))));
    let Some(difference) = quality.accuracy_difference else {
        return writeln!(out, "written, and judged again on {} examples{kl}", units::count(quality.examples));
    };
    let examples = units::count(quality.examples);
    let difference = format!("accuracy {:+.2} points", 100.0 * difference);
    writeln!(out, "written, and judged again on {examples} examples: {difference}{kl}")?;
    match (quality.accuracy_difference_interval, report.goal.max_drop) {
        (Some((low, high)), Some(most)) if low < -most && !report.goal.sure => writeln!(
            out,
            "note: with so many examples the difference is known to be between {:+.2} and {:+.2} points (95%); more \
             examples narrow it, and --sure asks that all of it is within --max-drop",
            100.0 * low,
            100.0 * high
        ),
        _ => Ok(()),
    }
}

/// A row for each recipe that was tried, in this order.
fn table(tried: &[Trial], chosen: &str) -> Columns {
    let header = ["<recipe", "bytes", "rel. error", "KL", "difference", "<95%", "<passed"];
    let mut table = Columns::new(header);
    for trial in tried {
        let quality = trial.quality.as_ref();
        let points = |x: f64| format!("{:+.2}", 100.0 * x);
        let interval = quality.and_then(|quality| quality.accuracy_difference_interval);
        let passed = match trial.passed {
            Some(true) if trial.recipe == chosen => "yes: smallest",
            Some(true) => "yes",
            Some(false) => "no",
            None => "larger than the best",
        };
        table.row([
            trial.recipe.clone(),
            units::count(trial.bytes),
            units::relative_error(trial.relative_error),
            quality
                .and_then(|quality| quality.kl)
                .map_or(String::new(), |kl| units::relative_error(Some(kl))),
            quality.and_then(|quality| quality.accuracy_difference).map_or(String::new(), points),
            interval.map_or(String::new(), |(low, high)| format!("{} to {}", points(low), points(high))),
            passed.to_owned(),
        ]);
    }
    table
}
