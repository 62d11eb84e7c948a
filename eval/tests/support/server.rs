//! A server for tests: answers HTTP requests on this machine by a function, and remembers them.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Break the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    /// With a status and headers, and nothing else.
    pub(crate) fn status(status: u16, headers: &[(&'static str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { status, headers, ..Self::default() }
    }

    /// `body` from where the request's range begins.
    pub(crate) fn bytes(request: &Request, body: &[u8]) -> Self {
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        match range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) {
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                let headers = vec![("content-range", range)];
                Self { status: 206, headers, body: body[from..].to_vec(), cut: None }
            }
            None => Self { status: 200, headers: Vec::new(), body: body.to_vec(), cut: None },
        }
    }
}

/// Runs until the test program ends.
pub(crate) struct Server {
    /// As in `http://127.0.0.1:1234`.
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts to answer.
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, requests }
    }

    /// Methods and paths of the requests since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    let request = Request { method, path, headers: headers.collect() };
    seen.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    head += &format!("content-length: {}\r\n", reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = if request.method == "HEAD" { &[][..] } else { &reply.body };
    // A client that has gone away is its own business.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&body[..reply.cut.unwrap_or(body.len()).min(body.len())]);
}

/// A file of a repository.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: &'static str,
    pub(crate) content: Vec<u8>,
    /// What the hub knows it by.
    pub(crate) etag: String,
    /// Where it lies, if not on the hub itself; it is asked for by its etag there.
    pub(crate) elsewhere: Option<String>,
}

/// Answers as the hub does, for one repository with one commit: `kind` is `models` or `datasets`.
pub(crate) fn hub(
    kind: &'static str,
    repo: &'static str,
    commit: &'static str,
    files: Vec<Stored>,
) -> impl Fn(&Request) -> Reply {
    move |request| {
        let path = request.path.as_str();
        let prefix = if kind == "datasets" { "/datasets" } else { "" };
        if let Some(revision) = path.strip_prefix(&format!("/api/{kind}/{repo}/revision/")) {
            if !["main", "v1", commit].contains(&revision) {
                return Reply::status(404, &[("x-error-code", "RevisionNotFound")]);
            }
            let names: Vec<String> =
                files.iter().map(|file| format!(r#"{{"rfilename":"{}"}}"#, file.name)).collect();
            let body = format!(r#"{{"sha":"{commit}","siblings":[{}]}}"#, names.join(","));
            return Reply::bytes(request, body.as_bytes());
        }
        if let Some(etag) = path.strip_prefix("/small/") {
            let file = files.iter().find(|file| file.etag == etag).unwrap();
            let mut reply = Reply::bytes(request, &file.content);
            reply.headers.push(("etag", format!("\"{etag}\"")));
            return reply;
        }
        let name = path.strip_prefix(&format!("{prefix}/{repo}/resolve/{commit}/"));
        let Some(file) = files.iter().find(|file| Some(file.name) == name) else {
            let code = if name.is_some() { "EntryNotFound" } else { "RepoNotFound" };
            return Reply::status(if name.is_some() { 404 } else { 401 }, &[("x-error-code", code)]);
        };
        match &file.elsewhere {
            None => Reply::status(307, &[("location", &format!("/small/{}", file.etag))]),
            Some(place) => Reply::status(
                302,
                &[
                    ("location", &format!("{place}/{}", file.etag)),
                    ("x-linked-etag", &format!("\"{}\"", file.etag)),
                    ("x-linked-size", &file.content.len().to_string()),
                ],
            ),
        }
    }
}
