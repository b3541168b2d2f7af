use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::Error;
use crate::project::{Project, RunFolder};
use crate::supervise::{Job, Supervised, said};
use crate::tools::Tools;

/// How to start an [`Emulator`].
#[derive(Debug, Default)]
pub struct EmulatorOptions {
    /// Port on 127.0.0.1; a free one if absent.
    pub port: Option<u16>,
    /// Where the functions send their AWS calls, if not to the emulator itself: a proxy can stand
    /// between.
    pub functions_endpoint: Option<String>,
}

impl EmulatorOptions {
    /// Refuses a port that is in use. Behind it another emulator may answer, with its own data.
    pub fn check_port(&self) -> Result<(), Error> {
        match self.port {
            Some(port) => free_port(port).map(drop).map_err(|_| Error::PortInUse { port }),
            None => Ok(()),
        }
    }
}

/// A running `MiniStack`. It and the functions that it runs end with this value, or with this
/// process if that is killed.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    process: Supervised,
}

/// The region that everything is in.
pub(crate) const REGION: &str = "us-east-1";

/// It starts within a second; a busy machine may take many times that.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Another process can take a free port between the look and the start.
const START_ATTEMPTS: u32 = 3;

impl Emulator {
    /// Starts one and waits until it answers.
    pub async fn start(
        project: &Project,
        tools: &Tools,
        run: &RunFolder,
        options: &EmulatorOptions,
    ) -> Result<Self, Error> {
        options.check_port()?;
        let mut attempt = 1;
        loop {
            let port = match options.port {
                Some(port) => port,
                None => free_port(0)
                    .map_err(Error::file("find a free port on", Path::new("127.0.0.1")))?,
            };
            let mut emulator = Self::spawn(project, tools, run, options, port)?;
            match emulator.wait_until_healthy().await {
                Err(Error::EmulatorNotReady { tail, .. })
                    if options.port.is_none()
                        && attempt < START_ATTEMPTS
                        && tail.contains("already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(emulator),
            }
        }
    }

    fn spawn(
        project: &Project,
        tools: &Tools,
        run: &RunFolder,
        options: &EmulatorOptions,
        port: u16,
    ) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint = format!("http://{address}");
        let functions_endpoint = options.functions_endpoint.as_deref().unwrap_or(&endpoint);
        let process = Job::with_scratch(
            project,
            &tools.python,
            tools.ministack_python(),
            &run.path,
            run.log("emulator"),
        )
        .args([project.emulator()])
        .without_env(is_for_rust_programs)
        .for_the_emulator(functions_endpoint, REGION)
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("MINISTACK_REGION", REGION)
        // Enforces IAM: the functions have the rights of their roles, and no more.
        .env("AUTH", "true")
        // These two would open ports on every interface.
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        .start()?;
        Ok(Self { address, process })
    }

    async fn wait_until_healthy(&mut self) -> Result<(), Error> {
        const POLL: Duration = Duration::from_millis(50);
        let limit = Instant::now() + START_LIMIT;
        loop {
            let ended = self.process.ended()?;
            let what = match ended {
                Some(status) => format!("ended while starting ({status})"),
                None if is_healthy(self.address).await => return Ok(()),
                None if Instant::now() < limit => {
                    sleep(POLL).await;
                    continue;
                }
                None => format!("did not answer within {} s", START_LIMIT.as_secs()),
            };
            return Err(Error::EmulatorNotReady {
                what,
                tail: self.process.tail(),
                log: self.log().to_owned(),
            });
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Waits for the end that nobody has asked for.
    pub(crate) async fn ended(&mut self) -> Error {
        match self.process.wait().await {
            Ok(status) => Error::EmulatorEnded {
                status: said(status),
                tail: self.process.tail(),
                log: self.log().to_owned(),
            },
            Err(error) => error,
        }
    }

    /// A process of which the emulator and all running functions descend.
    pub fn ancestor_process_id(&self) -> u32 {
        self.process.id()
    }
}

/// The port, or a free one for 0, if nothing listens there now.
fn free_port(port: u16) -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.local_addr()?.port())
}

/// The functions inherit the emulator's environment, and what a developer sets for his own Rust
/// programs must not change them: the template decides.
fn is_for_rust_programs(name: &str) -> bool {
    name.starts_with("RUST") || name.starts_with("CARGO")
}

async fn is_healthy(address: SocketAddr) -> bool {
    const ANSWER_LIMIT: Duration = Duration::from_secs(2);
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /_ministack/health HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(1024).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(ANSWER_LIMIT, ask).await;
    matches!(answer, Ok(Ok(text)) if text.split(' ').nth(1) == Some("200"))
}
