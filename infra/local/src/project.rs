use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::sleep;

use crate::Error;

/// Where the checkout is and where its products go.
#[derive(Debug, Clone)]
pub struct Project {
    /// Folder of `template.yaml` and of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target folder: everything that is made here lies below it.
    pub target: PathBuf,
}

impl Project {
    /// Finds the checkout from the manifest that cargo runs (`cargo demo`, `cargo test`), else from
    /// the current folder.
    pub fn find() -> Result<Self, Error> {
        let here = Path::new(".");
        let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(manifest) => PathBuf::from(manifest),
            None => here.canonicalize().map_err(Error::file("resolve", here))?,
        };
        let root = start
            .ancestors()
            .find(|folder| {
                folder.join("template.yaml").is_file() && folder.join("Cargo.toml").is_file()
            })
            .map(Path::to_owned)
            .ok_or(Error::NoProject { start })?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            // Relative to the folder that cargo was called in, which is the root or a member.
            Some(target) => std::path::absolute(&target).map_err(Error::file("resolve", here))?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Folder of everything but the virtual environments.
    pub(crate) fn products(&self) -> Result<PathBuf, Error> {
        make_folder(self.target.join("sluice"))
    }

    pub(crate) fn supervisor(&self) -> PathBuf {
        self.root.join("infra/local/src/supervise.py")
    }

    /// The program that starts `MiniStack`.
    pub(crate) fn emulator(&self) -> PathBuf {
        self.root.join("infra/local/src/emulator.py")
    }
}

/// The logs and scratch files of one running stack. Folders are taken in turn and taken again, so
/// the logs of the last run stay for reading and nothing piles up.
#[derive(Debug)]
pub struct RunFolder {
    pub path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Takes `<name>`, which only one process can have at a time. The lock file holds its id, for
    /// the next one to tell.
    pub fn take_alone(project: &Project, name: &'static str) -> Result<Self, Error> {
        let path = make_folder(project.products()?.join(name))?;
        let lock_path = path.join(".lock");
        let mut options = File::options();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(Error::file("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                lock.read_to_string(&mut process).map_err(Error::file("read", &lock_path))?;
                return Err(Error::AlreadyRunning { name, process });
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::file("lock", &lock_path)(source));
            }
        }
        lock.set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(Error::file("write", &lock_path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Takes `<name>-0`, or the first number that no other process holds.
    pub fn take(project: &Project, name: &str) -> Result<Self, Error> {
        let products = project.products()?;
        let mut number = 0;
        loop {
            let path = make_folder(products.join(format!("{name}-{number}")))?;
            let lock_path = path.join(".lock");
            let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path, _lock: lock }),
                Err(TryLockError::WouldBlock) => number += 1,
                Err(TryLockError::Error(source)) => {
                    return Err(Error::file("lock", &lock_path)(source));
                }
            }
        }
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }
}

/// The process that holds a run folder which only one can have.
#[derive(Debug)]
pub(crate) struct Holder {
    /// Stays that of this process, even if it ends and another one gets its id.
    process: OwnedFd,
    pub(crate) id: i32,
    lock: File,
    lock_path: PathBuf,
}

impl Holder {
    /// How long a process that has the lock takes at most until the lock file has its id.
    const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

    /// Longer than the emulator may take to end.
    const ENDS_WITHIN: Duration = Duration::from_secs(30);

    const POLL: Duration = Duration::from_millis(50);

    /// Finds who has taken `<name>` alone, if anybody has.
    ///
    /// The id in the lock file may be that of a process that had the folder before, and may belong
    /// to any other process by now. So it counts only while the lock is held, and only if that
    /// process has the lock file open.
    pub(crate) async fn find(project: &Project, name: &str) -> Result<Option<Self>, Error> {
        let path = project.products()?.join(name).join(".lock");
        let mut lock = match File::options().read(true).write(true).open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("open", &path)(error)),
        };
        let lock_path = path.canonicalize().map_err(Error::file("resolve", &path))?;
        let until = Instant::now() + Self::WRITTEN_WITHIN;
        loop {
            if is_free(&lock, &lock_path)? {
                return Ok(None);
            }
            let mut id = String::new();
            lock.rewind()
                .and_then(|()| lock.read_to_string(&mut id))
                .map_err(Error::file("read", &lock_path))?;
            let id = id.trim().parse().unwrap_or_default();
            if let Some(process) = process_with(id, &lock_path) {
                return Ok(Some(Self { process, id, lock, lock_path }));
            }
            if Instant::now() > until {
                return Err(Error::UnknownHolder { lock: lock_path });
            }
            sleep(Self::POLL).await;
        }
    }

    /// Ends it as `kill` does, and waits until it has gone, with all that it has started.
    pub(crate) async fn end(self) -> Result<(), Error> {
        match pidfd_send_signal(&self.process, Signal::TERM) {
            // It has just ended by itself.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                return Err(Error::file("end the process of", &self.lock_path)(error.into()));
            }
        }
        let until = Instant::now() + Self::ENDS_WITHIN;
        while !is_free(&self.lock, &self.lock_path)? {
            if Instant::now() > until {
                let seconds = Self::ENDS_WITHIN.as_secs();
                return Err(Error::DoesNotEnd { process: self.id, seconds });
            }
            sleep(Self::POLL).await;
        }
        Ok(())
    }
}

fn is_free(lock: &File, path: &Path) -> Result<bool, Error> {
    match lock.try_lock() {
        Ok(()) => lock.unlock().map(|()| true).map_err(Error::file("unlock", path)),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(Error::file("lock", path)(source)),
    }
}

/// The process with an id, if it has this file open.
fn process_with(id: i32, file: &Path) -> Option<OwnedFd> {
    // First the process, so that what is read below cannot be about another one.
    let process = pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?;
    let open = fs::read_dir(format!("/proc/{id}/fd")).ok()?;
    let has_it = open
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target == file);
    has_it.then_some(process)
}

/// Creates a folder and those above it, unless they are there.
pub fn make_folder(path: PathBuf) -> Result<PathBuf, Error> {
    fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
    Ok(path)
}

/// Waits until no other process (a demo beside the tests) holds the lock. It ends with the file.
pub(crate) async fn lock(path: &Path) -> Result<File, Error> {
    const POLL: Duration = Duration::from_millis(200);
    let file = File::create(path).map_err(Error::file("create", path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            Err(TryLockError::Error(source)) => return Err(Error::file("lock", path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_and_told_who_is_first() {
        let target = std::env::temp_dir().join(format!("sluice-{}-alone", std::process::id()));
        let project = Project { root: target.clone(), target: target.clone() };
        let first = RunFolder::take_alone(&project, "demo").unwrap();

        let refused = RunFolder::take_alone(&project, "demo").unwrap_err().to_string();
        let us = std::process::id();
        assert_eq!(
            refused,
            format!(
                "another demo is running in this checkout (process {us}): end it first, with Ctrl-C or `cargo sluice down`"
            )
        );

        drop(first);
        RunFolder::take_alone(&project, "demo").unwrap();
        fs::remove_dir_all(target).unwrap();
    }

    /// A project in a temporary folder, with the run folder `demo`.
    fn project(name: &str) -> (Project, PathBuf) {
        let target = std::env::temp_dir().join(format!("sluice-{}-{name}", std::process::id()));
        let project = Project { root: target.clone(), target };
        let folder = make_folder(project.products().unwrap().join("demo")).unwrap();
        (project, folder)
    }

    #[tokio::test]
    async fn a_run_folder_that_nobody_holds_has_no_holder() {
        let (project, folder) = project("free");
        assert!(Holder::find(&project, "demo").await.unwrap().is_none());
        // Our own process, which holds it no more.
        fs::write(folder.join(".lock"), std::process::id().to_string()).unwrap();
        assert!(Holder::find(&project, "demo").await.unwrap().is_none());

        let run = RunFolder::take_alone(&project, "demo").unwrap();
        let holder = Holder::find(&project, "demo").await.unwrap().unwrap();
        assert_eq!(holder.id.to_string(), std::process::id().to_string());
        drop(run);
        fs::remove_dir_all(project.target).unwrap();
    }

    #[tokio::test]
    async fn the_holder_ends_and_is_waited_for() {
        let (project, folder) = project("holder");
        // A shell that takes the lock, writes its id, and stays the same process.
        let script = "exec 9<>.lock; flock 9; echo $$ >&9; exec sleep 300";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(&folder)
            .spawn()
            .unwrap();
        let holder = loop {
            if let Some(holder) = Holder::find(&project, "demo").await.unwrap() {
                break holder;
            }
            sleep(Holder::POLL).await;
        };
        assert_eq!(holder.id.to_string(), child.id().to_string());
        holder.end().await.unwrap();
        RunFolder::take_alone(&project, "demo").unwrap();
        assert!(!child.wait().unwrap().success());
        fs::remove_dir_all(project.target).unwrap();
    }

    #[tokio::test]
    async fn a_process_of_which_only_the_id_is_left_is_not_taken_for_the_holder() {
        let (project, folder) = project("stale");
        let run = RunFolder::take_alone(&project, "demo").unwrap();
        let mut other = std::process::Command::new("sleep").arg("300").spawn().unwrap();
        fs::write(folder.join(".lock"), other.id().to_string()).unwrap();
        let error = Holder::find(&project, "demo").await.unwrap_err().to_string();
        assert!(error.contains("does not say which process"), "{error}");
        assert!(other.try_wait().unwrap().is_none(), "it has been ended");
        other.kill().unwrap();
        other.wait().unwrap();
        drop(run);
        fs::remove_dir_all(project.target).unwrap();
    }
}
