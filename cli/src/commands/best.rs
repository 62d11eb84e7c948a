//! `delta-dct best`: which run of a sweep to take.

use std::io;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use delta_dct_eval::sweep::{Best, Results, Row, best};

use super::sweep::{PREDECESSORS_RATIO, change, measure, measure_name, predecessors_ratio};
use crate::failure::Outcome;
use crate::run_args::ReportArgs;
use crate::table::Columns;
use crate::units;

/// Pick the best runs of a sweep
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BestArgs {
    /// Folder of a sweep
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Consider the runs of these methods only: names with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Vec<String>,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// How a run is picked.
#[derive(Args)]
pub(crate) struct RuleArgs {
    /// Loss that is tolerated where nothing improves the model: points of accuracy, or percent of perplexity
    #[arg(long, default_value_t = 1.0, value_name = "POINTS")]
    threshold: f64,
}

impl RuleArgs {
    /// The threshold as a share.
    pub(crate) fn share(&self) -> f64 {
        self.threshold / 100.0
    }
}

const AFTER_HELP: &str = "\
For each pair: one run as the Python predecessor picked it (the smallest of those that improve accuracy; if there is \
none, the smallest of those within the threshold; if there is none, the least harmful), and the front: the runs that no \
other beats in both KL and bytes.

Examples:
  delta-dct best demo-sweep
  delta-dct best demo-sweep --methods dct,dct-jpeg,dct-post,dwt
  delta-dct best demo-sweep --threshold 0.5 --json";

/// Runs the command.
pub(crate) fn run(args: &BestArgs) -> Outcome {
    let mut results = Results::read(&args.dir)?;
    results.rows.retain(|row| args.methods.is_empty() || args.methods.contains(&row.method));
    // Errors of single tensors are not asked for here.
    results.rows.iter_mut().for_each(|row| row.tensors.clear());
    let found = best(&results, args.rule.share());
    args.report.print(&found, |out| write_report(out, &results, &found))
}

fn write_report(out: &mut dyn Write, results: &Results, found: &[Best<'_>]) -> io::Result<()> {
    let measure = measure_name(results);
    let what = ["<pair", "<why", "<method", "<options", "bytes", "ratio", PREDECESSORS_RATIO];
    let mut table = Columns::new(what.into_iter().chain([measure, "change", "KL"]));
    for best in found {
        let picked = best.pick.iter().map(|pick| (pick.reason, pick.row));
        for (why, row) in picked.chain(best.front.iter().map(|row| ("front", *row))) {
            table.row(cells(results, why, row));
        }
    }
    table.write(out)
}

fn cells(results: &Results, why: &str, row: &Row) -> [String; 10] {
    [
        row.pair.clone(),
        why.to_owned(),
        row.method.clone(),
        row.options(),
        units::count(row.bytes),
        units::ratio(row.finetuned_bytes, row.bytes),
        predecessors_ratio(row),
        measure(row),
        change(results, row),
        row.quality.kl.map_or(String::new(), |kl| units::relative_error(Some(kl))),
    ]
}
