//! Sweeps on the demo pair: rows, resuming, exports, picks, and the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use delta_dct::{Archive, Checkpoint, ErrorKind, Progress, Silent};
use delta_dct_eval::report::{html, markdown};
use delta_dct_eval::sweep::{
    COLUMNS, FailedRow, Ledger, Results, Row, Run, RunOptions, Sweep, Values, best, export,
    predecessor_count, run, short_recipe,
};
use delta_dct_eval::{Comparison, Error};
use serde_json::{Value, json};

const GRID: &str = "[[grid]]\nmethod = 'dct'\nblock = [16, 32]\n[[grid]]\nmethod = ['bitdelta', 'dct']\n";

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo")
}

/// A sweep file over the first examples of the demo pair.
fn sweep_file(folder: &Path, limit: usize, grid: &str) -> PathBuf {
    let demo = demo().display().to_string();
    let pair = format!(
        "[[pair]]\nname = 'digits'\nbase = '{demo}/base'\nfinetuned = '{demo}/ft'\n\
         data = '{demo}/eval/test.safetensors'\nlimit = {limit}\n"
    );
    let path = folder.join("sweep.toml");
    fs::write(&path, pair + grid).unwrap();
    path
}

fn local(path: &Path, _: Option<&str>) -> Result<PathBuf, Error> {
    Ok(path.to_owned())
}

fn run_all(sweep: &Sweep, folder: &Path, options: RunOptions) -> Result<usize, Error> {
    run(sweep, &mut Ledger::open(folder, false)?, options, local, &Silent)
}

/// What does not depend on the clock.
fn timeless(rows: &[Row]) -> Vec<Value> {
    let without = |row: &Row| {
        let mut value = serde_json::to_value(row).unwrap();
        value.as_object_mut().unwrap().retain(|name, _| !name.contains("second"));
        value
    };
    rows.iter().map(without).collect()
}

#[test]
fn a_row_is_what_an_independent_reading_of_the_file_finds() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = Sweep::read(&sweep_file(dir.path(), 100, "[[grid]]\nmethod = 'dct block=16'\n")).unwrap();
    let out = dir.path().join("out");
    run_all(&sweep, &out, RunOptions { keep: true, runs: None }).unwrap();
    let row = Results::read(&out).unwrap().rows.remove(0);

    let file = PathBuf::from(row.file.as_ref().unwrap());
    assert_eq!(row.bytes, fs::metadata(&file).unwrap().len());
    assert_eq!(row.finetuned_bytes, fs::metadata(demo().join("ft/model.safetensors")).unwrap().len());
    assert_eq!(row.ratio, row.finetuned_bytes as f64 / row.bytes as f64);

    let (base, finetuned) = (Checkpoint::open(&demo().join("base")), Checkpoint::open(&demo().join("ft")));
    let (base, finetuned) = (base.unwrap(), finetuned.unwrap());
    let archive = Archive::open(&file).unwrap();
    archive.apply(&base, &dir.path().join("applied"), false, &Silent).unwrap();
    let applied = Checkpoint::open(&dir.path().join("applied")).unwrap();
    let (mut error, mut weights, mut all) = (0.0, 0.0, 0.0);
    for name in finetuned.names() {
        let [b, f, r] = [&base, &finetuned, &applied].map(|checkpoint| values(checkpoint, name));
        all += f.len() as f64;
        let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let noise = square(&r, &f);
        if noise > 0.0 {
            error += f.len() as f64 * noise / square(&f, &b);
            weights += f.len() as f64;
        }
    }
    let found = row.relative_error.unwrap();
    assert!((found / (error / weights) - 1.0).abs() < 1e-3, "{found} {}", error / weights);
    assert!((row.bpw - 8.0 * row.bytes as f64 / all).abs() < 1e-9);

    let comparison = Comparison::open(&sweep.pairs[0].sources(local).unwrap()).unwrap();
    let judged = comparison.judge(&archive, &file, &Silent).unwrap().quality;
    assert_eq!((row.quality.accuracy, row.quality.correct), (judged.accuracy, judged.correct));
    assert!((row.quality.kl.unwrap() - judged.kl.unwrap()).abs() < 1e-9);
    assert_eq!(row.quality.examples, 100);
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f64> {
    let bytes = checkpoint.get(name).unwrap().bytes;
    bytes.chunks_exact(4).map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap()))).collect()
}

/// Wants to stop once a number of runs are done.
struct StopAfter(usize, AtomicUsize);

impl Progress for StopAfter {
    fn advance(&self, runs: u64) {
        self.1.fetch_add(runs as usize, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }
}

#[test]
fn an_interrupted_sweep_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = Sweep::read(&sweep_file(dir.path(), 40, GRID)).unwrap();
    // The default of dct, block=32, is named twice and runs once.
    assert_eq!(sweep.cells.len(), 3);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    assert_eq!(run_all(&sweep, &whole, RunOptions::default()).unwrap(), 3);

    let mut ledger = Ledger::open(&parts, false).unwrap();
    let stop = StopAfter(1, AtomicUsize::new(0));
    let error = run(&sweep, &mut ledger, RunOptions::default(), local, &stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(Ledger::open(&parts, false).is_err(), "two sweeps in one folder");
    drop(ledger);
    // As if the power had failed in the middle of a line.
    let rows = parts.join("rows.jsonl");
    let text = fs::read_to_string(&rows).unwrap();
    fs::write(&rows, format!("{text}{}", &text[..text.len() / 2])).unwrap();
    assert_eq!(Results::read(&parts).unwrap().rows.len(), 1);

    let one = RunOptions { runs: Some(1), keep: false };
    assert_eq!(run_all(&sweep, &parts, one).unwrap(), 1);
    assert_eq!(run_all(&sweep, &parts, RunOptions::default()).unwrap(), 1);
    assert_eq!(run_all(&sweep, &parts, RunOptions::default()).unwrap(), 0);
    let (whole, resumed) = (Results::read(&whole).unwrap(), Results::read(&parts).unwrap());
    assert_eq!(timeless(&whole.rows), timeless(&resumed.rows));
    assert_eq!(resumed.pairs.len(), 1);
    let mut names: Vec<_> = fs::read_dir(&parts).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".lock", "pairs.jsonl", "rows.jsonl"], "nothing else is left");
}

#[test]
fn a_run_that_cannot_be_made_is_noted_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let grid = "[[grid]]\nmethod = ['auto size=10B', 'zero', 'bitdelta']\n";
    let sweep = Sweep::read(&sweep_file(dir.path(), 20, grid)).unwrap();
    let methods =
        |results: &Results| results.rows.iter().map(|row| row.method.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(run_all(&sweep, &out, RunOptions::default()).unwrap(), 2);
    let results = Results::read(&out).unwrap();
    assert_eq!(methods(&results), "zero bitdelta");
    let [failed] = results.failures.as_slice() else { panic!("{:?}", results.failures) };
    assert_eq!((failed.pair.as_str(), failed.method.as_str()), ("digits", "auto"));
    assert!(failed.error.contains("small"), "{}", failed.error);

    // As if another one had failed as well, of which nothing is known that would hinder it.
    let other = Sweep::read(&sweep_file(dir.path(), 20, &grid.replace("zero", "dct"))).unwrap();
    let recipe = other.cells[1].text().unwrap();
    let lost = FailedRow { method: "dct".to_owned(), recipe, ..failed.clone() };
    Ledger::open(&out, false).unwrap().add_run(Err(lost)).unwrap();
    assert_eq!(Results::read(&out).unwrap().failures.len(), 2);
    assert_eq!(run_all(&other, &out, RunOptions::default()).unwrap(), 1);
    let again = Results::read(&out).unwrap();
    assert_eq!((methods(&again).as_str(), again.failures.len()), ("zero bitdelta dct", 1));
    let lines = fs::read_to_string(out.join("rows.jsonl")).unwrap();
    assert_eq!(lines.matches("\"method\":\"auto\"").count(), 2, "it is tried again");

    // What concerns all runs stops them.
    fs::write(out.join("rows.jsonl"), "").unwrap();
    fs::write(out.join("deltas"), "no folder").unwrap();
    let keep = RunOptions { keep: true, runs: None };
    assert_eq!(run_all(&sweep, &out, keep).unwrap_err().kind(), ErrorKind::Io);
    let results = Results::read(&out).unwrap();
    assert!(results.rows.is_empty() && results.failures.is_empty());
}

#[test]
fn changes_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let read = |limit, grid| Sweep::read(&sweep_file(dir.path(), limit, grid)).unwrap();
    let sweep = read(20, GRID);
    run_all(&sweep, &out, RunOptions::default()).unwrap();
    let mut ledger = Ledger::open(&out, false).unwrap();
    assert!(!ledger.note_sweep(&sweep.text).unwrap());
    assert!(!ledger.note_sweep(&sweep.text).unwrap());

    // Another grid: rows that it does not name are left out.
    let other = read(20, "[[grid]]\nmethod = ['bitdelta', 'zero']\n");
    assert!(ledger.note_sweep(&other.text).unwrap());
    assert_eq!(run(&other, &mut ledger, RunOptions::default(), local, &Silent).unwrap(), 1);
    let (results, others) = ledger.results().of(&other).unwrap();
    let methods: Vec<&str> = results.rows.iter().map(|row| row.method.as_str()).collect();
    assert_eq!((methods, others), (vec!["bitdelta", "zero"], 2));
    drop(ledger);

    // Other data, even where every run is there already.
    let error = run_all(&read(21, GRID), &out, RunOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("digits"), "{error}");
    let fresh = Ledger::open(&out, true).unwrap();
    assert!(fresh.results().rows.is_empty() && fresh.results().pairs.is_empty());
    // A folder of something else is left alone.
    assert_eq!(Ledger::open(dir.path(), true).err().map(|e| e.kind()), Some(ErrorKind::Io));
}

#[test]
fn broken_files_are_told_by_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let pair = "[[pair]]\nname = 'a'\nbase = 'b'\nfinetuned = 'f'\ndata = 'd'\n";
    let grid = "[[grid]]\nmethod = 'dct'\n";
    for (text, line, reason) in [
        (format!("{pair}{grid}block = [16, 32\n"), 8, "array"),
        (format!("{pair}{grid}blocks = 16\n"), 8, "no option \"blocks\""),
        (format!("{pair}{grid}bits = '4:0.5'\nblock = 16\n"), 8, "sum to 0.5"),
        (format!("{pair}[[grid]]\nblock = 16\nmethod = ['dct', 'dst']\n"), 8, "no method is called \"dst\""),
        (format!("{pair}[[grid]]\nmethod = 'bitdelta'\npredecessor = true\n"), 7, "the predecessor had"),
        (format!("{pair}{grid}block = []\n"), 8, "block is a text, a number, or a list"),
        (format!("{pair}{grid}pairs = ['b']\n"), 8, "no pair is called \"b\""),
        (format!("{pair}[[grid]]\nblock = 16\n"), 6, "needs a method"),
        (format!("{pair}{pair}{grid}"), 6, "a name of its own"),
        (format!("{pair}colour = 'red'\n{grid}"), 6, "colour"),
        (format!("{}{grid}", pair.replace("base = 'b'\n", "")), 1, "base"),
    ] {
        let path = dir.path().join("x.toml");
        fs::write(&path, &text).unwrap();
        let error = Sweep::read(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        let message = error.to_string();
        assert!(
            message.contains(&format!("x.toml, line {line}: ")) && message.contains(reason),
            "{text}{message}"
        );
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn the_sweeps_that_come_along_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sweeps");
    let read = |name: &str| Sweep::read(&folder.join(name)).unwrap();
    let demo = read("demo.toml");
    for method in delta_dct::METHODS {
        let has =
            |cell: &delta_dct_eval::sweep::Cell| cell.text().unwrap().split(' ').next() == Some(method.name);
        assert!(demo.cells.iter().any(has), "{}", method.name);
    }
    assert!(demo.pairs[0].base.is_dir());
    assert_eq!(read("predecessor.toml").pairs.len(), 4);
    assert_eq!(read("pairs.toml").pairs.len(), 3);
}

/// The sizes that were recorded of the predecessor itself.
#[test]
fn sizes_are_counted_as_the_predecessor_did() {
    let Some(fixtures) = support::shared("fixtures/codec/index.json") else { return };
    let models = support::shared("fixtures/models").unwrap();
    let index: Value = serde_json::from_slice(&fs::read(fixtures).unwrap()).unwrap();
    let mut checked = 0;
    for case in index["pipelines"].as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap_or_default();
        let block = &case["patch_size"];
        let recipe = match text("transform") {
            "dwt" => format!("dwt block={block} keep={}", text("dwt_coeffs")),
            _ => format!("dct block={block}"),
        };
        let model = Checkpoint::open(&models.join(text("pair")).join("ft")).unwrap();
        if text("pair").contains("tied") {
            continue; // It counted a tensor twice that the file holds once.
        }
        let counted = predecessor_count(&model, &recipe.parse().unwrap()).unwrap();
        assert_eq!(
            (case["predecessor_bytes"].as_u64(), case["original_delta_bytes"].as_u64()),
            (Some(counted.bytes), Some(counted.of)),
            "{}",
            case["id"]
        );
        checked += 1;
    }
    assert!(checked >= 7);
    let model = Checkpoint::open(&demo().join("ft")).unwrap();
    for recipe in ["bitdelta", "lowrank", "dwt levels=2"] {
        assert_eq!(predecessor_count(&model, &recipe.parse().unwrap()), None, "{recipe}");
    }
}

/// Rows that no model was run for.
fn rows(runs: &[(u64, f64, f64)]) -> Results {
    let quality = json!({"accuracy": 0.9, "examples": 100, "seconds": 1.0, "examples_per_second": 100.0});
    let pair = json!({
        "pair": "a<b", "base": "b c", "finetuned": "f", "data": ["d"], "options": ["--limit", "100"], "sweep": "s.toml",
        "inputs": "0", "version": "0", "notes": [], "base_quality": quality, "finetuned_quality": quality,
    });
    let row = |&(bytes, difference, kl): &(u64, f64, f64)| {
        json!({
            "pair": "a<b", "method": "dct", "recipe": "dct block=16 bits=4:1", "predecessor": false, "bytes": bytes,
            "finetuned_bytes": 1000, "ratio": 1000.0 / bytes as f64, "bpw": 1.0, "relative_error": 0.5,
            "accuracy": 0.9 + difference, "accuracy_difference": difference, "kl": kl, "examples": 100, "seconds": 1.0,
            "examples_per_second": 100.0, "compress_seconds": 1.0, "apply_seconds": 1.0, "predecessor_bytes": 10,
            "predecessor_ratio": null, "file": null, "inputs": "0", "version": "0",
            "tensors": [{"name": "layer.0.q.weight", "dimensions": 2, "bytes": 5, "relative_error": 0.25}],
        })
    };
    let read = |value: Value| serde_json::from_value(value).unwrap();
    Results {
        pairs: vec![serde_json::from_value(pair).unwrap()],
        rows: runs.iter().map(row).map(read).collect(),
        failures: Vec::new(),
    }
}

#[test]
fn the_pick_follows_the_three_rules_in_turn() {
    let pick = |runs: &[(u64, f64, f64)]| {
        let results = rows(runs);
        let found = best(&results, 0.01);
        let pick = found[0].pick.as_ref().unwrap();
        (pick.reason, pick.row.bytes)
    };
    assert_eq!(pick(&[(10, 0.0, 1.0), (40, 0.01, 1.0), (30, 0.002, 1.0), (5, -0.02, 1.0)]), ("improves", 30));
    assert_eq!(pick(&[(10, -0.011, 1.0), (40, 0.0, 1.0), (30, -0.01, 1.0)]), ("within", 30));
    assert_eq!(pick(&[(10, -0.3, 1.0), (40, -0.05, 1.0), (30, -0.05, 1.0)]), ("least", 30));
}

#[test]
fn the_front_is_what_no_other_run_beats() {
    let results = rows(&[
        (50, 0.0, 0.1),
        (10, 0.0, 0.5),
        (20, 0.0, 0.5),
        (20, 0.0, 0.4),
        (60, 0.0, 0.2),
        (70, 0.0, 0.01),
    ]);
    let found = best(&results, 0.01);
    let front: Vec<_> = found[0].front.iter().map(|row| (row.bytes, row.quality.kl.unwrap())).collect();
    assert_eq!(front, [(10, 0.5), (20, 0.4), (50, 0.1), (70, 0.01)]);
}

#[test]
fn exports_hold_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut results = rows(&[(50, 0.0, 0.1), (10, -0.25, 0.5)]);
    let failed = json!({
        "pair": "a<b", "method": "auto", "recipe": "auto", "predecessor": true, "error": "no, \"never\"", "inputs": "0",
        "version": "0",
    });
    results.failures.push(serde_json::from_value(failed).unwrap());
    let files = export(&results, dir.path()).unwrap();
    assert_eq!(files, ["results.csv", "results.json", "results.parquet"]);
    let mut csv = csv::Reader::from_path(dir.path().join("results.csv")).unwrap();
    let header: Vec<String> = csv.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, COLUMNS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let lines: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    let at = |name: &str| header.iter().position(|known| known == name).unwrap();
    assert_eq!([&lines[1][at("pair")], &lines[1][at("kl")], &lines[1][at("perplexity")]], ["a<b", "0.5", ""]);
    let known = |line: &csv::StringRecord| line.iter().filter(|value| !value.is_empty()).count();
    assert_eq!((&lines[1][at("error")], &lines[2][at("error")], known(&lines[2])), ("", "no, \"never\"", 7));

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    let file = fs::File::open(dir.path().join("results.parquet")).unwrap();
    let found: Vec<_> =
        SerializedFileReader::new(file).unwrap().get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let runs: Vec<Run<'_>> = results.rows.iter().map(Ok).chain(results.failures.iter().map(Err)).collect();
    for (row, line) in found.iter().zip(runs) {
        for ((name, values), (column, field)) in COLUMNS.iter().zip(row.get_column_iter()) {
            let expected = match values {
                Values::Text(of) => of(line).map(|text| Field::Str(text.to_owned())),
                Values::Integer(of) => of(line).map(|n| Field::Long(n as i64)),
                Values::Number(of) => of(line).map(Field::Double),
                Values::Truth(of) => of(line).map(Field::Bool),
            };
            assert_eq!((name, &expected.unwrap_or(Field::Null)), (&column.as_str(), field));
        }
    }
    assert_eq!(found.len(), 3);
    let json: Value = serde_json::from_slice(&fs::read(dir.path().join("results.json")).unwrap()).unwrap();
    assert_eq!(json["rows"][1]["accuracy_difference"], -0.25);
    assert_eq!(json["failures"][0]["error"], "no, \"never\"");
}

#[test]
fn the_report_is_one_file_with_every_run() {
    let results = rows(&[(50, 0.0, 0.1), (10, -0.25, 0.5), (90, 0.0, 0.0)]);
    let page = html(&results, Path::new("my sweep"), 0.01).unwrap();
    // A mark in each of two plots, and a line of the table.
    assert_eq!(page.matches("<circle").count(), 6);
    assert_eq!(
        page.matches("<tr").count()
            - page.matches("<tr><th").count()
            - page.matches("<table class=\"heat scale\">").count(),
        3
    );
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "src=", "<link", "@import", "NaN", "\"inf", "+inf"] {
        assert!(!outside.contains(word), "{word}");
    }
    assert!(page.contains("a&lt;b") && !page.contains("a<b"));
    assert!(page.contains("delta-dct compress --base 'b c' --finetuned f"));
    assert!(page.contains("delta-dct sweep s.toml -o 'my sweep'"));
    assert_eq!(
        html(&Results::default(), Path::new("x"), 0.01).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn the_default_codec_is_shown_beside_the_best_of_the_others() {
    let mut results = rows(&[
        (100, 0.0, 0.5),
        (110, 0.0, 0.4),
        (111, 0.0, 0.1),
        (90, 0.0, 0.8),
        (100, 0.0, 0.2),
        (9, 0.0, 3.0),
    ]);
    assert_eq!(markdown(&results).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(!html(&results, Path::new("x"), 0.01).unwrap().contains("class=\"beside\""));
    // The fifth and the sixth are ours: the second is what the larger one stands beside, and nothing the smaller one.
    for row in &mut results.rows[4..] {
        row.method = "factors".to_owned();
    }
    let expected = "a<b\n\n\
        | bytes | bits per weight | KL | best of the others | its bytes | its KL | times |\n\
        |---:|---:|---:|---|---:|---:|---:|\n\
        | 9 | 1 | 3 |  |  |  |  |\n\
        | 100 | 1 | 0.2 | `dct block=16 bits=4:1` | 110 | 0.4 | 2.0 |\n";
    assert_eq!(markdown(&results).unwrap(), expected);
    let page = html(&results, Path::new("x"), 0.01).unwrap();
    assert!(page.contains("<td>dct block=16 bits=4:1</td><td class=\"n\">110</td>"), "{page}");
}

#[test]
fn options_that_are_the_defaults_go_without_saying() {
    let whole = "dct block=16".parse::<delta_dct::Recipe>().unwrap().to_string();
    assert_eq!(short_recipe(&whole), "dct block=16");
    assert_eq!(short_recipe("unheard-of a=1"), "unheard-of a=1");
}
