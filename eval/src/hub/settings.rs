//! Where hub and cache are, and who asks: the environment variables of `huggingface_hub`.

use std::env;
use std::fs;
use std::path::PathBuf;

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address of the hub, without a slash at the end: `HF_ENDPOINT`, else the public hub.
    pub endpoint: String,
    /// Folder of the cache: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in `~/.cache/huggingface`.
    pub cache: PathBuf,
    /// Whose access counts: `HF_TOKEN`, else the file `token` in `HF_HOME` (or `HF_TOKEN_PATH`).
    pub token: Option<String>,
    /// Whether to use the cache only: `HF_HUB_OFFLINE`.
    pub offline: bool,
}

impl Settings {
    /// Those of this process.
    pub fn from_environment() -> Self {
        Self::from(|name| env::var(name).ok())
    }

    /// Those that `variable` gives by name.
    pub fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let user =
            PathBuf::from(given("HOME").or_else(|| given("USERPROFILE")).unwrap_or_else(|| ".".to_owned()));
        let path = |name: &str| {
            given(name).map(|text| match text.strip_prefix("~/") {
                Some(rest) => user.join(rest),
                None => PathBuf::from(text),
            })
        };
        let caches = || path("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache"));
        let home = path("HF_HOME").unwrap_or_else(|| caches().join("huggingface"));
        let yes = |name: &str| {
            given(name)
                .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
        };
        let file = || fs::read_to_string(path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"))).ok();
        let token = given("HF_TOKEN").or_else(|| given("HUGGING_FACE_HUB_TOKEN")).or_else(file);
        let endpoint = given("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Self {
            endpoint: endpoint.trim().trim_end_matches('/').to_owned(),
            cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| home.join("hub")),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::from(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_that_of_huggingface_hub() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache.to_string_lossy().into_owned();
        let home = ("HOME", "/home/x");
        assert_eq!(cache(&[home]), "/home/x/.cache/huggingface/hub");
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/xdg")]), "/xdg/huggingface/hub");
        assert_eq!(cache(&[home, ("HF_HOME", "~/hf")]), "/home/x/hf/hub");
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cache")]), "/cache");
    }

    #[test]
    fn tokens_endpoint_and_offline() {
        let nothing = settings(&[("HF_HOME", "/nowhere"), ("HF_TOKEN", " ")]);
        assert_eq!(
            (nothing.endpoint.as_str(), nothing.token, nothing.offline),
            ("https://huggingface.co", None, false)
        );
        let all =
            settings(&[("HF_ENDPOINT", "http://hub/"), ("HF_TOKEN", "abc\n"), ("HF_HUB_OFFLINE", "yes")]);
        assert_eq!(
            (all.endpoint.as_str(), all.token.as_deref(), all.offline),
            ("http://hub", Some("abc"), true)
        );
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "from-file\n").unwrap();
        let file = settings(&[("HF_HOME", home.path().to_str().unwrap()), ("HF_HUB_OFFLINE", "0")]);
        assert_eq!((file.token.as_deref(), file.offline), (Some("from-file"), false));
    }
}
