//! The named tensors of a pickled state dict.

use std::collections::{BTreeMap, BTreeSet};

use super::pickle::{Object, Pickle, Value};
use super::rebuild::Stored;
use crate::error::{Error, Result};

/// Keys that training scripts wrap a state dict in.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model", "module", "net"];

/// The named tensors of a pickle.
pub(super) type Tensors<'p, 'a> = BTreeMap<&'a str, &'p Stored<'a>>;

/// The tensors of the pickled dict (inside its wrapper, where it has one), and the names of all else.
pub(super) fn state_dict<'p, 'a>(pickle: &'p Pickle<'a>) -> Result<(Tensors<'p, 'a>, BTreeSet<String>)> {
    let mut ignored = BTreeSet::new();
    let mut dict = pickle.root;
    // A wrapper in a wrapper occurs; a longer chain is nonsense, and might be a circle.
    for _ in 0..4 {
        let Some(inner) = wrapped(pickle, dict)? else { break };
        let others = pickle
            .dict(dict)
            .unwrap_or(&[])
            .iter()
            .filter(|(key, _)| !matches!(key, Value::Str(k) if *k == inner.0));
        ignored.extend(others.map(|(key, _)| text(*key)));
        dict = inner.1;
    }
    let pairs = pickle.dict(dict).ok_or_else(|| {
        Error::unsupported("it does not hold a dict of tensors; re-save the state dict as safetensors")
    })?;
    let mut tensors = Tensors::new();
    for &(key, value) in pairs {
        match (key, pickle.object(value)) {
            (Value::Str(name), Some(Object::Tensor(tensor))) => drop(tensors.insert(name, &**tensor)),
            _ => drop(ignored.insert(text(key))),
        }
    }
    if tensors.is_empty() {
        return Err(Error::unsupported("its dict holds no tensors; re-save the state dict as safetensors"));
    }
    Ok((tensors, ignored))
}

/// The one wrapped dict inside `dict`: its key and the dict; several are ambiguous.
fn wrapped<'a>(pickle: &Pickle<'a>, dict: Value<'a>) -> Result<Option<(&'a str, Value<'a>)>> {
    let pairs = pickle.dict(dict).unwrap_or(&[]);
    let mut found = pairs.iter().filter_map(|&(key, value)| match key {
        Value::Str(key) if WRAPPERS.contains(&key) && pickle.dict(value).is_some_and(|d| !d.is_empty()) => {
            Some((key, value))
        }
        _ => None,
    });
    match (found.next(), found.next()) {
        (Some((a, _)), Some((b, _))) => {
            let message =
                format!("it holds two models, {a} and {b}; re-save the one you mean as safetensors");
            Err(Error::unsupported(message))
        }
        (one, _) => Ok(one),
    }
}

/// A dict's key for people.
fn text(key: Value<'_>) -> String {
    match key {
        Value::Str(key) => key.chars().take(200).collect(),
        Value::Int(key) => key.to_string(),
        _ => "(not a name)".into(),
    }
}
