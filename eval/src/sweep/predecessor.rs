//! The size of a delta as the Python predecessor counted it, so that its tables can be laid beside ours.
//!
//! It wrote no file. For each coded matrix it counted one byte per coefficient whatever the bits, padding included, and
//! for each block 4 bytes for its bits and 8 for the extremes of each band; for everything else 4 bytes per element.
//! The whole was 4 bytes per element of everything.

use delta_dct::{Checkpoint, Recipe, TensorView};

/// Parts of names that it left alone.
const SKIPPED: [&str; 3] = ["classifier", "pooler", "head"];

/// A size by its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Bytes of the compressed delta.
    pub bytes: u64,
    /// Bytes of the delta as it was.
    pub of: u64,
}

/// What it would have counted for `finetuned` coded by `recipe`; none for what it did not have: other methods, and
/// wavelets of several levels.
pub fn predecessor_count(finetuned: &Checkpoint, recipe: &Recipe) -> Option<Counted> {
    let recipe = recipe.to_string();
    let option = |key: &str| recipe.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let block: u64 = option("block")?.parse().ok()?;
    // A wavelet's four bands have a quarter of the coefficients each.
    let (bands, quarters) = match (option("levels"), option("keep")) {
        (None, _) => (1, 4),
        (Some("1"), Some("all")) => (4, 4),
        (Some("1"), Some("ll_lh_hl")) => (3, 3),
        (Some("1"), Some("ll_only")) => (1, 1),
        _ => return None,
    };
    let per_block = block * block * quarters / 4 + 8 * bands + 4;
    let mut counted = Counted { bytes: 0, of: 0 };
    for (name, view) in finetuned.names().filter_map(|name| Some((name, finetuned.get(name)?))) {
        let elements = view.shape.iter().map(|&n| n as u64).product::<u64>();
        counted.of += 4 * elements;
        counted.bytes += blocks(name, &view, block).map_or(4 * elements, |blocks| blocks * per_block);
    }
    Some(counted)
}

/// Blocks of a matrix that it coded.
fn blocks(name: &str, view: &TensorView<'_>, block: u64) -> Option<u64> {
    let &[rows, cols] = view.shape else { return None };
    let (rows, cols) = (rows as u64, cols as u64);
    let coded = rows * cols > block * block && !SKIPPED.iter().any(|part| name.contains(part));
    coded.then(|| rows.div_ceil(block) * cols.div_ceil(block))
}
