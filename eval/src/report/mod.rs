//! A sweep as one HTML file that needs nothing else: plots, tables, heat maps, and the commands to repeat it.

mod axis;
mod beside;
mod heat;
mod numbers;
mod plot;
mod tables;

use std::path::Path;

pub use self::beside::markdown;
use self::numbers::{bytes, count, escape, percent, quoted};
use crate::error::Result;
use crate::sweep::{PairRow, Results, Row, front, pick};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// The page about the runs in `folder`. `threshold` is the harm that the predecessor's rule tolerates, as a share.
///
/// Errors: InvalidArgument, if there is no run, or if one cannot be drawn.
pub fn html(results: &Results, folder: &Path, threshold: f64) -> Result<String> {
    if results.rows.is_empty() {
        let message = format!("{} has no runs to report", folder.display());
        return Err(delta_dct::Error::invalid(message).into());
    }
    let section = |pair: &PairRow| section(pair, &results.rows_of(&pair.pair), threshold);
    let sections = results.pairs.iter().map(section).collect::<Result<String>>()?;
    let head = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>delta-dct: {runs} runs</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        runs = results.rows.len()
    );
    Ok(format!(
        "{head}{}{sections}{}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        introduction(results),
        commands(results, folder)
    ))
}

fn introduction(results: &Results) -> String {
    let names = results.pairs.iter().map(|pair| {
        let name = escape(&pair.pair);
        format!("<a href=\"#{name}\">{name}</a>")
    });
    format!(
        "<header>\n<h1>How small, and still as good?</h1>\n\
         <p>{} runs of delta-dct on {}. Bytes are those of whole <code>.ddct</code> files on disk; the ratio is against the \
         fine-tuned model's weight files. KL is the mean divergence of a model's outputs from the fine-tuned model's, in \
         nats: the figure to trust, because accuracy moves by chance.</p>\n</header>\n",
        count(results.rows.len() as u64),
        names.collect::<Vec<_>>().join(", ")
    )
}

fn section(pair: &PairRow, rows: &[&Row], threshold: f64) -> Result<String> {
    if rows.is_empty() {
        return Ok(String::new());
    }
    let front = front(rows);
    let pick = pick(pair, rows, threshold);
    let (measure, _) = pair.measure();
    let edge = plot::floor(pair, rows)
        .map(|floor| format!(" Runs below {} are drawn at the lower edge.", percent(floor)));
    Ok(format!(
        "<section id=\"{name}\">\n<h2>{name}</h2>\n{facts}{pick}{legend}<div class=\"plots\">\n\
         <figure>{divergence}<figcaption>KL against bytes: lower and further left is better. The line joins the runs that no \
         other beats in both. A click on a mark shows its run in the table, one on a method above hides it.</figcaption></figure>\n\
         <figure>{quality}<figcaption>{measure} against bytes.{edge}</figcaption></figure>\n</div>\n\
         <h3>All runs</h3>\n<p class=\"note\">A click on a head sorts. Shaded: the runs of the line. <i>Predecessor's ratio</i> is \
         what the Python predecessor would have counted: one byte per coefficient whatever its bits, and no file.</p>\n{runs}\
         {beside}<h3>Where the error is</h3>\n<p class=\"note\">|result - fine-tuned|² / |fine-tuned - base|² of each matrix, by layer; of \
         each method the run of lowest KL. From small to large: {scale}</p>\n{heat}</section>\n",
        name = escape(&pair.pair),
        facts = facts(pair, rows),
        pick = pick.as_ref().map(|pick| tables::pick(pair, pick, threshold)).unwrap_or_default(),
        edge = edge.unwrap_or_default(),
        legend = legend(rows),
        divergence = plot::divergence(pair, rows)?,
        quality = plot::quality(pair, rows)?,
        runs = tables::runs(pair, rows, &front),
        beside = beside::html(rows),
        scale = heat::scale(),
        heat = heat_maps(rows, pick.as_ref().map(|pick| pick.row.method.as_str())),
    ))
}

fn facts(pair: &PairRow, rows: &[&Row]) -> String {
    let (base, finetuned) = (&pair.base_quality, &pair.finetuned_quality);
    let worth = match (finetuned.perplexity, finetuned.accuracy) {
        (Some(perplexity), _) => {
            let base = base.perplexity.map_or("none".to_owned(), numbers::digits);
            format!("perplexity {} (base {base})", numbers::digits(perplexity))
        }
        (None, Some(accuracy)) => {
            format!("accuracy {} (base {})", percent(accuracy), percent(base.accuracy.unwrap_or(0.0)))
        }
        (None, None) => "no labels".to_owned(),
    };
    let notes: String =
        pair.notes.iter().map(|note| format!("<p class=\"note\">{}</p>\n", escape(note))).collect();
    format!(
        "<p class=\"facts\"><code>{}</code> &rarr; <code>{}</code><br>{} of weights &middot; {} examples &middot; {worth}</p>\n{notes}",
        escape(&pair.base),
        escape(&pair.finetuned),
        bytes(rows.first().map_or(0.0, |row| row.finetuned_bytes as f64)),
        count(finetuned.examples)
    )
}

/// The methods of `rows`, in their order.
fn methods<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut methods: Vec<&str> = Vec::new();
    for row in rows {
        if !methods.contains(&row.method.as_str()) {
            methods.push(&row.method);
        }
    }
    methods
}

fn legend(rows: &[&Row]) -> String {
    let entry = |method: &str| {
        let method = escape(method);
        format!(
            "<button data-method=\"{method}\"><span class=\"dot\" style=\"background:{}\"></span>{method}</button>",
            plot::colour(&method),
        )
    };
    let mut entries: String = methods(rows).into_iter().map(entry).collect();
    if rows.iter().any(|row| row.predecessor) {
        entries += "<span><span class=\"dot ring\"></span>as the predecessor</span>";
    }
    if rows.iter().any(|row| row.quality.kl.is_some_and(|kl| kl < plot::LOWEST_KL)) {
        entries += "<span>KL below 1e-6 is drawn at 1e-6</span>";
    }
    format!("<p class=\"legend\">{entries}</p>\n")
}

/// Of each method the run of lowest KL; that of the method `open` can be seen at once.
fn heat_maps(rows: &[&Row], open: Option<&str>) -> String {
    let kl = |row: &Row| row.quality.kl.unwrap_or(f64::INFINITY);
    let of = |method: &str| {
        let rows = rows.iter().filter(|row| row.method == method && !row.tensors.is_empty());
        rows.min_by(|a, b| kl(a).total_cmp(&kl(b)))
    };
    let maps = methods(rows).into_iter().filter_map(of).map(|row| {
        let open = if open == Some(row.method.as_str()) { " open" } else { "" };
        let title = escape(&format!("{} {}", row.method, row.options()));
        format!("<details{open}><summary>{title}</summary>\n{}</details>\n", heat::map(row))
    });
    maps.collect()
}

/// Sweep files, how many examples counted, and the names of the pairs for which it is so.
fn sweeps(results: &Results) -> Vec<(&str, Option<&str>, Vec<&str>)> {
    let mut sweeps: Vec<(&str, Option<&str>, Vec<&str>)> = Vec::new();
    for pair in &results.pairs {
        let mut options = pair.options.iter().map(String::as_str);
        let limit = options.find(|option| *option == "--limit").and_then(|_| options.next());
        match sweeps.iter_mut().find(|known| (known.0, known.1) == (pair.sweep.as_str(), limit)) {
            Some(known) => known.2.push(&pair.pair),
            None => sweeps.push((&pair.sweep, limit, vec![&pair.pair])),
        }
    }
    sweeps
}

/// The commands that repeat the sweep, and its best runs.
fn commands(results: &Results, folder: &Path) -> String {
    let folder = quoted(&folder.display().to_string());
    let mut lines = Vec::new();
    for (sweep, limit, names) in sweeps(results) {
        let pairs = match names.len() == results.pairs.len() {
            true => String::new(),
            false => format!(" --pairs {}", quoted(&names.join(","))),
        };
        let limit = limit.map(|limit| format!(" --limit {limit}")).unwrap_or_default();
        lines.push(format!("delta-dct sweep {} -o {folder}{pairs}{limit}", quoted(sweep)));
    }
    lines.push(format!("delta-dct report {folder} -o report.html"));
    for pair in &results.pairs {
        let models = format!("--base {} --finetuned {}", quoted(&pair.base), quoted(&pair.finetuned));
        let data: String = pair.data.iter().map(|data| format!(" --data {}", quoted(data))).collect();
        let options: String = pair.options.iter().map(|option| format!(" {}", quoted(option))).collect();
        let name = quoted(&format!("{}.ddct", pair.pair));
        lines.push(format!("\n# {}: the runs of the line, from small to large", pair.pair));
        for row in front(&results.rows_of(&pair.pair)) {
            let mode = if row.predecessor { " --predecessor" } else { "" };
            let recipe = quoted(&row.recipe);
            lines.push(format!("delta-dct compress {models} -o {name} --force --method {recipe}{mode}"));
        }
        lines.push("# what the last of them is worth".to_owned());
        lines.push(format!("delta-dct eval {models} --delta {name}{data}{options}"));
    }
    format!("<section>\n<h2>Again</h2>\n<pre>{}</pre>\n</section>\n", escape(&lines.join("\n")))
}
