//! A mock AWS endpoint over TLS 1.3: the three calls that the functions make on the way of an event.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What S3 returns for every object.
pub const OBJECT: &str = r#"{"deviceId":"42","state":{"temperature":21.5,"humidity":40,"firmware":"3.1.4","uptimeSeconds":86400,"location":{"lat":37.5665,"lon":126.978},"alarms":[]}}"#;

/// How the endpoint answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Behaviour {
    pub latency: Duration,
    /// Every n-th `StartExecution` is throttled.
    pub throttle_every: Option<u64>,
    /// Quota of `StartExecution`: burst and rate per second.
    pub quota: Option<(f64, f64)>,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    calls: BTreeMap<&'static str, u64>,
    started: u64,
    /// Bodies of the calls with an effect, while they are wanted.
    captured: Option<Vec<Value>>,
    /// What is left of the quota, and since when.
    tokens: f64,
    refilled: Option<Instant>,
}

#[derive(Debug)]
pub struct Aws {
    pub address: SocketAddr,
    /// The certificate that it is signed by, in PEM.
    pub authority: String,
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicU64>,
}

/// What the endpoint was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    pub connections: u64,
    pub calls: BTreeMap<&'static str, u64>,
}

impl Aws {
    pub async fn start() -> Result<Self> {
        let (authority, config) = tls()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let connections = Arc::new(AtomicU64::new(0));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(serve(listener, acceptor, Arc::clone(&state), Arc::clone(&connections)));
        Ok(Self { address, authority, state, connections })
    }

    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = lock(&self.state);
        state.tokens = behaviour.quota.map_or(0.0, |(burst, _)| burst);
        state.refilled = None;
        state.started = 0;
        state.behaviour = behaviour;
    }

    pub fn capture(&self) {
        lock(&self.state).captured = Some(Vec::new());
    }

    pub fn captured(&self) -> Vec<Value> {
        lock(&self.state).captured.take().unwrap_or_default()
    }

    /// The same, and goes on capturing.
    pub fn take_captured(&self) -> Vec<Value> {
        lock(&self.state).captured.replace(Vec::new()).unwrap_or_default()
    }

    /// Executions started since the behaviour was set.
    pub fn started(&self) -> u64 {
        lock(&self.state).started
    }

    /// Since the last time this was asked.
    pub fn take_traffic(&self) -> Traffic {
        let calls = std::mem::take(&mut lock(&self.state).calls);
        Traffic { connections: self.connections.swap(0, Ordering::Relaxed), calls }
    }

    /// A bundle of `roots` and the mock's own authority.
    pub fn write_bundle(&self, roots: &str, path: &Path) -> Result<PathBuf> {
        std::fs::write(path, format!("{roots}\n{}", self.authority))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.to_owned())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tls() -> Result<(String, rustls::ServerConfig)> {
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "Authority of the mock of AWS");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.distinguished_name.push(DnType::CommonName, "Mock of AWS");
    let leaf = leaf.signed_by(&key, &authority)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    // What the endpoints of SQS, Step Functions and S3 speak.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((authority.pem(), config))
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicU64>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        let connections = Arc::clone(&connections);
        tokio::spawn(async move {
            // What the functions do about a broken connection shows in their numbers.
            if stream.set_nodelay(true).is_err() {
                return;
            }
            let Ok(stream) = acceptor.accept(stream).await else { return };
            connections.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            drop(connection.await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    let operation = match (request.method(), target) {
        (&Method::POST, Some("AmazonSQS.SendMessageBatch")) => "SendMessageBatch",
        (&Method::POST, Some("AWSStepFunctions.StartExecution")) => "StartExecution",
        (&Method::GET, None) => "GetObject",
        (&Method::HEAD, None) => "HeadObject",
        _ => "unknown",
    };
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let body: Value =
        body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let (latency, throttled) = {
        let mut state = lock(&state);
        let number = state.calls.entry(operation).or_default();
        *number += 1;
        let number = *number;
        let throttled = operation == "StartExecution" && state.throttles(number);
        if operation == "StartExecution" && !throttled {
            state.started += 1;
        }
        let is_read = ["GetObject", "HeadObject"].contains(&operation);
        if let Some(captured) = state.captured.as_mut().filter(|_| !is_read) {
            captured.push(body.clone());
        }
        (state.behaviour.latency, throttled)
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let (status, media_type, body) = match operation {
        "StartExecution" if throttled => {
            let error = json!({ "__type": "ThrottlingException", "message": "Rate exceeded" });
            (StatusCode::BAD_REQUEST, "application/x-amz-json-1.0", error.to_string())
        }
        "SendMessageBatch" => (StatusCode::OK, "application/x-amz-json-1.0", sent(&body)),
        "StartExecution" => {
            let name = body["name"].as_str().unwrap_or_default();
            let arn =
                format!("arn:aws:states:us-east-1:111122223333:execution:device-state:{name}");
            let started = json!({ "executionArn": arn, "startDate": 1_795_208_401.5 });
            (StatusCode::OK, "application/x-amz-json-1.0", started.to_string())
        }
        "GetObject" => (StatusCode::OK, "application/json", OBJECT.to_owned()),
        "HeadObject" => (StatusCode::OK, "application/json", String::new()),
        _ => (StatusCode::NOT_IMPLEMENTED, "text/plain", "not mocked".to_owned()),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", media_type)
        .header("x-amzn-requestid", "6f9a3a1e-0000-4000-8000-000000000000");
    let response = if ["GetObject", "HeadObject"].contains(&operation) {
        response.header("etag", "\"d41d8cd98f00b204e9800998ecf8427e\"")
    } else {
        response
    };
    Ok(response.body(Full::new(Bytes::from(body))).unwrap_or_default())
}

/// The answer of SQS, which confirms every entry.
fn sent(body: &Value) -> String {
    let entries = body["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let confirmed: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let text = entry["MessageBody"].as_str().unwrap_or_default();
            let digest = Md5::digest(text);
            let md5 = digest.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            json!({ "Id": entry["Id"], "MessageId": "219f8380-5770-4cc2-8c3e-5c715e145f5e",
                    "MD5OfMessageBody": md5 })
        })
        .collect();
    json!({ "Successful": confirmed, "Failed": [] }).to_string()
}

impl State {
    fn throttles(&mut self, number: u64) -> bool {
        if let Some((burst, rate)) = self.behaviour.quota {
            let now = Instant::now();
            let since = self.refilled.replace(now).map_or(Duration::ZERO, |then| now - then);
            self.tokens = (self.tokens + since.as_secs_f64() * rate).min(burst);
            if self.tokens < 1.0 {
                return true;
            }
            self.tokens -= 1.0;
        }
        self.behaviour.throttle_every.is_some_and(|every| number.is_multiple_of(every))
    }
}
