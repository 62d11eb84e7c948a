//! Where the error is: relative errors of a run's matrices, by layer and kind.

use std::collections::BTreeMap;

use super::numbers::{digits, escape};
use crate::sweep::Row;

/// Logarithms of the errors that have the first and the last colour.
const RANGE: (f64, f64) = (-3.0, 2.0);

/// Colours from small errors to large ones.
const COLOURS: [[f64; 3]; 5] = [
    [255.0, 250.0, 225.0],
    [250.0, 214.0, 148.0],
    [240.0, 150.0, 90.0],
    [196.0, 66.0, 78.0],
    [92.0, 20.0, 78.0],
];

/// The errors of matrices, a line per kind and a column per layer.
pub(super) fn map(row: &Row) -> String {
    let mut cells = BTreeMap::<String, BTreeMap<Layer, f64>>::new();
    for tensor in row.tensors.iter().filter(|tensor| tensor.dimensions > 1) {
        let (layer, kind) = place(&tensor.name);
        cells.entry(kind).or_default().insert(layer, tensor.relative_error);
    }
    let mut layers: Vec<&Layer> = cells.values().flat_map(BTreeMap::keys).collect();
    layers.sort();
    layers.dedup();
    let head: String = layers.iter().map(|layer| format!("<th>{}</th>", label(layer))).collect();
    let line = |(kind, errors): (&String, &BTreeMap<Layer, f64>)| {
        let cells: String = layers.iter().map(|layer| cell(errors.get(*layer))).collect();
        format!("<tr><th>{}</th>{cells}</tr>\n", escape(kind))
    };
    let body: String = cells.iter().map(line).collect();
    format!(
        "<div class=\"wide\"><table class=\"heat\"><thead><tr><th></th>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    )
}

/// The numbers in a tensor's name; none for what is outside of the layers.
type Layer = Vec<u64>;

/// `encoder.layer.3.attention.query.weight`: layer 3, kind `attention.query`.
fn place(name: &str) -> (Layer, String) {
    let parts: Vec<&str> = name.split('.').filter(|part| *part != "weight").collect();
    let layer: Layer = parts.iter().filter_map(|part| part.parse().ok()).collect();
    let first = parts.iter().position(|part| part.parse::<u64>().is_ok()).map_or(0, |first| first + 1);
    let kind = parts.iter().skip(first).filter(|part| part.parse::<u64>().is_err());
    (layer, kind.copied().collect::<Vec<_>>().join("."))
}

fn label(layer: &Layer) -> String {
    match layer.as_slice() {
        [] => "outside".to_owned(),
        numbers => numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("."),
    }
}

fn cell(error: Option<&f64>) -> String {
    let Some(&error) = error else { return "<td></td>".to_owned() };
    let share = ((error.max(1e-12).log10() - RANGE.0) / (RANGE.1 - RANGE.0)).clamp(0.0, 1.0);
    let ink = if share > 0.55 { "#fff" } else { "#222" };
    format!("<td style=\"background:{};color:{ink}\">{}</td>", colour(share), digits(error))
}

/// The colour of a share between 0 and 1.
fn colour(share: f64) -> String {
    let at = share * (COLOURS.len() - 1) as f64;
    let i = (at as usize).min(COLOURS.len() - 2);
    let (from, to) =
        (COLOURS.get(i).copied().unwrap_or_default(), COLOURS.get(i + 1).copied().unwrap_or_default());
    let mixed = from.iter().zip(to).map(|(from, to)| format!("{:.0}", from + (to - from) * (at - i as f64)));
    format!("rgb({})", mixed.collect::<Vec<_>>().join(" "))
}

/// The scale of colours, as a line of examples.
pub(super) fn scale() -> String {
    let examples = [0.001, 0.01, 0.1, 1.0, 10.0, 100.0];
    let cells: String = examples.iter().map(|error| cell(Some(error))).collect();
    format!("<table class=\"heat scale\"><tr>{cells}</tr></table>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_place() {
        let at = |name| place(name);
        assert_eq!(
            at("bert.encoder.layer.3.attention.query.weight"),
            (vec![3], "attention.query".to_owned())
        );
        assert_eq!(at("swin.encoder.layers.1.blocks.0.output.dense.weight").0, [1, 0]);
        assert_eq!(at("embeddings.word.weight"), (vec![], "embeddings.word".to_owned()));
    }
}
