//! `delta-dct finetune`: a base and labelled data to a fine-tuned model.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use delta_dct::Error;
use delta_dct_eval::data::DataOptions;
use delta_dct_eval::{Epoch, Event, Finetuned, Job, Recipe, finetune};

use crate::data_args::ReadArgs;
use crate::failure::Outcome;
use crate::model_threads;
use crate::place;
use crate::progress::Bar;
use crate::run_args::{ReportArgs, WorkArgs};
use crate::table::Columns;
use crate::units;

/// Train all weights of a classifier on labelled data, and write its folder
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct FinetuneArgs {
    /// Model to begin with: a folder with config.json and tokenizer or preprocessor, or hf://ORG/NAME
    #[arg(short, long, value_name = "PATH")]
    base: PathBuf,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace the output, and the log, if they exist
    #[arg(long)]
    force: bool,
    /// Begin with random weights: use the base's config, tokenizer and preprocessor only
    #[arg(long)]
    scratch: bool,
    #[command(flatten)]
    data: TrainingDataArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    report: ReportArgs,
    /// Write a line of JSON to FILE for every step and epoch, as they are done
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    log: Option<PathBuf>,
}

/// Data, and how it is read.
#[derive(Args)]
#[command(next_help_heading = "Data")]
struct TrainingDataArgs {
    /// Labelled data to train on, as `eval` takes it: files, folders, hf://datasets/ORG/NAME; may be given again
    #[arg(short, long, required = true, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Split of a folder to train on [default: train]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Data to judge on after every epoch, which may be the folder or id of --data; may be given again
    #[arg(long, value_name = "PATH")]
    eval_data: Vec<PathBuf>,
    /// Split of a folder to judge on [default: validation, else test]
    #[arg(long, value_name = "NAME", requires = "eval_data")]
    eval_split: Option<String>,
    /// Names of the classes with commas between them, or their number [default: the base's if the data has as many,
    /// else the data's]
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
    #[command(flatten)]
    read: ReadArgs,
}

/// How it is trained.
#[derive(Args)]
#[command(next_help_heading = "Recipe")]
struct RecipeArgs {
    /// Times that every example is seen; 0 writes the model as it is before training
    #[arg(long, value_name = "N", default_value_t = Recipe::default().epochs)]
    epochs: usize,
    /// Examples of a step
    #[arg(long, value_name = "N", default_value_t = Recipe::default().batch)]
    batch: usize,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = Recipe::default().learning_rate)]
    lr: f64,
    /// Steps in which the learning rate rises from 0; then it falls to 0, both in straight lines
    #[arg(long, value_name = "STEPS", default_value_t = Recipe::default().warmup)]
    warmup: usize,
    /// Weight decay of AdamW; biases and norms have none
    #[arg(long, value_name = "SHARE", default_value_t = Recipe::default().weight_decay)]
    weight_decay: f64,
    /// Longest gradient, a longer one is shortened; 0: any
    #[arg(long, value_name = "NORM", default_value_t = 1.0)]
    clip: f64,
    /// Train without dropout and, of Swin, stochastic depth [default: as config.json says]
    #[arg(long)]
    no_dropout: bool,
    /// Move every image by up to so many pixels, at random
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    shift: usize,
    /// Of the order of examples, of shifts, dropout and fresh weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const AFTER_HELP: &str = "\
Known: BERT, RoBERTa and DistilBERT (sequence classification), ViT and Swin (image classification). AdamW (0.9, 0.999, \
1e-8), in f32, whatever the base's dtype. What the base lacks, and a head of another number of classes, begins random. \
The folder that is written is one that transformers reads.

Examples:
  delta-dct finetune --base B --data train.tsv --eval-data dev.tsv --max-length 128 -o F
  delta-dct finetune --base B --data images/ --epochs 10 --lr 1e-4 --warmup 50 --log steps.jsonl -o F
  delta-dct finetune --base B --data hf://datasets/ORG/NAME --eval-data hf://datasets/ORG/NAME -o F
  delta-dct finetune --base B --scratch --data train.safetensors --labels digits --lr 1e-3 -o F";

/// Runs the command.
pub(crate) fn run(args: &FinetuneArgs) -> Outcome {
    model_threads::settle();
    args.work.start()?;
    let job = args.job()?;
    let mut log = args.log.as_deref().map(|path| Log { path, overwrite: args.force, file: None });
    let bar = Bar::counting(args.report.quiet);
    let done = finetune(&job, &bar, &mut |event| {
        bar.say(line(event, job.recipe.epochs));
        Ok(log.as_mut().map_or(Ok(()), |log| log.add(event))?)
    })?;
    drop(bar);
    args.report.print(&done, |out| write_report(out, &done))
}

impl FinetuneArgs {
    fn job(&self) -> Outcome<Job> {
        let (quiet, data) = (self.report.quiet, &self.data);
        let local = |paths: &[PathBuf], split: &Option<String>, training| {
            let local = |path: &PathBuf| place::data(path, split.as_deref(), training, quiet);
            paths.iter().map(local).collect::<Outcome<_>>()
        };
        Ok(Job {
            base: place::local(&self.base, quiet)?,
            scratch: self.scratch,
            data: local(&data.data, &data.split, true)?,
            options: DataOptions { split: data.split.clone(), ..data.read.options() },
            held_out: local(&data.eval_data, &data.eval_split, false)?,
            held_out_split: data.eval_split.clone(),
            classes: data.classes.as_deref().map(classes),
            output: self.output.clone(),
            overwrite: self.force,
            recipe: self.recipe.recipe(),
        })
    }
}

impl RecipeArgs {
    fn recipe(&self) -> Recipe {
        Recipe {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.lr,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            clip: (self.clip != 0.0).then_some(self.clip),
            dropout: !self.no_dropout,
            shift: self.shift,
            seed: self.seed,
        }
    }
}

/// `even,odd` is two classes; a number is as many, which are called as `transformers` calls them.
fn classes(text: &str) -> Vec<String> {
    match text.parse::<u16>() {
        Ok(count) => (0..count).map(|class| format!("LABEL_{class}")).collect(),
        Err(_) => text.split(',').map(|name| name.trim().to_owned()).collect(),
    }
}

/// The file with a line for every step and epoch. It begins with the first, grows as the run goes, and stays where a run
/// fails: that is when it is needed.
struct Log<'a> {
    path: &'a Path,
    overwrite: bool,
    file: Option<File>,
}

impl Log<'_> {
    /// Errors: Io (also where the file is there already, unless `overwrite`).
    fn add(&mut self, event: &Event) -> Result<(), Error> {
        let fail = |e: io::Error| Error::io("write", self.path, e);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(self.path, self.overwrite).map_err(fail)?),
        };
        let mut line = serde_json::to_vec(event).map_err(|e| fail(e.into()))?;
        line.push(b'\n');
        file.write_all(&line).map_err(fail)
    }
}

fn create(path: &Path, overwrite: bool) -> io::Result<File> {
    if overwrite { File::create(path) } else { File::create_new(path) }
}

/// What the bar says.
fn line(event: &Event, epochs: usize) -> String {
    let (epoch, loss) = match event {
        Event::Step(step) => (step.epoch, step.loss),
        Event::Epoch(epoch) => (epoch.epoch, epoch.loss),
    };
    format!("epoch {epoch}/{epochs}, loss {loss:.4}")
}

fn write_report(out: &mut dyn Write, done: &Finetuned) -> io::Result<()> {
    if !done.epochs.is_empty() {
        table(&done.epochs).write(out)?;
        writeln!(out)?;
    }
    let count = |n: u64| units::count(n);
    writeln!(out, "{}", done.output.display())?;
    writeln!(out, "{} weights, {} examples", count(done.weights), count(done.examples as u64))?;
    writeln!(out, "classes: {}", done.classes.join(", "))?;
    done.notes.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn table(epochs: &[Epoch]) -> Columns {
    let mut table =
        Columns::new(["epoch", "loss", "held-out loss", "correct", "accuracy", "seconds", "examples/s"]);
    for epoch in epochs {
        let held_out = epoch.held_out.clone().unwrap_or_default();
        let percent = |share: f64| format!("{:.2}%", 100.0 * share);
        table.row([
            epoch.epoch.to_string(),
            format!("{:.4}", epoch.loss),
            units::decimals(held_out.loss, 4),
            held_out.correct.map_or(String::new(), units::count),
            held_out.accuracy.map_or(String::new(), percent),
            format!("{:.1}", epoch.seconds),
            units::count(epoch.examples_per_second as u64),
        ]);
    }
    table
}
