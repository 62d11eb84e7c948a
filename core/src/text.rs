//! The text form that every front end speaks: `name key=value key=value`.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A parsed `name key=value ...`, whose fields are taken one by one.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    name: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let name = words.next().ok_or_else(|| Error::invalid("an empty name"))?;
        let pairs = words
            .map(|word| {
                word.split_once('=').ok_or_else(|| Error::invalid(format!("{word:?} is not key=value")))
            })
            .collect::<Result<_>>()?;
        Ok(Self { name, pairs })
    }

    pub(crate) fn name(&self) -> &'a str {
        self.name
    }

    /// The value of `key`, removed; `default` if it is not there.
    pub(crate) fn take<T>(&mut self, key: &str, default: T) -> Result<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(at) = self.pairs.iter().position(|(k, _)| *k == key) else { return Ok(default) };
        let (_, value) = self.pairs.remove(at);
        value.parse().map_err(|e: T::Err| Error::invalid(format!("{key}={value}: {e}")))
    }

    /// Fails if a field was not taken: a misspelt key is never ignored.
    pub(crate) fn finish(self) -> Result<()> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, _)) => Err(Error::invalid(format!("{} has no option {key:?}", self.name))),
        }
    }
}
