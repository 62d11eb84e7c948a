//! The default codec beside all others: each of its runs, and of the other methods' runs with at most a tenth more bytes the
//! one of least KL.

use super::numbers::{count, digits, escape};
use crate::sweep::{Results, Row};

/// `auto` picks among the runs of `factors`.
const OURS: [&str; 2] = ["auto", "factors"];
/// How many times the bytes another method may have.
const ROOM: f64 = 1.1;

const HEADS: [&str; 7] =
    ["bytes", "bits per weight", "KL", "best of the others", "its bytes", "its KL", "times"];
/// The column that is no number.
const NAME: usize = 3;

/// The tables of all pairs, as Markdown. Errors: InvalidArgument, if there is no run of the default codec.
pub fn markdown(results: &Results) -> delta_dct::Result<String> {
    let table = |pair: &str| {
        let line = |cells: [String; 7]| format!("| {} |\n", cells.join(" | "));
        let body: String = lines(&results.rows_of(pair), |name| format!("`{name}`")).map(line).collect();
        let rule: String =
            (0..HEADS.len()).map(|column| if column == NAME { "---|" } else { "---:|" }).collect();
        (!body.is_empty()).then(|| format!("{pair}\n\n| {} |\n|{rule}\n{body}", HEADS.join(" | ")))
    };
    let tables: Vec<String> = results.pairs.iter().filter_map(|pair| table(&pair.pair)).collect();
    match tables.is_empty() {
        true => Err(delta_dct::Error::invalid("there is no run of factors or auto")),
        false => Ok(tables.join("\n")),
    }
}

/// The table of a pair as a part of its section; empty where it has no run of the default codec.
pub(super) fn html(rows: &[&Row]) -> String {
    let class = |column: usize| if column == NAME { "" } else { " class=\"n\"" };
    let cell = |(column, text): (usize, String)| format!("<td{}>{text}</td>", class(column));
    let line = |cells: [String; 7]| {
        let cells: String = cells.into_iter().enumerate().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = lines(rows, escape).map(line).collect();
    if body.is_empty() {
        return String::new();
    }
    let head = |(column, name)| format!("<th{}>{name}</th>", class(column));
    format!(
        "<h3>The default codec beside the others</h3>\n<p class=\"note\">Each run of <code>factors</code>, and the run of another \
         method of least KL that has at most a tenth more bytes; last, how many times the KL is.</p>\n\
         <div class=\"wide\"><table class=\"beside\"><thead><tr>{}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n",
        HEADS.into_iter().enumerate().map(head).collect::<String>()
    )
}

/// The cells of each run of the default codec, the smallest first; of another method's run `shown` makes the name.
fn lines(rows: &[&Row], shown: impl Fn(&str) -> String) -> impl Iterator<Item = [String; 7]> {
    let (mut ours, others): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| OURS.contains(&row.method.as_str()));
    ours.sort_by_key(|row| row.bytes);
    ours.into_iter().map(move |row| {
        let beside = best_within(&others, ROOM * row.bytes as f64);
        let text = |kl: Option<f64>| kl.map_or(String::new(), digits);
        let (name, bytes) = match beside {
            Some(other) => {
                (shown(format!("{} {}", other.method, other.options()).trim_end()), count(other.bytes))
            }
            None => Default::default(),
        };
        let kl = beside.and_then(|other| other.quality.kl);
        let times =
            kl.zip(row.quality.kl.filter(|kl| *kl > 0.0)).map(|(kl, ours)| format!("{:.1}", kl / ours));
        [
            count(row.bytes),
            digits(row.bpw),
            text(row.quality.kl),
            name,
            bytes,
            text(kl),
            times.unwrap_or_default(),
        ]
    })
}

/// The row of least KL with at most so many bytes.
fn best_within<'a>(rows: &[&'a Row], bytes: f64) -> Option<&'a Row> {
    let within = rows.iter().filter(|row| row.bytes as f64 <= bytes);
    let known = within.filter_map(|row| Some((row.quality.kl.filter(|kl| kl.is_finite())?, *row)));
    known.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, row)| row)
}
