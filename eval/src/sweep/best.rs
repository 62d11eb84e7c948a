//! Which run of a pair to take.

use serde::Serialize;

use super::ledger::Results;
use super::row::{PairRow, Row};

/// What is best for a pair.
#[derive(Clone, Debug, Serialize)]
pub struct Best<'a> {
    /// Name of the pair.
    pub pair: &'a str,
    /// One run, as the predecessor chose it.
    pub pick: Option<Pick<'a>>,
    /// The runs that no other beats in both KL and bytes, the smallest first.
    pub front: Vec<&'a Row>,
}

/// A run, and why it was chosen.
#[derive(Clone, Debug, Serialize)]
pub struct Pick<'a> {
    /// `improves` (better than the fine-tuned model), `within` (worse by no more than the threshold) or `least`
    /// (the least harm, for want of anything better).
    pub reason: &'static str,
    /// The drop of accuracy, or the relative rise of perplexity, as a share.
    pub harm: f64,
    /// The run.
    pub row: &'a Row,
}

/// The best of every pair. `threshold` is the harm that is tolerated, as a share.
pub fn best(results: &Results, threshold: f64) -> Vec<Best<'_>> {
    let of = |pair| best_of(results, pair, threshold);
    results.pairs.iter().map(of).collect()
}

fn best_of<'a>(results: &'a Results, pair: &'a PairRow, threshold: f64) -> Best<'a> {
    let rows = results.rows_of(&pair.pair);
    Best { pair: &pair.pair, pick: pick(pair, &rows, threshold), front: front(&rows) }
}

/// Of the runs that improve the model the smallest; else the smallest of those within the threshold; else the one
/// that harms least.
pub fn pick<'a>(pair: &PairRow, rows: &[&'a Row], threshold: f64) -> Option<Pick<'a>> {
    // A model with broken outputs is nothing to pick.
    let sound = || rows.iter().filter(|row| pair.harm(row).is_finite());
    let smallest = |reason, good: &dyn Fn(f64) -> bool| {
        let row = *sound().filter(|row| good(pair.harm(row))).min_by_key(|row| row.bytes)?;
        Some(Pick { reason, harm: pair.harm(row), row })
    };
    let least = || {
        let order = |a: &&&Row, b: &&&Row| pair.harm(a).total_cmp(&pair.harm(b)).then(a.bytes.cmp(&b.bytes));
        let row = *sound().min_by(order)?;
        Some(Pick { reason: "least", harm: pair.harm(row), row })
    };
    smallest("improves", &|harm| harm < 0.0)
        .or_else(|| smallest("within", &|harm| harm <= threshold))
        .or_else(least)
}

/// The runs that no other beats in both KL and bytes, the smallest first.
pub fn front<'a>(rows: &[&'a Row]) -> Vec<&'a Row> {
    let kl = |row: &Row| row.quality.kl.unwrap_or(f64::INFINITY);
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(kl(a).total_cmp(&kl(b))));
    let mut lowest = f64::INFINITY;
    sorted.retain(|row| {
        let better = kl(row) < lowest;
        lowest = lowest.min(kl(row));
        better
    });
    sorted
}
