//! Models by text.

use delta_dct::Error as DeltaError;
use serde::{Deserialize, Serialize};

use super::id::quoted;
use crate::error::Result;

/// The most models that the hub gives at a time.
const MOST: usize = 1000;

/// What people call an order, and what the hub does.
const ORDERS: [(&str, &str); 5] = [
    ("downloads", "downloads"),
    ("likes", "likes"),
    ("trending", "trendingScore"),
    ("updated", "lastModified"),
    ("created", "createdAt"),
];

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// Part of the name.
    pub text: String,
    /// Organisation or person.
    pub author: Option<String>,
    /// `downloads`, `likes`, `trending`, `updated` or `created`: highest and latest first.
    pub sort: String,
    /// Number of models: 1 to 1000.
    pub limit: usize,
}

/// A model of the hub.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Found {
    /// `ORG/NAME`
    pub id: String,
    /// Downloads of the last 30 days.
    #[serde(default)]
    pub downloads: u64,
    /// People who like it.
    #[serde(default)]
    pub likes: u64,
    /// What it is for, as in `text-classification`.
    #[serde(default, rename(deserialize = "pipeline_tag"))]
    pub task: Option<String>,
    /// Library, languages, data, license and base model among them.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl Query {
    /// Path and query behind the hub's address. Errors: InvalidArgument.
    pub(super) fn place(&self) -> Result<String> {
        let Some((_, sort)) = ORDERS.iter().find(|(name, _)| *name == self.sort) else {
            let known = ORDERS.map(|(name, _)| name).join(", ");
            return Err(DeltaError::invalid(format!(
                "models cannot be sorted by {:?}, but by {known}",
                self.sort
            ))
            .into());
        };
        if !(1..=MOST).contains(&self.limit) {
            let message = format!("a search gives 1 to {MOST} models, not {}", self.limit);
            return Err(DeltaError::invalid(message).into());
        }
        let author =
            self.author.as_ref().map_or(String::new(), |author| format!("&author={}", quoted(author)));
        Ok(format!("/api/models?search={}{author}&sort={sort}&limit={}", quoted(&self.text), self.limit))
    }
}
