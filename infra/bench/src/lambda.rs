//! A function as a process, and the Lambda Runtime API that it talks to.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::signal::kill;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than any function takes for anything, under valgrind too.
const LIMIT: Duration = Duration::from_mins(2);

/// How to start a function.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
    pub folder: PathBuf,
    pub env: Vec<(String, String)>,
    /// The setting that makes it trust the mock of AWS.
    pub trust: Option<(&'static str, String)>,
}

impl Program {
    /// The program as it is on Lambda, with the certificates that it trusts there: it can be
    /// started, and cannot call the mock.
    pub fn trusting_aws_only(&self) -> Self {
        Self { trust: None, ..self.clone() }
    }
}

enum Signal {
    Next(Instant),
    Answer { at: Instant, outcome: String, body: String },
}

#[derive(Debug)]
pub struct Function {
    child: Child,
    server: JoinHandle<()>,
    signals: mpsc::UnboundedReceiver<Signal>,
    events: mpsc::UnboundedSender<String>,
    spawned: Instant,
}

struct Api {
    signals: mpsc::UnboundedSender<Signal>,
    events: Mutex<mpsc::UnboundedReceiver<String>>,
}

impl Function {
    /// Starts the function; from when to when it takes to ask for its first event, see `ready`.
    pub async fn start(program: &Program) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (signal, signals) = mpsc::unbounded_channel();
        let (events, queue) = mpsc::unbounded_channel();
        let api = Arc::new(Api { signals: signal, events: Mutex::new(queue) });
        let server = tokio::spawn(serve(listener, api));
        let mut command = Command::new(&program.path);
        command
            .args(&program.args)
            .current_dir(&program.folder)
            .env_clear()
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .envs(program.trust.as_ref().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let spawned = Instant::now();
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
        Ok(Self { child, server, signals, events, spawned })
    }

    /// Waits until the function asks for an event: the time since it was spawned.
    pub async fn ready(&mut self) -> Result<Duration> {
        match self.signal().await? {
            Signal::Next(at) => Ok(at - self.spawned),
            Signal::Answer { outcome, body, .. } => bail!("the function said {outcome}: {body}"),
        }
    }

    /// Hands over one event and waits for its answer, and until the function asks for the next: the
    /// time to the answer, and the answer.
    pub async fn invoke(&mut self, event: String) -> Result<(Duration, String)> {
        let handed = Instant::now();
        self.events.send(event).context("the Runtime API has ended")?;
        let answer = match self.signal().await? {
            Signal::Answer { at, outcome, body } if outcome == "response" => (at - handed, body),
            Signal::Answer { outcome, body, .. } => bail!("the function said {outcome}: {body}"),
            Signal::Next(_) => bail!("the function asked for an event before it answered the last"),
        };
        self.ready().await?;
        Ok(answer)
    }

    async fn signal(&mut self) -> Result<Signal> {
        tokio::select! {
            signal = timeout(LIMIT, self.signals.recv()) => {
                signal.context("the function did not answer")?.context("the Runtime API has ended")
            }
            status = self.child.wait() => bail!("the function ended with {}", status?),
        }
    }

    pub fn id(&self) -> Result<Pid> {
        let id = self.child.id().context("the function has ended")?;
        Ok(Pid::from_raw(i32::try_from(id)?))
    }

    /// CPU time of all threads so far, of those that have ended too, to the nanosecond.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(clock_getcpuclockid(self.id()?)?.now()?.into())
    }

    /// The most memory that it ever had resident, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kilobytes.context("no VmHWM")? * 1024)
    }

    /// Asks it to end, as Lambda does, and waits.
    pub async fn terminate(mut self) -> Result<()> {
        kill(self.id()?, nix::sys::signal::Signal::SIGTERM)?;
        timeout(LIMIT, self.child.wait()).await.context("the function does not end")??;
        Ok(())
    }

    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, api: Arc<Api>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let api = Arc::clone(&api);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&api)));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // It ends with the function.
            drop(connection.await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    api: Arc<Api>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    if request.method() == Method::GET {
        drop(api.signals.send(Signal::Next(at)));
        let Some(event) = api.events.lock().await.recv().await else {
            return Ok(Response::default());
        };
        let deadline = SystemTime::now() + Duration::from_secs(30);
        let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:us-east-1:111122223333:function:bench",
            )
            .header(
                "lambda-runtime-trace-id",
                "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
            )
            .body(Full::new(Bytes::from(event)));
        return Ok(response.unwrap_or_default());
    }
    let outcome = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
    drop(api.signals.send(Signal::Answer { at, outcome, body }));
    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}")));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
