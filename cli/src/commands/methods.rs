//! `delta-dct methods`: the table of methods.

use std::io;
use std::io::Write;

use clap::Args;
use delta_dct::{METHODS, Method};
use serde::Serialize;

use crate::failure::Outcome;
use crate::run_args::ReportArgs;

/// List the methods with their defaults
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct MethodsArgs {
    #[command(flatten)]
    report: ReportArgs,
}

const AFTER_HELP: &str = "\
The plan of a method shows its stages and the default of every option: TRANSFORM | QUANTISER | RESCALE.

Examples:
  delta-dct methods
  delta-dct methods --json | jq -r '.[].name'
  delta-dct compress --base B --finetuned F --method 'dct block=16 rescale=none'";

/// What `--json` prints, once per method.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    paper: &'static str,
    summary: &'static str,
    plan: &'static str,
}

impl From<&Method> for Row {
    fn from(method: &Method) -> Self {
        Self { name: method.name, paper: method.paper, summary: method.summary, plan: method.plan }
    }
}

/// Runs the command.
pub(crate) fn run(args: &MethodsArgs) -> Outcome {
    let rows: Vec<Row> = METHODS.iter().map(Row::from).collect();
    args.report.print(&rows, |out| write_rows(out, &rows))
}

/// A paragraph per method: summaries and plans together are too long for the columns of a table.
fn write_rows(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for (i, row) in rows.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{:width$}  {}", row.name, row.summary)?;
        writeln!(out, "{:width$}  plan   {}", "", row.plan)?;
        if !row.paper.is_empty() {
            writeln!(out, "{:width$}  paper  {}", "", row.paper)?;
        }
    }
    Ok(())
}
