//! Options that say how tensors are coded. Each is appended to the text of a recipe, which the library reads: this
//! command knows the names of the options, and nothing about their values.

use clap::Args;
use delta_dct::{Error, ErrorKind, Recipe, Result, Selection};

use crate::failure::{Advise, Outcome};

const METHODS_HINT: &str = "`delta-dct methods` lists the methods and their options";

/// Heading of the options that select tensors in help pages.
const SELECTION: &str = "Selection (GLOB matches tensor names: * ? [a-z])";

/// The recipe for the tensors that are coded.
#[derive(Args)]
#[command(next_help_heading = "Method (`delta-dct methods` lists them with their defaults)")]
pub(crate) struct MethodArgs {
    /// Method, or a whole recipe such as "dct block=16 bits=4:0.5,0:0.5"
    ///
    /// [default: auto; with --predecessor: dct]
    #[arg(short, long, value_name = "METHOD", verbatim_doc_comment)]
    method: Option<String>,
    /// How faithful: tiny, small, good or fine, a KL of 0.1, 0.03, 0.0125 or 0.001 by estimate; or lossless [default: good]
    #[arg(long, value_name = "NAME")]
    quality: Option<String>,
    /// Size of the file, at most: 200kB, 1.5MB
    #[arg(long, value_name = "BYTES")]
    size: Option<String>,
    /// How many times smaller than the fine-tuned weights the file is, at least
    #[arg(long, value_name = "N")]
    ratio: Option<String>,
    /// Error as a part of the delta's energy, at most
    #[arg(long, value_name = "E")]
    max_error: Option<String>,
    /// Every tensor bit for bit: the same as --quality lossless
    #[arg(long, conflicts_with = "method")]
    lossless: bool,
    /// Side of the square blocks, in weights: 4 to 128
    #[arg(long, value_name = "N")]
    block: Option<String>,
    /// With auto: bits of the file for each weight, at most. Otherwise bits of a level, by share of the blocks in order
    /// of importance: BITS:SHARE,...; or one number of bits
    #[arg(long, value_name = "LIST")]
    bits: Option<String>,
    /// What makes a block important: pre (its norm) or postN (the energy of its N x N lowest frequencies)
    #[arg(long, value_name = "RULE")]
    importance: Option<String>,
    /// Weights of the frequencies: none or jpeg
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// haar, db2, db3, db4, sym4, cdf5/3, cdf9/7 or learned
    #[arg(long, value_name = "NAME")]
    wavelet: Option<String>,
    /// Decomposition levels of the wavelet
    #[arg(long, value_name = "N")]
    levels: Option<String>,
    /// Bands of the wavelet that are kept: all, ll_lh_hl or ll_only; for dare the share of the weights
    #[arg(long, value_name = "BANDS")]
    keep: Option<String>,
    /// Bits of the wavelet's detail bands
    #[arg(long, value_name = "BITS")]
    details: Option<String>,
    /// Singular directions kept
    #[arg(long, value_name = "N")]
    rank: Option<String>,
    /// Share of the weights that is kept: above 0, at most 1
    #[arg(long, value_name = "SHARE")]
    share: Option<String>,
    /// Seed of random masks
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Width of a uniform quantiser's steps, in root mean squares of the delta
    #[arg(long, value_name = "WIDTH")]
    step: Option<String>,
    /// Factor on the decoded delta: none, mean-abs or unbiased
    #[arg(long, value_name = "RULE")]
    rescale: Option<String>,
}

impl MethodArgs {
    /// The text of the recipe: the method, then every option that was given as `key=value`.
    fn text(&self, default: &str) -> Result<String> {
        let default = if self.lossless { "lossless" } else { default };
        let method = self.method.as_deref().unwrap_or(default).trim();
        let mut text = method.to_owned();
        for (key, value) in self.options() {
            let Some(value) = value else { continue };
            let words = method.split_whitespace();
            if words.filter_map(|word| word.split_once('=')).any(|(known, _)| known == key) {
                let message = format!("{key} is given twice: in --method {method:?} and as --{key} {value}");
                return Err(Error::invalid(message));
            }
            text = format!("{text} {key}={value}");
        }
        Ok(text)
    }

    fn options(&self) -> [(&'static str, &Option<String>); 17] {
        [
            ("quality", &self.quality),
            ("size", &self.size),
            ("ratio", &self.ratio),
            ("error", &self.max_error),
            ("block", &self.block),
            ("bits", &self.bits),
            ("importance", &self.importance),
            ("table", &self.table),
            ("wavelet", &self.wavelet),
            ("levels", &self.levels),
            ("keep", &self.keep),
            ("details", &self.details),
            ("rank", &self.rank),
            ("share", &self.share),
            ("seed", &self.seed),
            ("step", &self.step),
            ("rescale", &self.rescale),
        ]
    }
}

/// Which tensors are coded, and how.
#[derive(Args)]
pub(crate) struct SelectionArgs {
    #[command(flatten)]
    method: MethodArgs,
    /// Code tensors that match GLOB by another recipe; of several rules that match, the last counts
    #[arg(long = "rule", help_heading = SELECTION, value_name = "GLOB=RECIPE")]
    rules: Vec<String>,
    /// Code only tensors that match GLOB, and carry the others exactly
    #[arg(long, help_heading = SELECTION, value_name = "GLOB")]
    include: Vec<String>,
    /// Carry tensors that match GLOB exactly
    #[arg(long, help_heading = SELECTION, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Follow the Python predecessor to the letter, quirks included
    #[arg(long, help_heading = SELECTION)]
    predecessor: bool,
}

impl SelectionArgs {
    /// The library's value for these options. Errors: InvalidArgument, with a hint.
    pub(crate) fn selection(&self) -> Outcome<Selection> {
        self.build().advise(ErrorKind::InvalidArgument, METHODS_HINT)
    }

    fn build(&self) -> Result<Selection> {
        let recipe = self.method.text(if self.predecessor { "dct" } else { "auto" })?.parse()?;
        let mut selection =
            if self.predecessor { Selection::predecessor(recipe)? } else { Selection::new(recipe)? };
        for glob in &self.include {
            selection = selection.include(glob)?;
        }
        for glob in &self.exclude {
            selection = selection.exclude(glob)?;
        }
        for rule in &self.rules {
            let (glob, recipe) = rule.split_once('=').ok_or_else(|| not_a_rule(rule))?;
            selection = selection.rule(glob, recipe.parse()?)?;
        }
        Ok(selection)
    }
}

fn not_a_rule(rule: &str) -> Error {
    Error::invalid(format!("--rule {rule:?} is not GLOB=RECIPE, as in '*.attention.*=dct block=16'"))
}

/// `text` as a recipe. Errors: InvalidArgument, with a hint.
pub(crate) fn recipe(text: &str) -> Outcome<Recipe> {
    text.parse::<Recipe>().advise(ErrorKind::InvalidArgument, METHODS_HINT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        method: MethodArgs,
    }

    fn text(line: &[&str]) -> Result<String> {
        Line::try_parse_from([&["x"], line].concat()).unwrap().method.text("auto")
    }

    #[test]
    fn options_become_keys_of_the_recipe() {
        assert_eq!(text(&[]).unwrap(), "auto");
        assert_eq!(text(&["--max-error", "0.1"]).unwrap(), "auto error=0.1");
        let line = ["--method", "dct", "--bits", "2:0.5,0:0.5", "--block", "32"];
        assert_eq!(text(&line).unwrap(), "dct block=32 bits=2:0.5,0:0.5");
        assert_eq!(text(&["-m", "dwt levels=2", "--wavelet", "haar"]).unwrap(), "dwt levels=2 wavelet=haar");
    }

    #[test]
    fn an_option_given_twice_is_refused() {
        let error = text(&["--method", "dct block=16", "--block", "32"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
