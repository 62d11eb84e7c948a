//! `delta-dct tune`: the smallest file that keeps the model's quality.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use delta_dct::Checkpoint;
use delta_dct_eval::sweep::short_recipe;
use delta_dct_eval::tune::{Goal, Trial, Tuned, Tuner, USUAL_ERROR};
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
#[command(next_help_heading = "Goal (all that is given counts; without data --max-error alone)")]
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
    /// Mean relative error of the weights, as compress prints it; needs no data, and is 0.1 where there is none
    #[arg(long, value_name = "ERROR")]
    max_error: Option<f64>,
}

const AFTER_HELP: &str = "\
Recipes of many methods are tried, from coarse to fine, at last rates near the best; a recipe is judged on the data only \
if its file is smaller than the best so far. The file is written by the best one and judged once more. Of accuracy a small set of examples says \
little: the table shows the 95% interval of the difference on the same examples, and --sure asks that all of it passes. \
KL divergence is the steadier goal. Examples that chose the recipe flatter it: judge the result on others with eval. \
Without --data nothing is known of the model's behaviour: then the goal is the error of the weights, which is strict.

Examples:
  delta-dct tune --base B --finetuned F --data dev.tsv --max-kl 0.01 -o X.ddct
  delta-dct tune --base B --finetuned F --data images/ --max-drop 0.5% -o X.ddct
  delta-dct tune --base B --finetuned F -o X.ddct
  delta-dct tune --base B --finetuned F --max-error 0.01 --methods dct,uniform --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a str,
    ratio: f64,
    seconds: f64,
    goal: Goal,
    notes: Vec<String>,
    #[serde(flatten)]
    tuned: Tuned,
}

impl GoalArgs {
    /// What is asked for, and what there is to say about it. Without data that is the error of the weights.
    fn goal(&self, has_data: bool) -> (Goal, Vec<String>) {
        let asked =
            Goal { max_drop: self.max_drop, max_kl: self.max_kl, max_error: self.max_error, sure: self.sure };
        if has_data {
            return (asked, Vec::new());
        }
        let most = self.max_error.unwrap_or(USUAL_ERROR);
        let note =
            format!("without data, the goal is a mean relative error of the weights of at most {most}");
        let unused = self.max_drop.or(self.max_kl).map(|_| "; accuracy and KL cannot be measured");
        let notes = vec![note + unused.unwrap_or_default()];
        (Goal { max_error: Some(most), ..Goal::default() }, notes)
    }
}

/// Runs the command.
pub(crate) fn run(args: &TuneArgs) -> Outcome {
    model_threads::settle();
    args.work.start()?;
    let start = Instant::now();
    let (base, finetuned) =
        (place::local(&args.base, args.report.quiet)?, place::local(&args.finetuned, args.report.quiet)?);
    let output = args.output.clone();
    let output = output.unwrap_or_else(|| format!("{}.ddct", units::stem(&args.finetuned, "model")).into());
    let (goal, notes) = args.goal.goal(args.data.is_given());
    goal.check(args.data.is_given())?;
    let bar = Bar::counting(args.report.quiet);
    let comparison = match args.data.is_given() {
        true => Some(Comparison::open(&Sources {
            base: base.clone(),
            finetuned: finetuned.clone(),
            data: args.data.paths(args.report.quiet)?,
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
        notes,
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
    report.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
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

/// A row for each recipe that was tried, in this order; without data there are fewer columns.
fn table(tried: &[Trial], chosen: &str) -> Columns {
    let judged = tried.iter().any(|trial| trial.quality.is_some());
    let figures = judged.then_some(["KL", "difference", "<95%"]).into_iter().flatten();
    let header = ["<recipe", "bytes", "rel. error"].into_iter().chain(figures).chain(["<passed"]);
    let mut table = Columns::new(header);
    for trial in tried {
        let passed = match trial.passed {
            Some(true) if trial.recipe == chosen => "yes: smallest",
            Some(true) => "yes",
            Some(false) => "no",
            None => "larger than the best",
        };
        let weights = [
            short_recipe(&trial.recipe),
            units::count(trial.bytes),
            units::relative_error(trial.relative_error),
        ];
        let figures = judged.then(|| figures_of(trial)).into_iter().flatten();
        table.row(weights.into_iter().chain(figures).chain([passed.to_owned()]));
    }
    table
}

/// KL, difference of accuracy in points, and its interval, as far as they are known.
fn figures_of(trial: &Trial) -> [String; 3] {
    let points = |x: f64| format!("{:+.2}", 100.0 * x);
    let Some(quality) = &trial.quality else { return Default::default() };
    let range = |(low, high)| format!("{} to {}", points(low), points(high));
    [
        quality.kl.map_or(String::new(), |kl| units::relative_error(Some(kl))),
        quality.accuracy_difference.map_or(String::new(), points),
        quality.accuracy_difference_interval.map_or(String::new(), range),
    ]
}
