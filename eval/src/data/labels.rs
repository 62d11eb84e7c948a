//! Labels of examples, and the classes of a model that they mean.

use std::collections::{BTreeMap, BTreeSet};

use delta_dct::Error as DeltaError;
use serde_json::Value;

use crate::error::Result;

/// Above any real number of classes.
const MAX_CLASSES: u32 = 1 << 16;

/// What an example is labelled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// The index of a class.
    Class(u32),
    /// The name of a class.
    Name(String),
}

impl Label {
    /// A class, or none: test sets without labels have -1.
    pub(super) fn number(number: i64) -> Option<Self> {
        u32::try_from(number).ok().map(Self::Class)
    }

    /// A number, or else a name; an empty field is none.
    pub(super) fn text(text: &str) -> Option<Self> {
        match text.trim() {
            "" => None,
            text => text.parse().map_or_else(|_| Some(Self::Name(text.to_owned())), Self::number),
        }
    }
}

/// The classes of a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes {
    /// How many, where the config says.
    count: Option<usize>,
    /// Their indices by name in lower case; empty where the config has no names but `LABEL_0` and so on.
    names: BTreeMap<String, u32>,
}

impl Classes {
    /// Those of a `config.json`: `id2label`, else `label2id`, else `num_labels`.
    pub(super) fn of(config: &Value) -> Self {
        let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let by_id = config["id2label"].as_object().into_iter().flatten();
        let by_id = by_id.filter_map(|(id, name)| Some((name.as_str()?.to_lowercase(), id.parse().ok()?)));
        let by_name = config["label2id"].as_object().into_iter().flatten();
        let by_name = by_name.filter_map(|(name, id)| Some((name.to_lowercase(), number(id)?)));
        let mut names: BTreeMap<String, u32> = by_id.collect();
        if names.is_empty() {
            names = by_name.collect();
        }
        let count = if names.is_empty() {
            config["num_labels"].as_u64().map(|n| n as usize)
        } else {
            Some(names.len())
        };
        if names.keys().all(|name| name.starts_with("label_")) {
            names.clear();
        }
        Self { count, names }
    }

    /// The class of each label.
    ///
    /// Names are looked up without regard to case. Where the model has no names for its classes, the names that occur
    /// are numbered in their order. Errors: `Mismatch` for a name or a number that the model does not have.
    pub(super) fn resolve(&self, labels: &[Option<Label>]) -> Result<Vec<Option<u32>>> {
        let found: BTreeSet<&str> = labels.iter().filter_map(|label| name(label.as_ref()?)).collect();
        let numbered = (0..).zip(&found).map(|(n, name)| (name.to_lowercase(), n)).collect();
        let names = if self.names.is_empty() { &numbered } else { &self.names };
        let class = |label: &Label| match label {
            Label::Class(class) => Ok(*class),
            Label::Name(name) => names.get(&name.to_lowercase()).copied().ok_or_else(|| {
                let known: Vec<&str> = names.keys().take(12).map(String::as_str).collect();
                DeltaError::mismatch(format!(
                    "the data has a label {name:?}, the model has {}",
                    known.join(", ")
                ))
            }),
        };
        let checked = |label: &Label| {
            let class = class(label)?;
            match self.count {
                Some(count) if class as usize >= count => Err(DeltaError::mismatch(format!(
                    "the data has a label {class}, the model has {count} classes"
                ))
                .into()),
                _ => Ok(class),
            }
        };
        labels.iter().map(|label| label.as_ref().map(checked).transpose()).collect()
    }
}

fn name(label: &Label) -> Option<&str> {
    match label {
        Label::Class(_) => None,
        Label::Name(name) => Some(name),
    }
}

/// The names of the classes that `labels` mean; what is wrong with them, if they mean none.
pub(super) fn class_names(labels: &[Option<Label>]) -> std::result::Result<Vec<String>, String> {
    let names: BTreeMap<String, &str> = labels
        .iter()
        .filter_map(|label| name(label.as_ref()?))
        .map(|name| (name.to_lowercase(), name))
        .collect();
    let numbers = labels.iter().filter_map(|label| match label {
        Some(Label::Class(class)) => Some(*class),
        _ => None,
    });
    match (names.is_empty(), numbers.max()) {
        (true, None) => Err("no labels: which column or array holds them?".to_owned()),
        (true, Some(last)) if last >= MAX_CLASSES => Err(format!("a label {last}: that is no class")),
        (true, Some(last)) => Ok((0..=last).map(|class| format!("LABEL_{class}")).collect()),
        (false, None) => Ok(names.into_values().map(str::to_owned).collect()),
        (false, Some(number)) => Err(format!("some labels are names, others are numbers ({number})")),
    }
}
