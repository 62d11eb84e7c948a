//! Help pages, completions, and what does not appear where nobody looks.

use std::path::Path;

use crate::run::{run, small_pair, succeed};

const COMMANDS: [&str; 8] =
    ["compress", "apply", "inspect", "verify", "methods", "demo", "bench", "completions"];

/// Commands of builds with more features.
const MORE: &[&str] = &[
    #[cfg(feature = "eval")]
    "tune",
    #[cfg(feature = "eval")]
    "sweep",
    #[cfg(feature = "eval")]
    "best",
    #[cfg(feature = "eval")]
    "report",
    #[cfg(feature = "hub")]
    "search",
];

#[test]
fn every_help_page_ends_with_examples() {
    let here = Path::new(".");
    for command in COMMANDS.iter().chain(MORE) {
        let page = succeed(here, &format!("{command} --help"));
        let examples =
            page.split_once("Examples:\n").unwrap_or_else(|| panic!("{command} has no examples")).1;
        assert!(examples.lines().all(|line| line.starts_with("  delta-dct ")), "{examples}");
        assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
    }
}

#[test]
fn the_main_page_lists_commands_and_exit_codes() {
    let page = succeed(Path::new("."), "--help");
    for word in COMMANDS.into_iter().chain(["Exit codes:", "130  interrupted"]) {
        assert!(page.contains(word), "{word}");
    }
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(Path::new("."), &format!("completions {shell}"));
        assert!(script.contains("compress") && script.contains("finetuned"), "{shell}");
    }
}

#[test]
fn methods_are_listed_with_paper_summary_and_plan() {
    let text = succeed(Path::new("."), "methods");
    for method in run(Path::new("."), "methods --json").json().as_array().unwrap() {
        for field in ["name", "paper", "summary", "plan"] {
            assert!(text.contains(method[field].as_str().unwrap()), "{method}");
        }
    }
}

#[test]
fn nothing_goes_to_stderr_where_that_is_no_terminal() {
    let dir = small_pair();
    assert_eq!(run(dir.path(), "compress -b base -f ft").stderr, "");
    assert_eq!(run(dir.path(), "apply -b base ft.ddct -o out").stderr, "");
}
