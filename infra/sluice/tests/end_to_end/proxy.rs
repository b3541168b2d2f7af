//! The HTTP proxy between the functions and the emulator: forwards every AWS call, counts it, and
//! answers some of them as a failing AWS would.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What happens to a call that a rule matches.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Refused as AWS refuses a caller that is too fast. Not forwarded.
    Throttled,
    /// Refused with this error. Not forwarded.
    Refused { status: u16, code: &'static str },
    /// The connection ends without an answer. Not forwarded.
    Disconnected,
    /// Forwarded, but the connection ends before the answer.
    AnswerLost,
    /// Forwarded, and answered so much later.
    Slow(Duration),
    /// In a batch, the entries with the rule's text are answered as `Failed` in an HTTP 200,
    /// whether or not the emulator took them. The other entries pass.
    EntriesFail { although_taken: bool },
    /// Received messages with the rule's text say that they were sent so much earlier.
    Backdated(Duration),
}

#[derive(Debug)]
struct Rule {
    id: u64,
    operation: &'static str,
    text: String,
    fault: Fault,
    /// Calls that it still applies to.
    left: usize,
}

#[derive(Debug)]
struct Call {
    operation: String,
    text: String,
}

#[derive(Debug, Default)]
struct State {
    upstream: OnceLock<SocketAddr>,
    rules: Mutex<Vec<Rule>>,
    next_rule: std::sync::atomic::AtomicU64,
    calls: Mutex<Vec<Call>>,
}

/// A running proxy, on a thread of its own: the tests each have an async runtime that ends with
/// them.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

/// A rule that applies while this value lives.
#[derive(Debug)]
#[must_use]
pub(crate) struct Injection {
    id: u64,
    state: Arc<State>,
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.state.rules.lock().unwrap().retain(|rule| rule.id != self.id);
    }
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime
                .block_on(async { serve(TcpListener::from_std(listener).unwrap(), served).await });
        });
        Self { address, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the calls go. The emulator needs the proxy's address to start, so this comes after.
    pub(crate) fn forward_to(&self, endpoint: &str) {
        let address = endpoint.trim_start_matches("http://").parse().unwrap();
        self.state.upstream.set(address).unwrap();
    }

    /// Every call of `operation` with `text` in its path or body (or answer, to backdate) meets
    /// the fault, until the returned value is dropped.
    pub(crate) fn inject(&self, operation: &'static str, text: &str, fault: Fault) -> Injection {
        self.inject_times(usize::MAX, operation, text, fault)
    }

    /// The same for the first calls only.
    pub(crate) fn inject_times(
        &self,
        times: usize,
        operation: &'static str,
        text: &str,
        fault: Fault,
    ) -> Injection {
        let id = self.state.next_rule.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let rule = Rule { id, operation, text: text.to_owned(), fault, left: times };
        self.state.rules.lock().unwrap().push(rule);
        Injection { id, state: Arc::clone(&self.state) }
    }

    /// Path and body of the calls of `operation` so far with all of `texts` in them, those with a
    /// fault included.
    pub(crate) fn calls(&self, operation: &str, texts: &[&str]) -> Vec<String> {
        let matches = |call: &&Call| {
            call.operation == operation && texts.iter().all(|text| call.text.contains(text))
        };
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter(matches).map(|call| call.text.clone()).collect()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (state, client) = (Arc::clone(&state), client.clone());
        let service = service_fn(move |request| {
            let (state, client) = (Arc::clone(&state), client.clone());
            async move { answer(&state, &client, request).await }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            // An error is a function that went away, or a fault of ours.
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

type Answer = Response<Full<Bytes>>;

/// Makes hyper close the connection without an answer.
#[derive(Debug)]
struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hung up on purpose")
    }
}

impl std::error::Error for Hangup {}

impl From<Infallible> for Hangup {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn answer(
    state: &State,
    client: &Client<HttpConnector, Full<Bytes>>,
    request: Request<Incoming>,
) -> Result<Answer, Hangup> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Err(Hangup) };
    let body = body.to_bytes();
    let request = Request::from_parts(parts, body);
    let operation = operation(&request);
    let text = format!(
        "{} {}",
        percent_decoded(request.uri().path()),
        String::from_utf8_lossy(request.body())
    );
    let fault = state.fault(&operation, &text);
    state.calls.lock().unwrap().push(Call { operation, text });

    let forward = |request| forward(state, client, request);
    match fault {
        None => forward(request).await,
        Some((_, Fault::Throttled)) => Ok(refusal(&request, 400, "ThrottlingException")),
        Some((_, Fault::Refused { status, code })) => Ok(refusal(&request, status, code)),
        Some((_, Fault::Disconnected)) => Err(Hangup),
        Some((_, Fault::AnswerLost)) => {
            forward(request).await?;
            Err(Hangup)
        }
        Some((_, Fault::Slow(delay))) => {
            let answer = forward(request).await;
            tokio::time::sleep(delay).await;
            answer
        }
        Some((text, Fault::EntriesFail { although_taken })) => {
            let (passed, failed) = split_entries(request, &text, although_taken);
            let answer = match passed {
                Some(request) => forward(request).await?,
                None => json_answer(&json!({ "Successful": [], "Failed": [] })),
            };
            Ok(with_failed(answer, &failed).await)
        }
        Some((text, Fault::Backdated(by))) => {
            Ok(backdated(forward(request).await?, &text, by).await)
        }
    }
}

impl State {
    /// The first rule that applies, with its text.
    fn fault(&self, operation: &str, text: &str) -> Option<(String, Fault)> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| {
            // What is received is known only from the answer.
            let in_answer = matches!(rule.fault, Fault::Backdated(_));
            rule.operation == operation && rule.left > 0 && (in_answer || text.contains(&rule.text))
        })?;
        rule.left -= 1;
        Some((rule.text.clone(), rule.fault.clone()))
    }
}

async fn forward(
    state: &State,
    client: &Client<HttpConnector, Full<Bytes>>,
    mut request: Request<Bytes>,
) -> Result<Answer, Hangup> {
    let upstream = state.upstream.get().ok_or(Hangup)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{upstream}{path}").parse().map_err(|_| Hangup)?;
    let length = request.body().len();
    request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    let answer = client.request(request.map(Full::new)).await.map_err(|_| Hangup)?;
    let (mut parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Hangup)?.to_bytes();
    // Told anew from the whole body.
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Full::new(body)))
}

/// The name that AWS has for the call.
fn operation(request: &Request<Bytes>) -> String {
    if let Some(target) = request.headers().get("x-amz-target") {
        let target = target.to_str().unwrap_or_default();
        return target.rsplit('.').next().unwrap_or_default().to_owned();
    }
    let is_object = request.uri().path().trim_matches('/').contains('/');
    let name = match (request.method(), is_object) {
        (&Method::GET, true) => "GetObject",
        (&Method::PUT, true) => "PutObject",
        (&Method::HEAD, true) => "HeadObject",
        (&Method::GET, false) => "ListObjectsV2",
        _ => "other",
    };
    name.to_owned()
}

/// An error in the shape of the protocol: XML for S3, JSON for the others.
fn refusal(request: &Request<Bytes>, status: u16, code: &str) -> Answer {
    let is_json = request.headers().contains_key("x-amz-target");
    let message = "injected by the test";
    let mut answer = if is_json {
        json_answer(&json!({ "__type": code, "message": message }))
    } else {
        let code = if code == "ThrottlingException" { "SlowDown" } else { code };
        let xml = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Response::builder()
            .header(header::CONTENT_TYPE, "application/xml")
            .body(Full::from(xml))
            .unwrap()
    };
    *answer.status_mut() = if !is_json && code == "ThrottlingException" {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::from_u16(status).unwrap()
    };
    answer
}

fn json_answer(body: &Value) -> Answer {
    Response::builder()
        .header(header::CONTENT_TYPE, "application/x-amz-json-1.0")
        .body(Full::from(body.to_string()))
        .unwrap()
}

/// The request to forward, if an entry is left in it, and the ids of the entries that fail.
fn split_entries(
    request: Request<Bytes>,
    text: &str,
    although_taken: bool,
) -> (Option<Request<Bytes>>, Vec<Value>) {
    let (parts, body) = request.into_parts();
    let mut batch: Value = serde_json::from_slice(&body).unwrap();
    let entries = batch["Entries"].as_array().unwrap().clone();
    let (failed, passed): (Vec<Value>, Vec<Value>) =
        entries.into_iter().partition(|entry| entry.to_string().contains(text));
    let failed = failed.into_iter().map(|entry| entry["Id"].clone()).collect();
    if !although_taken {
        if passed.is_empty() {
            return (None, failed);
        }
        batch["Entries"] = passed.into();
    }
    (Some(Request::from_parts(parts, Bytes::from(batch.to_string()))), failed)
}

async fn with_failed(answer: Answer, failed: &[Value]) -> Answer {
    edited(answer, |body| {
        let mut entries = body["Failed"].as_array().cloned().unwrap_or_default();
        entries.extend(failed.iter().map(|id| {
            json!({
                "Id": id,
                "SenderFault": false,
                "Code": "InternalError",
                "Message": "injected by the test",
            })
        }));
        if let Some(successful) = body["Successful"].as_array_mut() {
            successful.retain(|entry| !failed.contains(&entry["Id"]));
        }
        body["Failed"] = entries.into();
    })
    .await
}

async fn backdated(answer: Answer, text: &str, by: Duration) -> Answer {
    edited(answer, |body| {
        for message in body["Messages"].as_array_mut().into_iter().flatten() {
            if !message["Body"].as_str().unwrap_or_default().contains(text) {
                continue;
            }
            if let Some(sent) = message.pointer_mut("/Attributes/SentTimestamp") {
                let millis: u128 = sent.as_str().unwrap().parse().unwrap();
                *sent = (millis - by.as_millis()).to_string().into();
            }
        }
    })
    .await
}

async fn edited(answer: Answer, edit: impl FnOnce(&mut Value)) -> Answer {
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = match serde_json::from_slice::<Value>(&body) {
        Ok(mut json) => {
            edit(&mut json);
            Bytes::from(json.to_string())
        }
        Err(_) => body,
    };
    Response::from_parts(parts, Full::new(body))
}

fn percent_decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}
