//! `delta-dct search`: models of the Hugging Face hub by text.

use std::io;
use std::io::Write;

use clap::Args;
use delta_dct_eval::hub::{Found, Hub, Query, Settings};
use serde::Serialize;

use crate::failure::Outcome;
use crate::run_args::ReportArgs;
use crate::table::Columns;
use crate::units;

/// Characters of the tags that a table shows.
const TAGS: usize = 60;

/// List models of the Hugging Face hub by name
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SearchArgs {
    /// Part of the name, as in bert-sst2
    #[arg(value_name = "TEXT")]
    text: String,
    /// Highest or latest first: downloads, likes, trending, updated or created
    #[arg(long, default_value = "downloads", value_name = "ORDER")]
    sort: String,
    /// Number of models, at most 1000
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// Only models of this organisation or person
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

const AFTER_HELP: &str = "\
Every command that takes a model takes hf://ORG/NAME in its place. Environment variables are those of \
huggingface_hub: HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT.

Examples:
  delta-dct search sst-2 --limit 10
  delta-dct search roberta --author textattack --sort likes --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    models: Vec<Found>,
}

/// Runs the command.
pub(crate) fn run(args: &SearchArgs) -> Outcome {
    let query = Query {
        text: args.text.clone(),
        author: args.author.clone(),
        sort: args.sort.clone(),
        limit: args.limit,
    };
    let report = Report { models: Hub::new(Settings::from_environment()).search(&query)? };
    args.report.print(&report, |out| write_report(out, &report.models))
}

fn write_report(out: &mut dyn Write, models: &[Found]) -> io::Result<()> {
    if models.is_empty() {
        return writeln!(out, "no model has such a name");
    }
    let mut table = Columns::new(["<model", "downloads", "likes", "<task", "<tags"]);
    for model in models {
        table.row([
            model.id.clone(),
            units::count(model.downloads),
            units::count(model.likes),
            model.task.clone().unwrap_or_default(),
            shortened(&model.tags.join(", ")),
        ]);
    }
    table.write(out)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TAGS) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
