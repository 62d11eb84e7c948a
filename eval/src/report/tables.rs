//! Tables of runs.

use super::numbers::{bytes, count, digits, escape, percent};
use super::plot::colour;
use crate::sweep::{PairRow, Pick, Row};

/// A cell: what is shown, and the number by which its column is sorted.
type Shown = (String, f64);

/// The figures of a run that are there, by name.
pub(super) fn figures(pair: &PairRow, row: &Row) -> Vec<(&'static str, String)> {
    let shown = columns(pair).into_iter().map(|(name, of)| (name, of(row).0));
    shown.filter(|(_, value)| !value.is_empty()).collect()
}

/// All runs of a pair, to be sorted by a click on a column's head; those of `front` stand out.
pub(super) fn runs(pair: &PairRow, rows: &[&Row], front: &[&Row]) -> String {
    let columns = columns(pair);
    let heads: String = columns.iter().map(|(name, _)| format!("<th class=\"n\">{name}</th>")).collect();
    let line = |(number, row): (usize, &&Row)| {
        let cell = |(_, of): &(&str, Column<'_>)| {
            let (text, key) = of(row);
            // What a script calls the largest number: what is missing comes last.
            let key = if key.is_finite() { key.to_string() } else { "Infinity".to_owned() };
            format!("<td class=\"n\" data-v=\"{key}\">{text}</td>")
        };
        let best = front.iter().any(|best| std::ptr::eq(*best, *row));
        let class = if best { " class=\"front\"" } else { "" };
        let cells = columns.iter().map(cell).collect::<String>();
        format!("<tr{class} data-run=\"{number}\">{}{cells}</tr>\n", name(row))
    };
    let body: String = rows.iter().enumerate().map(line).collect();
    format!(
        "<div class=\"wide\"><table class=\"sortable\"><thead><tr><th>method</th><th>options</th>{heads}</tr></thead>\n\
         <tbody>\n{body}</tbody></table></div>\n"
    )
}

/// The run that the predecessor's rule takes, as a sentence.
pub(super) fn pick(pair: &PairRow, pick: &Pick<'_>, threshold: f64) -> String {
    let why = match pick.reason {
        "improves" => "the smallest of the runs that do better than the fine-tuned model".to_owned(),
        "within" => format!("the smallest of the runs that lose at most {}", percent(threshold)),
        _ => "the run that loses least".to_owned(),
    };
    let (measure, _) = pair.measure();
    let change = match measure {
        "perplexity" => format!("perplexity {:+.2}%", 100.0 * pick.harm),
        _ => format!("accuracy {:+.2} points", -100.0 * pick.harm),
    };
    let kl = pick.row.quality.kl.map_or(String::new(), |kl| format!(", KL {}", digits(kl)));
    format!(
        "<p class=\"pick\">By the predecessor's rule: <span class=\"dot\" style=\"background:{}\"></span><b>{} {}</b>: {}, {:.1}x smaller, \
         {change}{kl}. It is {why}.</p>\n",
        colour(&pick.row.method),
        escape(&pick.row.method),
        escape(&pick.row.options()),
        bytes(pick.row.bytes as f64),
        pick.row.ratio,
    )
}

fn name(row: &Row) -> String {
    let options = row.options();
    format!(
        "<td><span class=\"dot\" style=\"background:{}\"></span>{}</td><td class=\"options\">{}</td>",
        colour(&row.method),
        escape(&row.method),
        if options.is_empty() { "defaults".to_owned() } else { escape(&options) }
    )
}

type Column<'a> = Box<dyn Fn(&Row) -> Shown + 'a>;

fn columns(pair: &PairRow) -> Vec<(&'static str, Column<'_>)> {
    let optional = |of: fn(&Row) -> Option<f64>, text: fn(f64) -> String| -> Column<'_> {
        Box::new(move |row| of(row).map_or((String::new(), f64::INFINITY), |value| (text(value), value)))
    };
    let mut columns: Vec<(&'static str, Column<'_>)> = vec![
        ("bytes", Box::new(|row| (count(row.bytes), row.bytes as f64))),
        ("ratio", optional(|row| Some(row.ratio), |ratio| format!("{ratio:.1}x"))),
        ("bpw", optional(|row| Some(row.bpw), digits)),
        ("rel. error", optional(|row| Some(row.relative_error.unwrap_or(0.0)), digits)),
    ];
    match pair.measure().0 {
        "perplexity" => {
            columns.push(("perplexity", optional(|row| row.quality.perplexity, digits)));
            columns.push((
                "change",
                Box::new(move |row| {
                    let harm = pair.harm(row);
                    (if harm.is_finite() { format!("{:+.2}%", 100.0 * harm) } else { String::new() }, harm)
                }),
            ));
        }
        _ => {
            columns.push(("accuracy", optional(|row| row.quality.accuracy, percent)));
            let points = |share: f64| format!("{:+.2}", 100.0 * share);
            columns.push(("change", optional(|row| row.quality.accuracy_difference, points)));
        }
    }
    columns.push(("KL", optional(|row| row.quality.kl, digits)));
    columns.push(("agreement", optional(|row| row.quality.agreement, percent)));
    columns
        .push(("predecessor's ratio", optional(|row| row.predecessor_ratio, |ratio| format!("{ratio:.2}x"))));
    columns
}
