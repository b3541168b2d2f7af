use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
                "another demo is running in this checkout (process {us}): end it first, with Ctrl-C"
            )
        );

        drop(first);
        RunFolder::take_alone(&project, "demo").unwrap();
        fs::remove_dir_all(target).unwrap();
    }
}
