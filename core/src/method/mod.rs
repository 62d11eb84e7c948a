//! Methods: what a person asks for, as data, and how it becomes a plan for each tensor.

pub(crate) mod rate;
mod roles;
mod selection;

use std::fmt;
use std::str::FromStr;

pub use self::rate::Target;
pub(crate) use self::roles::sensitivity;
pub use self::selection::Selection;
use crate::error::{Error, Result};
use crate::plan::{Plan, Rescale};
use crate::quantize::Quantizer;
use crate::transform::Transform;

/// A named way of coding deltas.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// What it is called.
    pub name: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Its default plan (`TRANSFORM | QUANTIZER | RESCALE`), or `raw`, `zero`, `lossless rank=N`, or `auto` with a target.
    /// Every `key=value` in it is an option.
    pub plan: &'static str,
}

/// All methods. Front ends, tables and tests iterate over this.
pub static METHODS: &[Method] = &[
    Method {
        name: "auto",
        paper: "this project",
        summary: "factors with the step that meets a quality, a size or an error",
        plan: "auto quality=good bits=- ratio=- size=- error=-",
    },
    Method {
        name: "factors",
        paper: "this project",
        summary: "coarse singular factors that keep their gain; with a fine step the rest too",
        plan: "factors step=13 rank=256 rest=2 | rest | none",
    },
    Method {
        name: "dct",
        paper: "Delta-DCT, arXiv:2503.06676",
        summary: "2-D DCT of blocks, more bits for blocks of larger norm",
        plan: "dct block=32 table=none | minmax bits=2:0.5,0:0.5 importance=pre predecessor=false | unbiased",
    },
    Method {
        name: "dct-jpeg",
        paper: "Delta-DCT, with the table of ITU-T T.81",
        summary: "dct, coefficients divided by the JPEG luminance table",
        plan: "dct block=32 table=jpeg | minmax bits=2:0.5,0:0.5 importance=pre predecessor=false | unbiased",
    },
    Method {
        name: "dct-post",
        paper: "Delta-DCT, ranked after the transform",
        summary: "dct, more bits for blocks with more energy in their low frequencies",
        plan: "dct block=32 table=none | minmax bits=2:0.5,0:0.5 importance=post4 predecessor=false | unbiased",
    },
    Method {
        name: "dwt",
        paper: "Delta-DCT, with wavelets",
        summary: "2-D wavelet transform of blocks",
        plan: "dwt block=32 wavelet=haar levels=1 keep=all table=none \
               | minmax bits=2:0.5,0:0.5 importance=pre details=1 predecessor=false | unbiased",
    },
    Method {
        name: "bitdelta",
        paper: "BitDelta, arXiv:2402.10193",
        summary: "the sign of every weight and one scale a tensor",
        plan: "none | sign | unbiased",
    },
    Method {
        name: "lowrank",
        paper: "truncated SVD (Eckart and Young 1936)",
        summary: "the leading singular directions, quantised",
        plan: "lowrank rank=16 bits=3 | minmax bits=3:1 | unbiased",
    },
    Method {
        name: "sparse",
        paper: "magnitude pruning",
        summary: "the weights that changed most",
        plan: "top share=0.01 | minmax bits=4:1 | unbiased",
    },
    Method {
        name: "dare",
        paper: "DARE, arXiv:2311.03099",
        summary: "a random share of the weights, scaled up; the mask is a seed",
        plan: "mask keep=0.1 seed=0 | minmax bits=4:1 | none",
    },
    Method {
        name: "uniform",
        paper: "uniform scalar quantisation",
        summary: "every weight as a multiple of one step",
        plan: "none | uniform step=0.25 | none",
    },
    Method { name: "zero", paper: "", summary: "no delta at all: the base itself", plan: "zero" },
    Method {
        name: "lossless",
        paper: "",
        summary: "the fine-tuned weights bit for bit, as they differ from the base plus `rank` singular directions",
        plan: "lossless rank=auto",
    },
    Method { name: "raw", paper: "", summary: "the fine-tuned weights themselves, bit for bit", plan: "raw" },
];

/// A method with its options; text form `dct block=16 bits=4:0.5,0:0.5`, where options that are left out have the
/// method's defaults. `Display` writes all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    text: String,
    pub(crate) action: Action,
}

/// What to do with the delta of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Raw,
    /// Exactly, against the base or against what `plan` makes of the delta, whichever is smaller. The latter is tried only
    /// where the former leaves much of the tensor, if not `always`: it takes several times as long.
    Exact {
        plan: Option<Plan>,
        always: bool,
    },
    Zero,
    Code(Plan),
    /// To be resolved for a pair of checkpoints.
    Aim(Target),
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let method = METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
            let known: Vec<_> = METHODS.iter().map(|method| method.name).collect();
            Error::invalid(format!("no method is called {name:?}; there are {}", known.join(", ")))
        })?;
        let mut plan = method.plan.to_owned();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("{word:?} is not an option of the form key=value")))?;
            plan = method.with_option(&plan, key, value)?;
        }
        let asked: Vec<&str> = plan.split_whitespace().filter(|word| !word.ends_with("=-")).collect();
        match asked.as_slice() {
            ["auto", "quality=lossless"] => return "lossless".parse(),
            ["auto", "quality=lossless", ..] => {
                return Err(Error::invalid(
                    "quality=lossless takes as many bytes as it needs, and no other wish",
                ));
            }
            _ => {}
        }
        let action = match (plan.as_str(), plan.strip_prefix("lossless rank=")) {
            ("raw", _) => Action::Raw,
            ("zero", _) => Action::Zero,
            _ if method.name == "auto" => Action::Aim(Target::from_words(plan.split_whitespace())?),
            (_, Some("0")) => Action::Exact { plan: None, always: false },
            (_, Some(rank)) => {
                let (rank, always) = if rank == "auto" { ("16", false) } else { (rank, true) };
                let plan = format!("lowrank rank={rank} bits=4 | minmax bits=4:1 | none").parse()?;
                Action::Exact { plan: Some(plan), always }
            }
            _ => Action::Code(plan.parse()?),
        };
        Ok(Self { text: method.text(&plan), action })
    }
}

impl Recipe {
    /// What the recipe aims at, if it does.
    pub(crate) fn target(&self) -> Option<Target> {
        match self.action {
            Action::Aim(target) => Some(target),
            _ => None,
        }
    }

    /// The recipe with factors of `step` in the place of an aim.
    pub(crate) fn resolved(&self, step: f32) -> Result<Self> {
        if self.target().is_some() { format!("factors step={step}").parse() } else { Ok(self.clone()) }
    }

    /// Step, largest rank, and step from which on there is a rest, of a recipe of factors.
    fn factors(&self) -> Option<(f32, usize, f32)> {
        match self.action {
            Action::Code(Plan { transform: Transform::Factors { step, rank, rest }, .. }) => {
                Some((step, rank, rest))
            }
            _ => None,
        }
    }

    /// The recipe with the predecessor's quantiser, and without a rescale that the predecessor did not have.
    ///
    /// Errors: InvalidArgument for methods and settings that the predecessor did not have, or garbled.
    pub(crate) fn in_predecessor_mode(&self) -> Result<Self> {
        let unknown =
            || Err(Error::invalid(format!("the predecessor had the methods dct and dwt, not {self}")));
        let Action::Code(Plan { quantizer: Quantizer::MinMax(_), rescale, transform }) = &self.action else {
            return unknown();
        };
        if transform.block().is_none() {
            return unknown();
        }
        let rescale = if *rescale == Rescale::Unbiased { Rescale::None } else { *rescale };
        format!("{self} predecessor=true rescale={rescale}").parse()
    }
}

impl Method {
    /// The names of its options.
    pub fn options(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        for (key, _) in self.plan.split_whitespace().filter_map(|word| word.split_once('=')) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if self.plan.contains('|') {
            keys.push("rescale");
        }
        keys
    }

    /// The method's name with the options that `plan` gives it.
    fn text(&self, plan: &str) -> String {
        let mut words = vec![self.name.to_owned()];
        for key in self.options() {
            let value = plan.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            let rescale = || plan.rsplit_once('|').map_or("", |(_, rescale)| rescale.trim());
            words.push(format!("{key}={}", value.unwrap_or_else(rescale)));
        }
        words.join(" ")
    }

    /// `plan` with option `key` set to `value`, wherever the plan has it.
    fn with_option(&self, plan: &str, key: &str, value: &str) -> Result<String> {
        if !self.options().contains(&key) {
            let known = self.options().join(", ");
            return Err(Error::invalid(format!(
                "method {} has no option {key:?}; it has: {known}",
                self.name
            )));
        }
        if key == "rescale" {
            let stages = plan.rsplit_once('|').map_or(plan, |(stages, _)| stages);
            return Ok(format!("{stages}| {value}"));
        }
        let replace = |word: &str| match word.split_once('=') {
            Some((k, _)) if k == key => format!("{key}={value}"),
            _ => word.to_owned(),
        };
        Ok(plan.split_whitespace().map(replace).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
