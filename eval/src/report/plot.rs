//! Rate against quality, as SVG: axes and lines by plotters, and a circle with a tooltip for each run.

use std::fmt::Write;

use delta_dct::{Error as DeltaError, ErrorKind, METHODS};
use plotters::prelude::*;

use super::axis::Axis;
use super::numbers::{bytes, digits, escape};
use super::tables::figures;
use crate::error::Result;
use crate::sweep::{PairRow, Row, front};

const SIZE: (u32, u32) = (640, 420);

/// Colours of methods, in the order of `METHODS`.
const COLOURS: [&str; 14] = [
    "#9f1239", "#f43f5e", "#2563eb", "#06a3b7", "#7c3aed", "#16a34a", "#eab308", "#ea7a00", "#7c4a21",
    "#d946ef", "#8a9a00", "#9ca3af", "#475569", "#111827",
];
const GRID: RGBColor = RGBColor(229, 229, 224);
const TEXT: RGBColor = RGBColor(82, 82, 78);
const LINE: RGBColor = RGBColor(55, 60, 70);

/// The lowest KL that is drawn: what is below is as good as exact.
pub(super) const LOWEST_KL: f64 = 1e-6;

/// What is drawn against bytes.
struct Measure<'a> {
    name: &'a str,
    value: &'a dyn Fn(&Row) -> Option<f64>,
    label: fn(f64) -> String,
    logarithmic: bool,
    /// A value to compare with.
    mark: Option<f64>,
    /// Whether to draw the line of the runs that no other beats.
    front: bool,
}

/// A run, and its number in the table of its pair.
type Run<'a> = (usize, &'a Row);

/// The colour of a method.
pub(super) fn colour(method: &str) -> &'static str {
    let at = METHODS.iter().position(|known| known.name == method).unwrap_or(0);
    COLOURS.get(at % COLOURS.len()).copied().unwrap_or("#000")
}

/// KL against bytes, both logarithmic, with the line of the runs that no other beats.
pub(super) fn divergence(pair: &PairRow, rows: &[&Row]) -> Result<String> {
    let value = |row: &Row| Some(row.quality.kl?.max(LOWEST_KL));
    let name = "KL divergence (nats)";
    draw(
        pair,
        rows,
        &Measure { name, value: &value, label: digits, logarithmic: true, mark: None, front: true },
    )
}

/// Accuracy or perplexity against bytes, with the fine-tuned model's.
pub(super) fn quality(pair: &PairRow, rows: &[&Row]) -> Result<String> {
    let (name, mark) = pair.measure();
    if name == "perplexity" {
        let value = |row: &Row| row.quality.perplexity;
        return draw(
            pair,
            rows,
            &Measure { name, value: &value, label: digits, logarithmic: true, mark, front: false },
        );
    }
    let floor = floor(pair, rows).unwrap_or(0.0);
    let value = |row: &Row| row.quality.accuracy.map(|accuracy| accuracy.max(floor));
    let label = |share: f64| format!("{}%", digits(100.0 * share));
    draw(pair, rows, &Measure { name, value: &value, label, logarithmic: false, mark, front: false })
}

/// The accuracy below which runs are drawn on the lower edge, so that a few ruined models do not press all others
/// together: four times as far below the fine-tuned model as three quarters of the runs stay. None where no run is
/// below it.
pub(super) fn floor(pair: &PairRow, rows: &[&Row]) -> Option<f64> {
    let reference = pair.finetuned_quality.accuracy?;
    let mut found: Vec<f64> = rows.iter().filter_map(|row| row.quality.accuracy).collect();
    found.sort_by(f64::total_cmp);
    let quartile = found.get(found.len() / 4)?;
    let floor = reference - 4.0 * (reference - quartile).max(0.005);
    (*found.first()? < floor).then_some(floor)
}

fn draw(pair: &PairRow, rows: &[&Row], measure: &Measure<'_>) -> Result<String> {
    let drawn = |y: &f64| y.is_finite() && (!measure.logarithmic || *y > 0.0);
    let point = |row: &Row| Some((row.bytes as f64, (measure.value)(row).filter(drawn)?));
    let runs = rows.iter().enumerate();
    let points: Vec<(Run<'_>, (f64, f64))> =
        runs.filter_map(|(number, row)| Some(((number, *row), point(row)?))).collect();
    if points.is_empty() {
        return Ok("<p class=\"none\">No run has such a figure.</p>".to_owned());
    }
    let x = Axis::of(points.iter().map(|(_, at)| at.0), true, bytes);
    let y =
        Axis::of(points.iter().map(|(_, at)| at.1).chain(measure.mark), measure.logarithmic, measure.label);
    let line: Vec<(f64, f64)> = match measure.front {
        true => front(rows).into_iter().filter_map(point).collect(),
        false => Vec::new(),
    };
    let mut svg = String::new();
    let places = chart(&mut svg, (x, y), measure, &line, &points).map_err(|e| {
        DeltaError::new(ErrorKind::InvalidArgument, format!("the plot of {} cannot be drawn: {e}", pair.pair))
    })?;
    let circles: String = points.iter().zip(places).map(|((run, _), at)| circle(pair, *run, at)).collect();
    let label = format!("{} against bytes, {}", measure.name, pair.pair);
    // The page decides how large it is.
    let sized = format!("width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
    let svg = svg.replacen(&sized, &format!("role=\"img\" aria-label=\"{}\"", escape(&label)), 1);
    Ok(svg.replace("</svg>", &format!("{circles}</svg>")))
}

/// Draws axes, grid and lines; gives where each point is, in the units of the picture.
fn chart(
    svg: &mut String,
    (x, y): (Axis, Axis),
    measure: &Measure<'_>,
    line: &[(f64, f64)],
    points: &[(Run<'_>, (f64, f64))],
) -> std::result::Result<Vec<(i32, i32)>, Box<dyn std::error::Error>> {
    let (low, high) = x.ends();
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .margin_right(24)
        .x_label_area_size(52)
        .y_label_area_size(78)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(("sans-serif", 17).into_font().color(&TEXT))
        .axis_desc_style(("sans-serif", 18).into_font().color(&TEXT))
        .x_desc("bytes of the .ddct file")
        .y_desc(measure.name)
        .draw()?;
    if let Some(mark) = measure.mark {
        chart.draw_series(DashedLineSeries::new([(low, mark), (high, mark)], 6, 4, LINE.stroke_width(1)))?;
        let style = ("sans-serif", 17).into_font().color(&LINE);
        let below = chart.backend_coord(&(low, mark));
        area.draw_text("fine-tuned", &style, (below.0 + 6, below.1 + 4))?;
    }
    chart.draw_series(LineSeries::new(line.iter().copied(), LINE.stroke_width(2)))?;
    area.present()?;
    Ok(points.iter().map(|(_, at)| chart.backend_coord(at)).collect())
}

/// The mark of a run: a ring where the predecessor was followed, else a disc.
fn circle(pair: &PairRow, (number, row): Run<'_>, (x, y): (i32, i32)) -> String {
    let (fill, edge) = match row.predecessor {
        true => ("#fff", colour(&row.method)),
        false => (colour(&row.method), "#fff"),
    };
    let mut text = String::new();
    for (name, value) in figures(pair, row) {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{name} {value}");
    }
    let method = escape(&row.method);
    let title = escape(&format!("{} {}{text}", row.method, row.options()));
    format!(
        "<circle data-run=\"{number}\" data-method=\"{method}\" cx=\"{x}\" cy=\"{y}\" r=\"6\" fill=\"{fill}\" stroke=\"{edge}\" stroke-width=\"1.5\"><title>{title}</title></circle>"
    )
}
