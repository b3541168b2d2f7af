//! The HTTP proxy between the functions and the emulator: forwards every AWS call, counts it, and
//! answers some of them as a failing AWS would.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
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

const ONE_DAY: Duration = Duration::from_hours(24);

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
    /// In a batch, the entries with the rule's text (all, if the queue's URL has it) are answered as
    /// `Failed` in an HTTP 200, whether or not the emulator took them. The other entries pass.
    EntriesFail { although_taken: bool },
    /// In batches, every tenth message is answered as `Failed` however often it comes. Every other
    /// one of these the emulator takes all the same.
    OneInTenFails,
    /// Not answered as long as the rule applies; see [`Injection::held`]. Forwarded before that, or
    /// not at all.
    Held { forwarded: bool },
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
    /// Texts of the messages that are backdated, and by how many days, with the ids of their rules.
    backdated: Mutex<Vec<(u64, String, u32)>>,
    next_rule: std::sync::atomic::AtomicU64,
    calls: Mutex<Vec<Call>>,
    /// How many calls each rule has held so far.
    held: Mutex<HashMap<u64, usize>>,
    /// What [`Fault::OneInTenFails`] has met: bodies sent and receipts deleted, each with its number.
    met: Mutex<[HashMap<String, usize>; 2]>,
    /// Receipt handles of messages that functions received.
    receipts: Mutex<Vec<String>>,
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

impl Injection {
    /// How many calls were held so far.
    pub(crate) fn held(&self) -> usize {
        self.state.held.lock().unwrap().get(&self.id).copied().unwrap_or_default()
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.state.rules.lock().unwrap().retain(|rule| rule.id != self.id);
        self.state.backdated.lock().unwrap().retain(|(id, ..)| *id != self.id);
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

    /// Every call of `operation` with `text` in its path or body meets the fault, until the returned
    /// value is dropped. If several apply, it meets the first.
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
        let injection = self.injection();
        let rule = Rule { id: injection.id, operation, text: text.to_owned(), fault, left: times };
        self.state.rules.lock().unwrap().push(rule);
        injection
    }

    /// Received messages with `text` in their bodies say that they were sent some days earlier,
    /// until the returned value is dropped. Any number of these apply beside each other and beside
    /// faults: what a call will receive is not known when it is made.
    pub(crate) fn backdate(&self, text: &str, days: u32) -> Injection {
        let injection = self.injection();
        self.state.backdated.lock().unwrap().push((injection.id, text.to_owned(), days));
        injection
    }

    fn injection(&self) -> Injection {
        let id = self.state.next_rule.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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

    /// All calls so far, whatever they are.
    pub(crate) fn count(&self) -> usize {
        self.state.calls.lock().unwrap().len()
    }

    /// Receipt handles that functions were given since this was asked last.
    pub(crate) fn take_receipts(&self) -> Vec<String> {
        std::mem::take(&mut self.state.receipts.lock().unwrap())
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
    let Some((rule, text, fault)) = fault else { return forward(request).await };
    match fault {
        Fault::Throttled => Ok(refusal(&request, 400, "ThrottlingException")),
        Fault::Refused { status, code } => Ok(refusal(&request, status, code)),
        Fault::Disconnected => Err(Hangup),
        Fault::AnswerLost => {
            forward(request).await?;
            Err(Hangup)
        }
        Fault::Slow(delay) => {
            let answer = forward(request).await;
            tokio::time::sleep(delay).await;
            answer
        }
        Fault::EntriesFail { although_taken } => {
            let ending = |queue: &str, entry: &Value| {
                let taken = if although_taken { Ending::TakenAndFailed } else { Ending::Failed };
                let named = queue.contains(&text) || entry.to_string().contains(&text);
                if named { taken } else { Ending::Passed }
            };
            with_endings(request, ending, forward).await
        }
        Fault::OneInTenFails => {
            with_endings(request, |_queue, entry| state.one_in_ten(entry), forward).await
        }
        Fault::Held { forwarded } => {
            if forwarded {
                forward(request).await?;
            }
            *state.held.lock().unwrap().entry(rule).or_default() += 1;
            while state.rules.lock().unwrap().iter().any(|other| other.id == rule) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(Hangup)
        }
    }
}

/// What becomes of an entry of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Passed,
    Failed,
    TakenAndFailed,
}

impl State {
    /// The first rule that applies: its id, its text and what it does.
    fn fault(&self, operation: &str, text: &str) -> Option<(u64, String, Fault)> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| {
            rule.operation == operation && rule.left > 0 && text.contains(&rule.text)
        })?;
        rule.left -= 1;
        Some((rule.id, rule.text.clone(), rule.fault.clone()))
    }

    fn one_in_ten(&self, entry: &Value) -> Ending {
        let mut met = self.met.lock().unwrap();
        let [sent, deleted] = &mut *met;
        let (met, identity) = match entry["MessageBody"].as_str() {
            Some(body) => (sent, body),
            None => (deleted, entry["ReceiptHandle"].as_str().unwrap()),
        };
        let number = met.len();
        match *met.entry(identity.to_owned()).or_insert(number) % 20 {
            9 => Ending::Failed,
            19 => Ending::TakenAndFailed,
            _ => Ending::Passed,
        }
    }

    /// Remembers the receipt handles of an answer to `ReceiveMessage`, and backdates its messages.
    fn received(&self, answer: &mut Value) {
        for message in answer["Messages"].as_array_mut().into_iter().flatten() {
            let receipt = message["ReceiptHandle"].as_str().unwrap().to_owned();
            self.receipts.lock().unwrap().push(receipt);
            let body = message["Body"].as_str().unwrap();
            let backdated = self.backdated.lock().unwrap();
            if let Some((.., days)) = backdated.iter().find(|(_, text, _)| body.contains(text)) {
                let sent =
                    message.pointer_mut("/Attributes/SentTimestamp").expect("it was asked for");
                let millis: u128 = sent.as_str().unwrap().parse().unwrap();
                *sent = (millis - (ONE_DAY * *days).as_millis()).to_string().into();
            }
        }
    }
}

async fn forward(
    state: &State,
    client: &Client<HttpConnector, Full<Bytes>>,
    mut request: Request<Bytes>,
) -> Result<Answer, Hangup> {
    let is_receive = operation(&request) == "ReceiveMessage";
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
    let answer = Response::from_parts(parts, Full::new(body));
    Ok(if is_receive { edited(answer, |body| state.received(body)).await } else { answer })
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

/// Forwards a batch so that each entry ends as it is to, and answers accordingly.
async fn with_endings<F>(
    request: Request<Bytes>,
    ending: impl Fn(&str, &Value) -> Ending,
    forward: impl FnOnce(Request<Bytes>) -> F,
) -> Result<Answer, Hangup>
where
    F: Future<Output = Result<Answer, Hangup>>,
{
    let (parts, body) = request.into_parts();
    let mut batch: Value = serde_json::from_slice(&body).unwrap();
    let queue = batch["QueueUrl"].as_str().unwrap();
    let entries = batch["Entries"].as_array().unwrap().iter();
    let endings: Vec<(Value, Ending)> =
        entries.map(|entry| (entry.clone(), ending(queue, entry))).collect();
    let failed = endings.iter().filter(|(_, ending)| *ending != Ending::Passed);
    let failed: Vec<Value> = failed.map(|(entry, _)| entry["Id"].clone()).collect();
    let passed = endings.into_iter().filter(|(_, ending)| *ending != Ending::Failed);
    let passed: Vec<Value> = passed.map(|(entry, _)| entry).collect();
    let answer = if passed.is_empty() {
        json_answer(&json!({ "Successful": [], "Failed": [] }))
    } else {
        batch["Entries"] = passed.into();
        forward(Request::from_parts(parts, Bytes::from(batch.to_string()))).await?
    };
    Ok(with_failed(answer, &failed).await)
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

#[test]
fn tests_that_run_beside_each_other_each_have_their_messages_backdated() {
    let proxy = Proxy { address: (Ipv4Addr::LOCALHOST, 0).into(), state: Arc::default() };
    let lamps = proxy.backdate("lamp", 1);
    let _doors = proxy.backdate("door", 1);
    let sent_times = || {
        let message = |body: &str| {
            let attributes = json!({ "SentTimestamp": "86400001" });
            json!({ "Body": body, "ReceiptHandle": "receipt", "Attributes": attributes })
        };
        let messages = ["the lamp", "the door", "the bell"].map(message);
        let mut answer = json!({ "Messages": messages });
        proxy.state.received(&mut answer);
        [0, 1, 2].map(|number| answer["Messages"][number]["Attributes"]["SentTimestamp"].clone())
    };

    assert_eq!(sent_times(), ["1", "1", "86400001"]);
    drop(lamps);
    assert_eq!(sent_times(), ["86400001", "1", "86400001"]);
}
