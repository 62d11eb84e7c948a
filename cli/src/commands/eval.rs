//! `delta-dct eval`: models side by side on data.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct_eval::{Comparison, Judged, Sources};
use serde::Serialize;

use crate::data_args::DataArgs;
use crate::failure::Outcome;
use crate::model_threads;
use crate::place;
use crate::progress::Bar;
use crate::run_args::{ReportArgs, WorkArgs};
use crate::table::Columns;
use crate::units;

/// Measure what base, fine-tuned model and deltas are worth on data
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct EvalArgs {
    /// Base model: a folder or file, or hf://ORG/NAME
    #[arg(short, long, value_name = "PATH")]
    base: PathBuf,
    /// Fine-tuned model: a folder with config.json and tokenizer or preprocessor, or hf://ORG/NAME
    #[arg(short, long, value_name = "PATH")]
    finetuned: PathBuf,
    /// A .ddct file to judge, or hf://ORG/NAME/FILE; may be given again
    #[arg(long = "delta", value_name = "FILE")]
    deltas: Vec<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
}

const AFTER_HELP: &str = "\
Weights go from base and delta straight into the model; no checkpoint is written. A head that the base lacks is \
random, and a note says so. Intervals are 95%. KL is the mean divergence of a model's outputs from the fine-tuned \
model's, in nats per example (language models: per token): the figure to trust, because accuracy moves by chance.

Known: BERT, RoBERTa and DistilBERT (sequence classification), ViT and Swin (image classification), Llama, Qwen2 and \
GPT-2 (perplexity).

Examples:
  delta-dct eval --base B --finetuned F --delta X.ddct --data dev.tsv --max-length 128
  delta-dct eval --base B --finetuned F --delta small.ddct --delta large.ddct --data images/ --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    models: Vec<Judged>,
}

/// Runs the command.
pub(crate) fn run(args: &EvalArgs) -> Outcome {
    model_threads::settle();
    args.work.start()?;
    let sources = Sources {
        base: place::local(&args.base, args.report.quiet)?,
        finetuned: place::local(&args.finetuned, args.report.quiet)?,
        data: args.data.paths(args.report.quiet)?,
        options: args.data.options(),
        batch: args.data.batch(),
    };
    let archives =
        args.deltas.iter().map(|path| Ok((place::archive(path, args.report.quiet)?, path.as_path())));
    let archives = archives.collect::<Outcome<Vec<_>>>()?;
    let bar = Bar::counting(args.report.quiet);
    let comparison = Comparison::open(&sources)?;
    let mut models = vec![comparison.judge_finetuned(&bar)?];
    models.insert(0, comparison.judge_base(&bar)?);
    for (archive, path) in &archives {
        models.push(comparison.judge(archive, path, &bar)?);
    }
    drop(bar);
    let report = Report { models };
    args.report.print(&report, |out| write_report(out, &report.models))
}

fn write_report(out: &mut dyn Write, models: &[Judged]) -> io::Result<()> {
    table(models).write(out)?;
    writeln!(out)?;
    for model in models {
        writeln!(out, "{:13} {}", model.role, model.name)?;
        for note in &model.notes {
            writeln!(out, "{:13} {note}", "")?;
        }
    }
    Ok(())
}

fn table(models: &[Judged]) -> Columns {
    let language = models.iter().any(|model| model.quality.perplexity.is_some());
    let measure = if language { "perplexity" } else { "accuracy" };
    // Intervals and differences are those of accuracy.
    let of_accuracy = (!language).then_some(["<95%", "difference", "<95%"]).into_iter().flatten();
    let others = ["KL", "agreement", "loss", "seconds", "examples/s"];
    let mut table = Columns::new(["<model", measure].into_iter().chain(of_accuracy).chain(others));
    for model in models {
        let quality = &model.quality;
        let percent =
            |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.2}%", 100.0 * share));
        let points = |ends: Option<(f64, f64)>| {
            ends.map_or(String::new(), |(a, b)| format!("{:+.2} to {:+.2}", 100.0 * a, 100.0 * b))
        };
        let range = |ends: Option<(f64, f64)>| {
            ends.map_or(String::new(), |(a, b)| format!("{:.2} to {:.2}", 100.0 * a, 100.0 * b))
        };
        let worth = if language { units::decimals(quality.perplexity, 3) } else { percent(quality.accuracy) };
        let of_accuracy = [
            range(quality.accuracy_interval),
            quality.accuracy_difference.map_or(String::new(), |d| format!("{:+.2}", 100.0 * d)),
            points(quality.accuracy_difference_interval),
        ];
        let others = [
            quality.kl.map_or(String::new(), |kl| units::relative_error(Some(kl))),
            percent(quality.agreement),
            units::decimals(quality.loss, 4),
            format!("{:.1}", quality.seconds),
            units::count(quality.examples_per_second as u64),
        ];
        let of_accuracy = (!language).then_some(of_accuracy).into_iter().flatten();
        table.row([model.role.to_owned(), worth].into_iter().chain(of_accuracy).chain(others));
    }
    table
}
