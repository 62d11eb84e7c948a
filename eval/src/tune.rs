//! The smallest file that keeps what a person asks for: many recipes are tried, from coarse to fine.
//!
//! Recipes stand in [`LADDERS`], one for each method, coarse rungs first. On each ladder the coarsest rung that passes
//! is found by halving. Compressing is cheap and judging is not, so a rung is judged only if its file is smaller than
//! the best that has passed so far; ladders that tend to give small files stand first. At the end rates between the
//! best one and the next coarser are tried.

use std::io;
use std::path::Path;
use std::time::Instant;

use delta_dct::{
    Archive, Checkpoint, CompressOptions, Error as DeltaError, ErrorKind, Progress, Recipe, Selection,
    Summary, TensorSummary, compress,
};
use serde::Serialize;

use crate::comparison::{Comparison, Judged};
use crate::error::Result;
use crate::evaluate::Quality;

/// Shares are sums of floating-point numbers: what is equal on paper passes.
const TOLERANCE: f64 = 1e-9;

/// Recipes of one method. A method with a rate becomes part of the search by a row in [`LADDERS`].
pub struct Ladder {
    /// The recipe; `{}` stands for the rate.
    pub recipe: &'static str,
    /// Rates from coarse (a small file) to fine.
    pub rates: &'static [&'static str],
    /// Whether rates are numbers, and those between two rungs make sense, too.
    pub smooth: bool,
}

/// All ladders, in the order in which they are climbed.
pub static LADDERS: &[Ladder] = &[
    Ladder {
        recipe: "factors step={}",
        smooth: true,
        rates: &[
            "30", "24", "20", "17", "14", "12", "10", "8.5", "7", "6", "5", "4", "3", "2.4", "2", "1.5",
            "1.2", "1", "0.8", "0.6", "0.4", "0.2",
        ],
    },
    // Its step depends on how far a pair is apart.
    Ladder { recipe: "auto quality={}", rates: &["tiny", "small", "good", "fine"], smooth: false },
    Ladder {
        recipe: "uniform rescale=unbiased step={}",
        smooth: true,
        rates: &[
            "8", "6", "5", "4", "3.5", "3", "2.5", "2", "1.7", "1.4", "1.2", "1", "0.8", "0.6", "0.4",
            "0.25", "0.1",
        ],
    },
    Ladder {
        recipe: "dct block=32 bits={}",
        smooth: false,
        rates: &[
            "1:0.05,0:0.95",
            "1:0.1,0:0.9",
            "2:0.1,0:0.9",
            "2:0.2,0:0.8",
            "2:0.35,0:0.65",
            "2:0.5,0:0.5",
            "2:0.75,0:0.25",
            "2",
            "3:0.5,2:0.5",
            "3",
            "4",
            "6",
        ],
    },
    Ladder {
        recipe: "sparse share={}",
        smooth: true,
        rates: &["0.001", "0.002", "0.005", "0.01", "0.02", "0.03", "0.05", "0.1", "0.2", "0.4"],
    },
    Ladder {
        recipe: "lowrank bits=3 rank={}",
        smooth: false,
        rates: &["1", "2", "3", "4", "6", "8", "12", "16", "24", "32", "48", "64"],
    },
    Ladder {
        recipe: "dare keep={}",
        smooth: true,
        rates: &["0.02", "0.05", "0.1", "0.2", "0.3", "0.5", "0.8"],
    },
    Ladder { recipe: "bitdelta", rates: &[""], smooth: false },
    Ladder { recipe: LAST_RESORT, rates: &[""], smooth: false },
];

/// Whatever is asked for, this passes.
const LAST_RESORT: &str = "lossless";

/// The largest relative error of the weights where nothing else can be asked for: a tenth of the delta's energy.
pub const USUAL_ERROR: f64 = 0.1;

/// Rates that are tried between the best one and the next coarser.
const BETWEEN: usize = 3;

impl Ladder {
    /// The name of its method.
    pub fn method(&self) -> &'static str {
        self.recipe.split(' ').next().unwrap_or(self.recipe)
    }

    /// The recipe of a rate. Errors: InvalidArgument.
    fn recipe(&self, rate: &str, goal: &Goal) -> Result<Recipe> {
        let recipe: Recipe = self.recipe.replace("{}", rate).parse()?;
        if goal.is_about_behaviour() {
            return Ok(recipe);
        }
        // A factor that undoes the shrinking of a delta helps the model, but moves the weights away. Signs need one.
        let unscaled = recipe.to_string().replace("rescale=unbiased", "rescale=none");
        Ok(unscaled.parse().unwrap_or(recipe))
    }
}

/// What a file has to keep. All that is given counts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Goal {
    /// Accuracy that may be lost against the fine-tuned model: a share, 0.005 is half a point.
    pub max_drop: Option<f64>,
    /// Mean KL divergence from the fine-tuned model's outputs, in nats.
    pub max_kl: Option<f64>,
    /// Mean relative error of the weights, `|result - finetuned|^2 / |finetuned - base|^2` of each tensor that is not
    /// exact, weighted by its elements.
    pub max_error: Option<f64>,
    /// Whether the whole 95% interval of the accuracy's loss has to be within `max_drop`, not just the loss itself.
    pub sure: bool,
}

/// A recipe that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The recipe, with all of its options.
    pub recipe: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Mean relative error of the weights; absent where all are exact.
    pub relative_error: Option<f64>,
    /// What its model is worth; absent where it was not judged.
    pub quality: Option<Quality>,
    /// Whether it keeps what was asked for; absent where its file is not smaller than one that does.
    pub passed: Option<bool>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Tuned {
    /// The recipe of the file.
    pub recipe: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes of the fine-tuned model's weight files.
    pub finetuned_bytes: u64,
    /// Mean relative error of the weights.
    pub relative_error: Option<f64>,
    /// The fine-tuned model on the data, if there is any.
    pub finetuned: Option<Judged>,
    /// What the file that was written makes of the base, judged anew.
    pub result: Option<Judged>,
    /// Everything that was tried, in this order.
    pub tried: Vec<Trial>,
}

/// What is tuned.
pub struct Tuner<'a> {
    /// The base.
    pub base: &'a Checkpoint,
    /// The fine-tuned model.
    pub finetuned: &'a Checkpoint,
    /// Both with data; not needed where the goal is about weights alone.
    pub comparison: Option<&'a Comparison>,
    /// What the file has to keep.
    pub goal: Goal,
    /// Names of the methods that are tried; all where empty. `lossless` is always the last resort.
    pub methods: Vec<String>,
    /// Told of all the work.
    pub progress: &'a dyn Progress,
}

impl Tuner<'_> {
    /// Searches, and writes the smallest file that passes to `output`.
    ///
    /// Errors: InvalidArgument (no goal, or one that models and data say nothing about), Io, Mismatch, Interrupted;
    /// then there is no file.
    pub fn run(&self, output: &Path, overwrite: bool) -> Result<Tuned> {
        let ladders = self.ladders()?;
        self.goal.check(self.comparison.is_some())?;
        if !overwrite && output.symlink_metadata().is_ok() {
            let exists =
                io::Error::new(io::ErrorKind::AlreadyExists, "it exists already (--force overwrites it)");
            return Err(DeltaError::io("write", output, exists).into());
        }
        let finetuned = self.comparison.map(|c| c.judge_finetuned(self.progress)).transpose()?;
        if self.goal.max_drop.is_some()
            && finetuned.as_ref().is_none_or(|judged| judged.quality.accuracy.is_none())
        {
            let message =
                "accuracy needs a classifier and data with labels: give a largest KL divergence instead";
            return Err(DeltaError::invalid(message).into());
        }
        let parent =
            output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = tempfile::Builder::new().prefix(".delta-dct-").tempdir_in(parent);
        let folder = folder.map_err(|e| DeltaError::io("write to", parent, e))?;
        let place = folder.path().join("trial.ddct");
        let mut search = Search { tuner: self, place: &place, best: None, gap: None, tried: Vec::new() };
        ladders.into_iter().try_for_each(|ladder| search.climb(ladder))?;
        search.narrow()?;
        let nothing =
            || DeltaError::new(ErrorKind::Mismatch, format!("nothing passes, not even {LAST_RESORT}"));
        let (recipe, _) = search.best.ok_or_else(nothing)?;
        self.write(&recipe, output, overwrite, finetuned, search.tried)
    }

    fn ladders(&self) -> Result<Vec<&'static Ladder>> {
        let known = || LADDERS.iter().map(Ladder::method).collect::<Vec<_>>().join(", ");
        if let Some(other) =
            self.methods.iter().find(|name| LADDERS.iter().all(|ladder| ladder.method() != *name))
        {
            let message = format!("no rates of a method {other:?} are known; there are {}", known());
            return Err(DeltaError::invalid(message).into());
        }
        let chosen = |ladder: &&Ladder| self.methods.iter().any(|name| name == ladder.method());
        let all =
            |ladder: &&Ladder| self.methods.is_empty() || chosen(ladder) || ladder.method() == LAST_RESORT;
        Ok(LADDERS.iter().filter(all).collect())
    }

    /// Writes the file that was chosen, and judges what is in it.
    fn write(
        &self,
        recipe: &Recipe,
        output: &Path,
        overwrite: bool,
        finetuned: Option<Judged>,
        tried: Vec<Trial>,
    ) -> Result<Tuned> {
        let summary = self.compress(recipe, output, overwrite)?;
        let archive = Archive::open(output)?;
        archive.verify(Some(self.base), self.progress)?;
        let result = self.comparison.map(|c| c.judge(&archive, output, self.progress)).transpose()?;
        Ok(Tuned {
            recipe: recipe.to_string(),
            bytes: summary.output_bytes,
            finetuned_bytes: summary.finetuned_bytes,
            relative_error: TensorSummary::mean_error(&summary.tensors),
            finetuned,
            result,
            tried,
        })
    }

    fn compress(&self, recipe: &Recipe, output: &Path, overwrite: bool) -> Result<Summary> {
        let options = CompressOptions {
            selection: Selection::new(recipe.clone())?,
            force_unrelated: false,
            overwrite,
            dry_run: false,
        };
        Ok(compress(self.base, self.finetuned, output, &options, self.progress)?)
    }
}

/// A search on its way.
struct Search<'a> {
    tuner: &'a Tuner<'a>,
    /// Where the file of a trial lies until the next one.
    place: &'a Path,
    /// The smallest that has passed, and its bytes.
    best: Option<(Recipe, u64)>,
    /// Its ladder, and the rates on both sides of the border that was found there: a coarse one that fails, its own.
    gap: Option<(&'a Ladder, f64, f64)>,
    tried: Vec<Trial>,
}

impl<'a> Search<'a> {
    /// Finds the coarsest rung that passes, unless no rung can be smaller than the best.
    fn climb(&mut self, ladder: &'a Ladder) -> Result<()> {
        let (mut low, mut high) = (0, ladder.rates.len());
        let rate = |i: usize| ladder.rates.get(i).copied().unwrap_or_default();
        if self.best.is_some() && self.is_beaten(ladder.recipe(rate(0), &self.tuner.goal)?)? {
            return Ok(());
        }
        // Rungs below `low` fail; those from `high` on pass, or are too large.
        while low < high {
            let middle = low + (high - low) / 2;
            let recipe = ladder.recipe(rate(middle), &self.tuner.goal)?;
            if self.attempt(recipe)? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let own = ladder.rates.get(high).map(|rate| ladder.recipe(rate, &self.tuner.goal)).transpose()?;
        if own.is_some_and(|own| self.best.as_ref().is_some_and(|(best, _)| *best == own)) {
            let number = |i: usize| rate(i).parse().ok().filter(|_| ladder.smooth);
            let coarser = high.checked_sub(1).and_then(number);
            self.gap = coarser.zip(number(high)).map(|(coarse, fine)| (ladder, coarse, fine));
        }
        Ok(())
    }

    /// Tries rates between that of the best recipe and the next coarser one, which failed.
    fn narrow(&mut self) -> Result<()> {
        let Some((ladder, mut coarse, mut fine)) = self.gap else { return Ok(()) };
        for _ in 0..BETWEEN {
            let middle: f64 = (coarse * fine).sqrt();
            let rate = format!("{middle:.*}", (2.0 - middle.log10().floor()).max(0.0) as usize);
            let passed = self.attempt(ladder.recipe(&rate, &self.tuner.goal)?)?;
            *(if passed { &mut fine } else { &mut coarse }) = middle;
        }
        Ok(())
    }

    /// Whether a ladder's coarsest recipe is not smaller than the best.
    fn is_beaten(&mut self, recipe: Recipe) -> Result<bool> {
        let start = Instant::now();
        let summary = self.tuner.compress(&recipe, self.place, true)?;
        let beaten = self.is_large(&summary);
        if beaten {
            self.note(&recipe, &summary, None, None, start);
        }
        Ok(beaten)
    }

    /// Tries a recipe: whether it passes, or is no smaller than one that does.
    fn attempt(&mut self, recipe: Recipe) -> Result<bool> {
        let start = Instant::now();
        let tuner = self.tuner;
        let summary = tuner.compress(&recipe, self.place, true)?;
        if self.is_large(&summary) {
            self.note(&recipe, &summary, None, None, start);
            return Ok(true);
        }
        let judge = |comparison: &Comparison| {
            comparison
                .judge(&Archive::open(self.place)?, self.place, tuner.progress)
                .map(|judged| judged.quality)
        };
        let near = tuner
            .goal
            .max_error
            .is_none_or(|most| TensorSummary::mean_error(&summary.tensors).unwrap_or(0.0) <= most);
        let quality = tuner.comparison.filter(|_| near).map(judge).transpose()?;
        let passed = near && tuner.goal.is_met(quality.as_ref());
        self.note(&recipe, &summary, quality, Some(passed), start);
        if passed {
            self.best = Some((recipe, summary.output_bytes));
        }
        Ok(passed)
    }

    fn is_large(&self, summary: &Summary) -> bool {
        self.best.as_ref().is_some_and(|(_, bytes)| summary.output_bytes >= *bytes)
    }

    fn note(
        &mut self,
        recipe: &Recipe,
        summary: &Summary,
        quality: Option<Quality>,
        passed: Option<bool>,
        start: Instant,
    ) {
        self.tried.push(Trial {
            recipe: recipe.to_string(),
            bytes: summary.output_bytes,
            relative_error: TensorSummary::mean_error(&summary.tensors),
            quality,
            passed,
            seconds: start.elapsed().as_secs_f64(),
        });
    }
}

impl Goal {
    /// Errors: InvalidArgument if nothing is asked for, or something that needs data.
    pub fn check(&self, has_data: bool) -> Result<()> {
        let message = match (self.is_about_behaviour(), self.max_error) {
            (false, None) => {
                "say what the file has to keep: a largest drop of accuracy, KL divergence, or error of the weights"
            }
            (true, _) if !has_data => "accuracy and KL divergence are measured on data, and none is given",
            _ if [self.max_drop, self.max_kl, self.max_error]
                .into_iter()
                .flatten()
                .any(|x| x.is_nan() || x < 0.0) =>
            {
                "what may be lost is a number from 0 up"
            }
            _ => return Ok(()),
        };
        Err(DeltaError::invalid(message).into())
    }

    fn is_about_behaviour(&self) -> bool {
        self.max_drop.is_some() || self.max_kl.is_some()
    }

    /// Whether a model keeps what is asked for; what was not measured is not kept.
    fn is_met(&self, quality: Option<&Quality>) -> bool {
        let difference = quality.and_then(|quality| match self.sure {
            true => quality.accuracy_difference_interval.map(|(low, _)| low),
            false => quality.accuracy_difference,
        });
        let kl = quality.and_then(|quality| quality.kl);
        self.max_drop.is_none_or(|most| difference.is_some_and(|difference| difference >= -most - TOLERANCE))
            && self.max_kl.is_none_or(|most| kl.is_some_and(|kl| kl <= most))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_rung_is_a_recipe() {
        let weights = Goal { max_error: Some(0.1), ..Goal::default() };
        let behaviour = Goal { max_kl: Some(0.1), ..weights.clone() };
        for ladder in LADDERS {
            for rate in ladder.rates {
                assert!(!ladder.smooth || rate.parse::<f64>().is_ok(), "{rate}");
                let recipe = ladder.recipe(rate, &behaviour).unwrap().to_string();
                assert!(recipe.starts_with(ladder.method()), "{recipe}");
                let recipe = ladder.recipe(rate, &weights).unwrap().to_string();
                assert!(!recipe.contains("unbiased") || recipe.starts_with("bitdelta"), "{recipe}");
            }
        }
    }

    #[test]
    fn goals_are_met_to_the_last_example() {
        let quality = Quality {
            accuracy_difference: Some(-3.0 / 1000.0),
            accuracy_difference_interval: Some((-0.008, 0.002)),
            kl: Some(0.01),
            ..Quality::default()
        };
        let met =
            |max_drop, max_kl, sure| Goal { max_drop, max_kl, sure, max_error: None }.is_met(Some(&quality));
        assert!(met(Some(0.3 / 100.0), None, false) && !met(Some(0.0029), None, false));
        assert!(met(Some(0.008), None, true) && !met(Some(0.003), None, true));
        assert!(met(Some(0.003), Some(0.01), false) && !met(Some(0.003), Some(0.009), false));
        assert!(!Goal { max_kl: Some(1.0), ..Goal::default() }.is_met(Some(&Quality::default())));
    }

    #[test]
    fn a_goal_is_needed_and_data_for_it() {
        assert!(Goal::default().check(true).is_err());
        assert!(Goal { max_kl: Some(0.1), ..Goal::default() }.check(false).is_err());
        assert!(Goal { max_error: Some(f64::NAN), ..Goal::default() }.check(false).is_err());
        assert!(Goal { max_error: Some(0.1), ..Goal::default() }.check(false).is_ok());
    }
}
