use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Error;
use crate::project::Project;

/// A command under `supervise.py`: it ends, with all it started, when this value is dropped or
/// when this process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Supervised {
    supervisor: Child,
    log: PathBuf,
}

/// How to run one command: what `std::process::Command` is, plus where its output goes.
#[must_use = "a job does nothing until it is run"]
#[derive(Debug)]
pub struct Job {
    command: Command,
    log: PathBuf,
}

impl Job {
    /// `python` runs the supervisor; `program` may be anything. The output goes to `log`.
    pub fn new(project: &Project, python: &Path, program: &Path, log: PathBuf) -> Self {
        let mut command = supervisor(project, python);
        command.arg("--").arg(program);
        Self { command, log }
    }

    /// The same, with a temporary folder of its own below `folder` while it runs.
    pub(crate) fn with_scratch(
        project: &Project,
        python: &Path,
        program: &Path,
        folder: &Path,
        log: PathBuf,
    ) -> Self {
        let mut command = supervisor(project, python);
        command.arg("--scratch").arg(folder).arg("--").arg(program);
        Self { command, log }
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes every variable for which `unwanted` holds.
    pub(crate) fn without_env(mut self, unwanted: impl Fn(&str) -> bool) -> Self {
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(&unwanted) {
                self.command.env_remove(name);
            }
        }
        self
    }

    /// Only AWS and proxy settings of ours: the emulator is on this machine, and a person's
    /// profile, keys and endpoints are none of its business.
    pub(crate) fn for_the_emulator(self, endpoint: &str, region: &str) -> Self {
        self.without_env(|name| {
            let name = name.to_ascii_uppercase();
            name.starts_with("AWS_") || name.starts_with("SAM_") || name.ends_with("_PROXY")
        })
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", region)
        .env("AWS_DEFAULT_REGION", region)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("SAM_CLI_TELEMETRY", "0")
    }

    pub(crate) fn start(mut self) -> Result<Supervised, Error> {
        let log = File::create(&self.log).map_err(Error::file("create", &self.log))?;
        let both = log.try_clone().map_err(Error::file("open", &self.log))?;
        self.command.stdout(log).stderr(both);
        self.spawn()
    }

    fn spawn(mut self) -> Result<Supervised, Error> {
        let supervisor = self
            .command
            .stdin(Stdio::piped())
            // A Ctrl-C is for this process, which then stops the others in order.
            .process_group(0)
            .spawn()
            .map_err(Error::file("run", Path::new(self.command.get_program())))?;
        Ok(Supervised { supervisor, log: self.log })
    }

    /// Runs to the end; `what` names the job in the error.
    pub async fn run(self, what: &str) -> Result<(), Error> {
        let mut job = self.start()?;
        let status = job.wait().await?;
        if status.success() {
            return Ok(());
        }
        Err(Error::CommandFailed {
            what: what.to_owned(),
            status: said(status),
            tail: job.tail(),
            log: job.log.clone(),
        })
    }

    /// The same for what is to be seen: the output goes where ours goes.
    pub async fn show(self, what: &str) -> Result<(), Error> {
        let status = self.spawn()?.wait().await?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed { what: what.to_owned(), status: said(status) })
    }
}

pub(crate) fn said(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

fn supervisor(project: &Project, python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg("-I").arg(project.supervisor()).current_dir(&project.root);
    command
}

impl Supervised {
    /// How often a running command is looked at.
    const POLL: Duration = Duration::from_millis(50);

    /// The supervisor gives a command 5 s to end; it needs a moment more itself.
    const STOP_LIMIT: Duration = Duration::from_secs(10);

    /// Process id of the supervisor: the ancestor of all that the command starts.
    pub(crate) fn id(&self) -> u32 {
        self.supervisor.id()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.supervisor.try_wait().map_err(Error::file("wait for the command of", &self.log))
    }

    pub(crate) async fn wait(&mut self) -> Result<ExitStatus, Error> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(Self::POLL).await;
        }
    }

    /// The last lines of the log, indented.
    pub(crate) fn tail(&self) -> String {
        tail(&self.log)
    }
}

/// The last lines of a log, indented.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 20;
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let limit = Instant::now() + Self::STOP_LIMIT;
        while Instant::now() < limit {
            // An error means that it is not our child any more: nothing to wait for.
            if !matches!(self.supervisor.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Self::POLL);
        }
        // It does not answer. Killed, it cannot clean up, but it cannot stay either.
        if self.supervisor.kill().is_ok() {
            drop(self.supervisor.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that starts a process, tells its id, and waits. Both ignore a polite end.
    const STUBBORN: &str = "trap '' TERM; sleep 300 & echo $!; wait; sleep 300";

    fn job(name: &str) -> Job {
        let project = Project::find().unwrap();
        let log = std::env::temp_dir().join(format!("sluice-{}-{name}.log", std::process::id()));
        Job::new(&project, Path::new("python3"), Path::new("sh"), log)
    }

    fn is_running(process: &str) -> bool {
        let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // A zombie has ended.
        status
            .rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim().is_empty() && !rest.starts_with(" Z"))
    }

    #[tokio::test]
    async fn what_a_command_started_ends_with_it() {
        let job = job("stubborn").args(["-c", STUBBORN]).start().unwrap();
        let log = job.log.clone();
        let grandchild = loop {
            let told = fs::read_to_string(&log).unwrap();
            if let Some((id, _)) = told.split_once('\n') {
                break id.to_owned();
            }
            tokio::time::sleep(Supervised::POLL).await;
        };
        assert!(is_running(&grandchild));

        drop(job);

        assert!(!is_running(&grandchild));
        fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn a_failed_command_is_reported_with_the_end_of_its_output() {
        let job = job("failing").args(["-c", "echo first; echo 'no such thing' >&2; exit 3"]);
        let log = job.log.clone();
        let error = job.run("looking").await.unwrap_err().to_string();
        assert!(error.starts_with("looking failed with exit code 3; "), "{error}");
        assert!(error.ends_with("ends with:\n  first\n  no such thing"), "{error}");
        fs::remove_file(log).unwrap();
    }
}
