use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::project::{Project, lock, make_folder};
use crate::supervise::Job;
use crate::tools::Tools;

/// What `sam build` made. No other process builds over it while this value lives.
#[derive(Debug)]
pub struct Build {
    /// The template that `sam deploy` takes: the committed one, with the paths of the binaries.
    pub(crate) template: PathBuf,
    /// `Architecture=…` of this machine, for the deployment too.
    pub(crate) architecture: String,
    _lock: File,
}

impl Build {
    /// Where each function has a folder with its binary.
    pub fn folder(&self) -> &Path {
        self.template.parent().unwrap_or(&self.template)
    }
}

/// Runs `sam build` as a user would: cargo-lambda builds the release binaries in the target folder.
/// From nothing it takes minutes, again some seconds.
///
/// The differences are two. The architecture is this machine's, because the emulator runs the
/// binaries. And the result goes to the target folder instead of `.aws-sam`, where a later
/// `sam deploy` would take it for the user's own build.
pub async fn build(project: &Project, tools: &Tools) -> Result<Build, Error> {
    let architecture = format!("Architecture={}", host_architecture()?);
    check_c_compiler()?;
    let products = project.products()?;
    let lock = lock(&products.join("build.lock")).await?;
    let folder = products.join("build");
    let job = Job::new(project, &tools.python, &tools.sam(), products.join("build.log"))
        .args(["build", "--parameter-overrides", &architecture, "--build-dir"])
        .args([&folder])
        .env("SAM_CLI_TELEMETRY", "0");
    for_cargo(job, project, tools)?.run("sam build").await?;
    Ok(Build { template: folder.join("template.yaml"), architecture, _lock: lock })
}

/// The environment of a job that builds Rust: with our tools first, and without what is for this
/// process only.
pub fn for_cargo(job: Job, project: &Project, tools: &Tools) -> Result<Job, Error> {
    let mut path = OsString::from(refuse_rustup(&project.products()?)?);
    for more in
        [Some(tools.bin().as_os_str().to_owned()), env::var_os("PATH")].into_iter().flatten()
    {
        path.push(":");
        path.push(more);
    }
    Ok(job.without_env(is_not_for_builds).env("PATH", path))
}

/// This machine in Lambda's words.
fn host_architecture() -> Result<&'static str, Error> {
    match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => Ok("x86_64"),
        ("linux", "aarch64") => Ok("arm64"),
        (os, architecture) => Err(Error::UnsupportedHost { os, architecture }),
    }
}

/// Build scripts of the dependencies compile C.
fn check_c_compiler() -> Result<(), Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::var_os("CC").is_some()
        || env::split_paths(&path)
            .any(|folder| ["cc", "gcc", "clang"].iter().any(|name| folder.join(name).is_file()));
    if found { Ok(()) } else { Err(Error::NoCCompiler) }
}

/// A folder with a `rustup` that does nothing: cargo-lambda would otherwise run
/// `rustup target add` unasked and change the user's toolchain.
fn refuse_rustup(products: &Path) -> Result<PathBuf, Error> {
    const SCRIPT: &str = "#!/bin/sh\n\
        echo \"sluice leaves your toolchains alone: not running rustup $*\" >&2\n\
        exit 1\n";
    let folder = make_folder(products.join("no-rustup"))?;
    let script = folder.join("rustup");
    fs::write(&script, SCRIPT).map_err(Error::file("write", &script))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("make executable", &script))?;
    Ok(folder)
}

/// Variables that are for this process and not for a build: those that `cargo run` and `cargo test`
/// add, which would only make build scripts that look at them run again, and a preloaded library.
/// (`infra/tests/steadiness.py` preloads libfaketime, under which rustc hangs.)
fn is_not_for_builds(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    const NAMES: [&str; 6] = [
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "LD_PRELOAD",
        "OUT_DIR",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_for_it_is_kept_from_the_build() {
        for name in ["CARGO", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "LD_PRELOAD"] {
            assert!(is_not_for_builds(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "RUSTFLAGS", "PATH"] {
            assert!(!is_not_for_builds(name), "{name}");
        }
    }
}
