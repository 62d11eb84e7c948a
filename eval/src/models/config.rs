//! A model's `config.json`, field by field, with the defaults of `transformers` where one is absent.

use delta_dct::Error;
use serde_json::Value;

use super::layers::{Activation, Dropout};
use super::{KNOWN, Task};
use crate::error::Result;

/// A `config.json`.
#[derive(Clone, Copy)]
pub(crate) struct Config<'a>(pub(crate) &'a Value);

impl<'a> Config<'a> {
    /// The type of model, and what it is for. Errors: Unsupported, with what is known.
    pub(crate) fn kind(self) -> Result<(&'a str, Task)> {
        let kind = self.word("model_type").unwrap_or_default();
        let architecture =
            self.field("architectures").and_then(|all| all.get(0)?.as_str()).unwrap_or_default();
        let fits = |&&(name, ending, _): &&(&str, &str, Task)| {
            name == kind && (architecture.is_empty() || architecture.ends_with(ending))
        };
        match KNOWN.iter().find(fits) {
            Some(&(_, _, task)) => Ok((kind, task)),
            None => {
                let known: Vec<_> =
                    KNOWN.iter().map(|(name, ending, _)| format!("{name} {ending}")).collect();
                let message = format!(
                    "config.json: a model of type {kind:?} and architecture {architecture:?} cannot be run; known: {}",
                    known.join(", ")
                );
                Err(Error::unsupported(message).into())
            }
        }
    }

    /// A field that is there and not null.
    fn field(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A size or count.
    pub(crate) fn size(self, name: &str, default: usize) -> Result<usize> {
        let Some(value) = self.field(name) else { return Ok(default) };
        let size = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= MAX_SIZE);
        size.ok_or_else(|| wrong(name, value, "a size"))
    }

    /// A number.
    pub(crate) fn number(self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.field(name) else { return Ok(default) };
        value.as_f64().ok_or_else(|| wrong(name, value, "a number"))
    }

    /// A truth value.
    pub(crate) fn flag(self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.field(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| wrong(name, value, "true or false"))
    }

    /// A word.
    pub(crate) fn word(self, name: &str) -> Option<&'a str> {
        self.field(name)?.as_str()
    }

    /// Sizes, one a stage.
    pub(crate) fn sizes(self, name: &str, default: &[usize]) -> Result<Vec<usize>> {
        let Some(value) = self.field(name) else { return Ok(default.to_vec()) };
        let size =
            |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= MAX_SIZE);
        let sizes = value.as_array().and_then(|all| all.iter().map(size).collect());
        sizes.ok_or_else(|| wrong(name, value, "a list of sizes"))
    }

    /// Height and width, given as one number or two.
    pub(crate) fn sides(self, name: &str, default: usize) -> Result<(usize, usize)> {
        match self.field(name) {
            Some(Value::Array(_)) => match self.sizes(name, &[])?.as_slice() {
                [height, width] => Ok((*height, *width)),
                _ => Err(Error::invalid(format!("config.json: {name} has not two sides")).into()),
            },
            _ => self.size(name, default).map(|side| (side, side)),
        }
    }

    /// An object.
    pub(crate) fn object(self, name: &str) -> Option<Config<'a>> {
        self.field(name).filter(|value| value.is_object()).map(Config)
    }

    /// An activation by its name.
    pub(crate) fn activation(self, name: &str, default: &str) -> Result<Activation> {
        let word = self.word(name).unwrap_or(default);
        Activation::named(word).ok_or_else(|| {
            Error::unsupported(format!("config.json: {name} is {word:?}, which this version cannot compute"))
                .into()
        })
    }

    /// The share that a dropout drops. Errors: InvalidArgument (not at least 0 and below 1).
    pub(crate) fn dropout(self, name: &str, default: f64) -> Result<Dropout> {
        let share = self.number(name, default)?;
        match (0.0..1.0).contains(&share) {
            true => Ok(Dropout(share)),
            false => {
                Err(Error::invalid(format!("config.json: {name} is {share}, not a share below 1")).into())
            }
        }
    }

    /// The number of classes: of `id2label`, or else `num_labels`, or 2.
    pub(crate) fn labels(self) -> Result<usize> {
        match self.field("id2label").and_then(Value::as_object) {
            Some(labels) => Ok(labels.len()),
            None => self.size("num_labels", 2),
        }
    }
}

/// Above any real size; products of a few of these do not overflow.
const MAX_SIZE: usize = 1 << 20;

fn wrong(name: &str, value: &Value, wanted: &str) -> crate::error::Error {
    Error::invalid(format!("config.json: {name} is {value}, not {wanted}")).into()
}
