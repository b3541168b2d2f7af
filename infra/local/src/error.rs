use std::path::{Path, PathBuf};

/// Why the local stack could not be brought up or asked. Each message is for the person at the
/// terminal: what is wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this is not a checkout of Sluice: no folder from {} upwards has a template.yaml beside a Cargo.toml",
        .start.display()
    )]
    NoProject { start: PathBuf },

    #[error(
        "the local stack runs the Lambda binaries as processes, which needs Linux on x86-64 or arm64; this is {os} on {architecture}"
    )]
    UnsupportedHost { os: &'static str, architecture: &'static str },

    #[error(
        "Python 3.10 or newer is missing{found}: install it so that `python3` is in PATH (Debian, Ubuntu: apt install python3 python3-venv)"
    )]
    NoPython { found: String },

    #[error(
        "{} cannot create virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)",
        .python.display()
    )]
    NoVenvModule { python: PathBuf },

    #[error(
        "no C compiler in PATH (cc, gcc or clang): install one (Debian, Ubuntu: apt install build-essential)"
    )]
    NoCCompiler,

    #[error("{what} failed with {status}")]
    Failed { what: String, status: String },

    #[error("{what} failed with {status}; {} ends with:\n{tail}", .log.display())]
    CommandFailed { what: String, status: String, log: PathBuf, tail: String },

    #[error(
        "port {port} of 127.0.0.1 is in use: choose another with --port, or leave --port out to take a free one"
    )]
    PortInUse { port: u16 },

    #[error(
        "another {name} is running in this checkout (process {process}): end it first, with Ctrl-C or `cargo sluice down`"
    )]
    AlreadyRunning { name: &'static str, process: String },

    #[error("{} is locked, but does not say which process has locked it: end that by hand (`fuser` may know it)", .lock.display())]
    UnknownHolder { lock: PathBuf },

    #[error(
        "process {process} has not ended within {seconds} s: end it by hand, with `kill -9 {process}`"
    )]
    DoesNotEnd { process: i32, seconds: u64 },

    #[error("the stack did not come up; {} ends with:\n{tail}", .log.display())]
    NotUp { log: PathBuf, tail: String },

    #[error("the emulator has ended by itself ({status}); {} ends with:\n{tail}", .log.display())]
    EmulatorEnded { status: String, log: PathBuf, tail: String },

    #[error("the emulator {what}; {} ends with:\n{tail}", .log.display())]
    EmulatorNotReady { what: String, log: PathBuf, tail: String },

    #[error("stack {stack} has no output {output}: template.yaml and infra/local disagree")]
    MissingOutput { stack: String, output: &'static str },

    #[error("stack {stack} is not there after its deployment; the emulator's log is {}", .log.display())]
    NoStack { stack: String, log: PathBuf },

    #[error("{operation} failed: {message}; the emulator's log is {}", .log.display())]
    Aws { operation: &'static str, message: String, log: PathBuf },

    #[error("cannot {what} {}", .path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What became of a file that could not be read, written or the like.
    pub fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}
