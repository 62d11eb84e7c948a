//! What the models of the demo are worth on the data beside them. Without the feature `eval`, or without data, nothing is
//! judged.

use std::path::Path;

use delta_dct::Archive;
#[cfg(feature = "eval")]
use delta_dct_eval::data::DataOptions;
#[cfg(feature = "eval")]
use delta_dct_eval::{Comparison, Judged, Sources};
use serde::Serialize;

use crate::failure::Outcome;
use crate::progress::Bar;
use crate::units;

/// Quality of one model; fields as in `eval`.
#[derive(Serialize)]
pub(super) struct Worth {
    accuracy: Option<f64>,
    kl: Option<f64>,
}

impl Worth {
    /// Accuracy and KL as the table shows them.
    pub(super) fn cells(&self) -> [String; 2] {
        let accuracy = self.accuracy.map_or(String::new(), |share| format!("{:.2}%", 100.0 * share));
        [accuracy, self.kl.map_or(String::new(), |kl| units::relative_error(Some(kl)))]
    }
}

/// The pair with its data, ready to be run.
pub(super) struct Judge {
    #[cfg(feature = "eval")]
    comparison: Option<Comparison>,
}

#[cfg(feature = "eval")]
impl Judge {
    /// Reads models and data of the pair in `dir`, if it has data.
    pub(super) fn open(dir: &Path) -> Outcome<Self> {
        let data = dir.join("eval/test.safetensors");
        if !data.exists() {
            return Ok(Self { comparison: None });
        }
        let (base, finetuned) = (dir.join("base"), dir.join("ft"));
        let sources =
            Sources { base, finetuned, data: vec![data], options: DataOptions::default(), batch: 32 };
        Ok(Self { comparison: Some(Comparison::open(&sources)?) })
    }

    /// The number of examples.
    pub(super) fn examples(&self) -> Option<usize> {
        self.comparison.as_ref().map(Comparison::examples)
    }

    /// What base and fine-tuned model are worth.
    pub(super) fn originals(&self, bar: &Bar) -> Outcome<Vec<(&'static str, Worth)>> {
        let Some(comparison) = &self.comparison else { return Ok(Vec::new()) };
        let finetuned = worth(comparison.judge_finetuned(bar)?);
        Ok(vec![("base", worth(comparison.judge_base(bar)?)), ("finetuned", finetuned)])
    }

    /// What `archive` (the file at `path`) makes of the base.
    pub(super) fn delta(&self, archive: &Archive, path: &Path, bar: &Bar) -> Outcome<Option<Worth>> {
        let Some(comparison) = &self.comparison else { return Ok(None) };
        Ok(Some(worth(comparison.judge(archive, path, bar)?)))
    }
}

#[cfg(feature = "eval")]
fn worth(judged: Judged) -> Worth {
    Worth { accuracy: judged.quality.accuracy, kl: judged.quality.kl }
}

#[cfg(not(feature = "eval"))]
impl Judge {
    pub(super) fn open(_: &Path) -> Outcome<Self> {
        Ok(Self {})
    }

    pub(super) fn examples(&self) -> Option<usize> {
        None
    }

    pub(super) fn originals(&self, _: &Bar) -> Outcome<Vec<(&'static str, Worth)>> {
        Ok(Vec::new())
    }

    pub(super) fn delta(&self, _: &Archive, _: &Path, _: &Bar) -> Outcome<Option<Worth>> {
        Ok(None)
    }
}
