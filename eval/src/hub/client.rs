//! Requests to the hub: who asks, redirects, and what refusals mean.

use std::thread::sleep;
use std::time::Duration;

use delta_dct::{Error as DeltaError, ErrorKind};
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::id::Id;
use super::settings::Settings;
use crate::error::Error;

/// Longest answer that is not a file, in bytes: repositories may have a hundred thousand files.
const MAX_JSON: u64 = 100_000_000;
/// Longest way from the hub to a file.
const MAX_REDIRECTS: usize = 8;
/// Pauses before a hub that is busy is asked again.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// How long the hub may take to answer, and to send the next bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the hub gives no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// It cannot be reached, or is down: what the cache has may do.
    Absent(String),
    /// It refuses.
    Refused(DeltaError),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Absent(why) => DeltaError::new(ErrorKind::Io, why).into(),
            Fault::Refused(error) => error.into(),
        }
    }
}

/// What the hub knows a file by.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Hash of the content: SHA-256 of large files, Git's SHA-1 of small ones. Safe as the name of a file.
    pub(super) etag: String,
    /// Bytes.
    pub(super) size: Option<u64>,
}

/// Asks one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Client {
    /// For the hub of `settings`.
    pub(super) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("delta-dct/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build();
        Self { agent: config.into(), endpoint: settings.endpoint.clone(), token: settings.token.clone() }
    }

    /// The JSON at `place`, a path and query behind the hub's address; `id` is what it is about, for messages.
    pub(super) fn json<T: DeserializeOwned>(&self, place: &str, id: Option<&Id>) -> Result<T, Fault> {
        let url = format!("{}{place}", self.endpoint);
        let mut response = self.checked(self.patiently(false, &url)?, id, None)?;
        let text =
            response.body_mut().with_config().limit(MAX_JSON).read_to_vec().map_err(|e| self.absent(&e))?;
        let wrong = |e| DeltaError::corrupt(format!("{url} is not what the hub answers with: {e}"));
        serde_json::from_slice(&text).map_err(|e| Fault::Refused(wrong(e)))
    }

    /// What the hub knows the file `name` of a commit by. Large files lie elsewhere, and are not asked for there.
    pub(super) fn about(&self, id: &Id, commit: &str, name: &str) -> Result<About, Fault> {
        let url = self.url(id, commit, name);
        let response = self.patiently(true, &url)?;
        let redirected = response.status().is_redirection();
        let response = if redirected { response } else { self.checked(response, Some(id), Some(name))? };
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.trim());
        let etag = header("x-linked-etag").or(header("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if etag.is_empty() || !etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            let message = format!("{url}: the hub's ETag {etag:?} is not the hash of a file");
            return Err(Fault::Refused(DeltaError::corrupt(message)));
        }
        let length = || header("content-length").filter(|_| !redirected);
        let size = header("x-linked-size").or_else(length).and_then(|size| size.parse().ok());
        Ok(About { etag, size })
    }

    /// The file `name` of a commit, from byte `from` on if the other side can do that (status 206).
    pub(super) fn file(&self, id: &Id, commit: &str, name: &str, from: u64) -> Result<Response<Body>, Fault> {
        let response = self.send(false, &self.url(id, commit, name), from)?;
        if response.status() == 416 { Ok(response) } else { self.checked(response, Some(id), Some(name)) }
    }

    fn url(&self, id: &Id, commit: &str, name: &str) -> String {
        format!("{}{}", self.endpoint, id.file(commit, name))
    }

    /// Asks again where the hub is busy.
    fn patiently(&self, head: bool, url: &str) -> Result<Response<Body>, Fault> {
        for pause in PAUSES {
            let response = self.send(head, url, 0)?;
            if !is_busy(response.status().as_u16()) {
                return Ok(response);
            }
            sleep(pause);
        }
        self.send(head, url, 0)
    }

    /// One request, and the redirects that it meets. Only the hub itself ever sees the token. Asked for the head of a
    /// file, it stops where the way leaves the hub: what knows the file is the hub.
    fn send(&self, head: bool, url: &str, from: u64) -> Result<Response<Body>, Fault> {
        let mut url = url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let mut request = if head { self.agent.head(&url) } else { self.agent.get(&url) };
            if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(&url)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| self.absent(&e))?;
            let target = response.headers().get("location").and_then(|to| to.to_str().ok());
            match target.filter(|_| response.status().is_redirection()).map(|to| absolute(&url, to)) {
                Some(to) if !head || self.is_hub(&to) => url = to,
                _ => return Ok(response),
            }
        }
        Err(Fault::Refused(DeltaError::new(ErrorKind::Io, format!("{url}: redirected without end"))))
    }

    fn is_hub(&self, url: &str) -> bool {
        origin(url) == origin(&self.endpoint)
    }

    fn absent(&self, error: &ureq::Error) -> Fault {
        Fault::Absent(format!("cannot reach the hub at {}: {error}", self.endpoint))
    }

    /// `response` if it is one of success, else what its refusal means.
    fn checked(
        &self,
        response: Response<Body>,
        id: Option<&Id>,
        name: Option<&str>,
    ) -> Result<Response<Body>, Fault> {
        let status = response.status().as_u16();
        if response.status().is_success() {
            return Ok(response);
        }
        if is_busy(status) {
            return Err(Fault::Absent(format!(
                "the hub at {} is down or busy (status {status})",
                self.endpoint
            )));
        }
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (what, code) = (id.map_or_else(|| self.endpoint.clone(), Id::to_string), header("x-error-code"));
        let page = id.map(Id::page).unwrap_or_default();
        let why = match (code, status) {
            (Some("GatedRepo"), _) => format!(
                "is gated: accept its conditions at {}{page}, and {}",
                self.endpoint,
                self.log_in("give a token of that account")
            ),
            (Some("RevisionNotFound"), _) => {
                format!(
                    "has no such revision; its branches and tags are at {}{page}/tree/main",
                    self.endpoint
                )
            }
            (Some("EntryNotFound"), _) => format!("has no file {}", name.unwrap_or_default()),
            (Some("RepoNotFound"), _) | (None, 401 | 404) => {
                format!(
                    "is not there, or is private: look at the name, and {}",
                    self.log_in("give its owner's token")
                )
            }
            (_, 401 | 403) => format!("may not be read: {}", self.log_in("give a token that may read it")),
            _ => format!(
                "the hub refuses with status {status}: {}",
                header("x-error-message").unwrap_or("no reason")
            ),
        };
        Err(Fault::Refused(DeltaError::new(ErrorKind::Io, format!("{what}: {why}"))))
    }

    /// What to do about access that was refused.
    fn log_in(&self, wish: &str) -> String {
        let now = if self.token.is_some() { "the one given has no access" } else { "none is given" };
        format!("{wish} in HF_TOKEN or by `hf auth login` ({now})")
    }
}

/// Whether the same request may succeed a little later.
fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504)
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/'));
    end.and_then(|end| url.get(..host + end)).unwrap_or(url)
}

/// The target of a redirect from `url`.
fn absolute(url: &str, target: &str) -> String {
    if target.starts_with('/') { format!("{}{target}", origin(url)) } else { target.to_owned() }
}
