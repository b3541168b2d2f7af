use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use local::{Build, Error, Job, Project, Tools, for_cargo, make_folder};

/// What `cargo sluice bench` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bench {
    /// Measure the functions beside their peers; write the report, the plots and the section of the
    /// page about performance. The peers in `without` are left out; `timeline` is what the demo has counted.
    Compare { rounds: u32, without: Vec<String>, timeline: PathBuf },
    /// Compare what repeats with the committed numbers.
    Guard,
    /// Write the numbers to be committed.
    UpdateGuard,
    /// Measure how a burst drains, and draw it.
    Burst,
}

/// How the benchmark can fail beyond what the local stack says itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Local(#[from] Error),
    #[error(
        "the benchmark compares with Node, and `node` or `npm` is not in PATH: install Node 18 or newer"
    )]
    NoNode,
}

impl Bench {
    /// Builds what is measured and what measures, and runs it.
    pub(crate) async fn run(
        self,
        project: &Project,
        tools: &Tools,
        build: &Build,
    ) -> Result<(), BenchError> {
        let folder = make_folder(project.target.join("bench"))?;
        let bench = project.root.join("infra/bench");
        let harness = Cargo { project, tools, folder: &folder }.harness(&bench).await?;
        let mut job = Job::new(project, &tools.python, &harness, folder.join("harness.log"))
            .args(["--root".as_ref(), project.root.as_os_str()])
            .args(["--functions".as_ref(), build.folder().as_os_str()])
            .args(["--peers".as_ref(), folder.as_os_str()]);
        match self {
            Self::Guard => job = job.args(["--guard"]),
            Self::UpdateGuard => job = job.args(["--update-guard"]),
            Self::Burst => job = job.args(["--burst"]),
            Self::Compare { rounds, without, timeline } => {
                let cargo = Cargo { project, tools, folder: &folder };
                let peers = Peers::build(cargo, &bench.join("peers"), &without).await?;
                job = job
                    .args(["--python".as_ref(), peers.python.as_os_str()])
                    .args(["--node".as_ref(), peers.node.as_os_str()])
                    .args(["--timeline".as_ref(), timeline.as_os_str()])
                    .args(["--rounds", &rounds.to_string()])
                    .args(without.iter().flat_map(|peer| ["--without", peer]));
            }
        }
        Ok(job.show("the harness").await?)
    }
}

#[derive(Debug, Clone, Copy)]
struct Cargo<'a> {
    project: &'a Project,
    tools: &'a Tools,
    folder: &'a Path,
}

impl Cargo<'_> {
    /// Builds the manifest in `source`, with a target folder of its own.
    async fn build(self, command: &[&str], source: &Path, name: &str) -> Result<PathBuf, Error> {
        let Self { project, tools, folder } = self;
        let target = folder.join(name);
        let job = Job::new(
            project,
            &tools.python,
            Path::new("cargo"),
            folder.join(format!("{name}.log")),
        )
        .args(command)
        .args(["--release", "--locked", "--manifest-path"])
        .args([source.join("Cargo.toml")])
        .env("CARGO_TARGET_DIR", &target);
        for_cargo(job, project, tools)?.run(&format!("building {name}")).await?;
        Ok(target)
    }

    async fn harness(self, bench: &Path) -> Result<PathBuf, Error> {
        Ok(self.build(&["build"], bench, "harness").await?.join("release/harness"))
    }
}

/// The peers that need an interpreter.
#[derive(Debug)]
struct Peers {
    python: PathBuf,
    node: PathBuf,
}

impl Peers {
    async fn build(
        cargo: Cargo<'_>,
        sources: &Path,
        without: &[String],
    ) -> Result<Self, BenchError> {
        let Cargo { project, tools, folder } = cargo;
        let wanted = |name: &&str| !without.iter().any(|other| other == name);
        for name in ["floor", "tutorial"].into_iter().filter(wanted) {
            cargo.build(&["lambda", "build"], &sources.join(name), name).await?;
        }
        copy(&sources.join("python"), &folder.join("python"))?;
        Ok(Self {
            python: Tools::install_peer(project).await?,
            node: node(project, tools, folder, &sources.join("node")).await?,
        })
    }
}

/// Installs what the lock file names and bundles the handlers.
async fn node(
    project: &Project,
    tools: &Tools,
    folder: &Path,
    source: &Path,
) -> Result<PathBuf, BenchError> {
    let (node, npm) = find("node").zip(find("npm")).ok_or(BenchError::NoNode)?;
    let place = folder.join("node");
    copy(source, &place)?;
    copy(&source.join("src"), &place.join("src"))?;
    for (name, args) in [
        // Without scripts: aws-lambda-ric would compile curl, for which see start.mjs.
        ("npm-install", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"][..]),
        ("npm-bundle", &["run", "bundle", "--", "--outdir=."][..]),
    ] {
        Job::new(project, &tools.python, &npm, folder.join(format!("{name}.log")))
            .args(["--prefix".as_ref(), place.as_os_str()])
            .args(args)
            .run(name)
            .await?;
    }
    Ok(node)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The files of a folder, not those in folders below it.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    make_folder(to.to_owned())?;
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let path = entry.map_err(Error::file("read", from))?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, to.join(name)).map_err(Error::file("copy", &path))?;
        }
    }
    Ok(())
}
