//! The `delta-dct` command, for programs that bring it along: [`run`] is all of it.
//!
//! | place | what |
//! |---|---|
//! | `commands/` | one file per subcommand: its options, its help, its work |
//! | `method_args.rs` | options that say how tensors are coded, as the library's text form |
//! | `run_args.rs` | options of every run: threads, JSON, quiet, verbose |
//! | `failure.rs` | errors to one line on stderr and an exit code |
//! | `progress.rs`, `interrupt.rs` | the bar on stderr; signals |
//! | `model_threads.rs` | how the tensor library divides its work |
//! | `groups.rs` | sums by kind of tensor |
//! | `table.rs`, `plans.rs`, `units.rs` | how tables, plans and numbers look |

mod commands;
#[cfg(feature = "eval")]
mod data_args;
mod failure;
mod groups;
mod interrupt;
mod method_args;
#[cfg(feature = "eval")]
mod model_threads;
mod place;
mod plans;
mod progress;
mod run_args;
mod table;
mod units;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

#[cfg(feature = "hub")]
use commands::search;
use commands::{apply, bench, completions, compress, demo, inspect, methods, verify};
#[cfg(feature = "eval")]
use commands::{best, eval, finetune, report, sweep, tune};

/// Store a fine-tuned model as a very small file against its base model, and get the weights back.
#[derive(Parser)]
#[command(name = "delta-dct", version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compress(Box<compress::CompressArgs>),
    Apply(apply::ApplyArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Methods(methods::MethodsArgs),
    Demo(demo::DemoArgs),
    Bench(bench::BenchArgs),
    #[cfg(feature = "eval")]
    Eval(eval::EvalArgs),
    #[cfg(feature = "eval")]
    Tune(tune::TuneArgs),
    #[cfg(feature = "hub")]
    Search(search::SearchArgs),
    #[cfg(feature = "eval")]
    Sweep(sweep::SweepArgs),
    #[cfg(feature = "eval")]
    Best(best::BestArgs),
    #[cfg(feature = "eval")]
    Report(report::ReportArgs),
    #[cfg(feature = "eval")]
    Finetune(Box<finetune::FinetuneArgs>),
    Completions(completions::CompletionsArgs),
}

const AFTER_HELP: &str = "\
Exit codes:
    0  success
    1  any other failure, such as runs of a sweep
    2  the command line makes no sense (unknown option, method or value)
    3  the operating system refused (no such file, permission, disk full, output exists)
    4  a file is damaged or ends early
    5  a file needs a feature or format version that this build does not have
    6  base, fine-tuned model and file do not belong together
    7  a file asks for more than a limit allows
  130  interrupted (SIGINT, SIGTERM)

Examples:
  delta-dct compress --base base/ --finetuned ft/ -o ft.ddct
  delta-dct apply --base base/ ft.ddct -o restored/
  delta-dct verify ft.ddct --base base/
  delta-dct inspect ft.ddct
  delta-dct demo";

/// Runs the command line `args`, of which the first is the program's name, and gives the exit code. Reports go to
/// standard output, errors to standard error; signals are handled from now on.
pub fn run<T: Into<OsString> + Clone>(args: impl IntoIterator<Item = T>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(message) => {
            // Where neither stream takes it, the exit code still speaks.
            let _ = message.print();
            return u8::try_from(message.exit_code()).unwrap_or(2);
        }
    };
    interrupt::install();
    let result = match &cli.command {
        Command::Compress(args) => compress::run(args),
        Command::Apply(args) => apply::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Methods(args) => methods::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
        #[cfg(feature = "eval")]
        Command::Eval(args) => eval::run(args),
        #[cfg(feature = "eval")]
        Command::Tune(args) => tune::run(args),
        #[cfg(feature = "hub")]
        Command::Search(args) => search::run(args),
        #[cfg(feature = "eval")]
        Command::Sweep(args) => sweep::run(args),
        #[cfg(feature = "eval")]
        Command::Best(args) => best::run(args),
        #[cfg(feature = "eval")]
        Command::Report(args) => report::run(args),
        #[cfg(feature = "eval")]
        Command::Finetune(args) => finetune::run(args),
        Command::Completions(args) => completions::run(args),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    }
}
