//! `hf://[models/|datasets/]ORG/NAME[@REVISION][/PATH]`, as `huggingface_hub` writes places on the hub.

use std::fmt;
use std::str::FromStr;

use delta_dct::Error as DeltaError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::Error;

/// What may stand in an address as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same, for paths.
const PATH: &AsciiSet = &PLAIN.remove(b'/');

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A model, or `.ddct` files.
    Model,
    /// Data.
    Dataset,
}

/// A repository, or a file or folder in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    /// What it holds.
    pub(super) kind: Kind,
    /// `ORG/NAME`, or just `NAME` for a few old models.
    pub(super) repo: String,
    /// Branch, tag or commit.
    pub(super) revision: String,
    /// File or folder; empty for all of it.
    pub(super) path: String,
}

impl Id {
    /// The folder of the repository in a cache.
    pub(super) fn folder(&self) -> String {
        format!("{}--{}", self.plural(), self.repo.replace('/', "--"))
    }

    /// Where the hub tells about the revision: a path and query behind its address.
    pub(super) fn about(&self) -> String {
        format!("/api/{}/{}/revision/{}", self.plural(), self.repo, quoted(&self.revision))
    }

    /// Where the hub has a file of a commit.
    pub(super) fn file(&self, commit: &str, name: &str) -> String {
        let prefix = if self.kind == Kind::Dataset { "/datasets" } else { "" };
        format!("{prefix}/{}/resolve/{commit}/{}", self.repo, utf8_percent_encode(name, PATH))
    }

    /// The page where people look at the repository.
    pub(super) fn page(&self) -> String {
        format!("{}{}", if self.kind == Kind::Dataset { "/datasets/" } else { "/" }, self.repo)
    }

    fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

/// `text` as one part of an address.
pub(super) fn quoted(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, PLAIN)
}

/// Whether `path` stays inside of the folder that it is relative to.
pub(super) fn is_inside(path: &str) -> bool {
    path.split('/')
        .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']))
}

impl FromStr for Id {
    type Err = Error;

    /// Errors: InvalidArgument.
    fn from_str(text: &str) -> Result<Self, Error> {
        let form = "hf://[datasets/]ORG/NAME[@REVISION][/PATH]";
        let wrong = || DeltaError::invalid(format!("{text}: a place on the hub is written {form}"));
        let rest = text.strip_prefix("hf://").ok_or_else(wrong)?.trim_end_matches('/');
        let (kind, rest) = match rest.split_once('/') {
            Some(("datasets", rest)) => (Kind::Dataset, rest),
            Some(("models", rest)) => (Kind::Model, rest),
            Some((other @ ("spaces" | "buckets" | "kernels"), _)) => {
                let message = format!("{text}: {other} hold neither models nor data; the form is {form}");
                return Err(DeltaError::invalid(message).into());
            }
            _ => (Kind::Model, rest),
        };
        let (repo, rest) = match rest.find('@') {
            Some(at) if rest[..at].matches('/').count() <= 1 => (&rest[..at], &rest[at..]),
            _ => rest.split_at(rest.match_indices('/').nth(1).map_or(rest.len(), |(at, _)| at)),
        };
        let (revision, path) = match rest.strip_prefix('@') {
            Some(rest) => rest.split_at(revision_length(rest)),
            None => ("main", rest),
        };
        let revision = percent_decode_str(revision).decode_utf8().map_err(|_| wrong())?.into_owned();
        let path = path.strip_prefix('/').unwrap_or(path);
        let good = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let sound = is_inside(repo) && repo.chars().all(good) && is_inside(&revision);
        if !sound || !(path.is_empty() || is_inside(path)) {
            return Err(wrong().into());
        }
        Ok(Self { kind, repo: repo.to_owned(), revision, path: path.to_owned() })
    }
}

/// Bytes of the revision at the front of `text`: up to a slash, which `refs/pr/1` and `refs/convert/parquet` contain.
fn revision_length(text: &str) -> usize {
    let special = text.starts_with("refs/pr/") || text.starts_with("refs/convert/");
    text.match_indices('/').nth(if special { 2 } else { 0 }).map_or(text.len(), |(at, _)| at)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.kind == Kind::Dataset { "datasets/" } else { "" };
        write!(f, "hf://{prefix}{}", self.repo)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parts(text: &str) -> (Kind, String, String, String) {
        let id: Id = text.parse().unwrap();
        (id.kind, id.repo, id.revision, id.path)
    }

    #[test]
    fn places_are_read_as_huggingface_hub_reads_them() {
        let as_text =
            |(kind, a, b, c): (Kind, &str, &str, &str)| (kind, a.to_owned(), b.to_owned(), c.to_owned());
        for (text, expected) in [
            ("hf://org/name", (Kind::Model, "org/name", "main", "")),
            ("hf://models/org/name/", (Kind::Model, "org/name", "main", "")),
            ("hf://gpt2", (Kind::Model, "gpt2", "main", "")),
            ("hf://gpt2@v1/x.ddct", (Kind::Model, "gpt2", "v1", "x.ddct")),
            ("hf://org/name/a/b.ddct", (Kind::Model, "org/name", "main", "a/b.ddct")),
            ("hf://org/name@v1.0", (Kind::Model, "org/name", "v1.0", "")),
            ("hf://org/name@feature%2Fx/a", (Kind::Model, "org/name", "feature/x", "a")),
            ("hf://org/name/a@b.txt", (Kind::Model, "org/name", "main", "a@b.txt")),
            (
                "hf://datasets/org/name@refs/pr/3/train.json",
                (Kind::Dataset, "org/name", "refs/pr/3", "train.json"),
            ),
            (
                "hf://datasets/org/name@refs/convert/parquet",
                (Kind::Dataset, "org/name", "refs/convert/parquet", ""),
            ),
        ] {
            assert_eq!(parts(text), as_text(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let places = [
            "hf://",
            "hf://org/name@",
            "hf://org/name/../x",
            "hf://../x",
            "hf://spaces/a/b",
            "hf://a b/c",
            "org/x",
        ];
        for text in places {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }
}
