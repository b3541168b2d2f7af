//! `sluice up` and `sluice down`: the local stack, in the background.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::demo::kept::{Kept, print_beside};
use crate::demo::progress::Progress;
use crate::project::Holder;
use crate::supervise::tail;
use crate::{
    Companion, DemoError, Emulator, EmulatorOptions, Error, Project, RunFolder, Stack, Tools,
};

/// Deploy Sluice to an emulator on this machine, and leave it up in the background
///
/// Prints how to reach the stack, as `demo --keep` does. `sluice down` ends it. Nothing that is in
/// it is kept after that.
#[derive(Debug, Args)]
pub struct Up {
    /// Stay in the foreground, until Ctrl-C
    #[arg(long)]
    foreground: bool,

    /// Stacks of infra/stacks to deploy beside the main one, such as guard,stream,catalog
    #[arg(long, value_enum, value_delimiter = ',')]
    with: Vec<Companion>,

    /// Port of the emulator on 127.0.0.1 [default: a free one]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// End the local stack of `sluice up` or `sluice demo`, with all that is in it
#[derive(Debug, Args)]
pub struct Down {}

/// The run folder of the demo, so that there is one stack in a checkout, and one way to reach it.
pub(crate) const RUN: &str = "demo";

/// How often it is looked how far the other process has come.
const POLL: Duration = Duration::from_millis(200);

/// A stack that was deployed. It ends with this value.
pub(crate) struct Running {
    pub(crate) emulator: Emulator,
    pub(crate) stack: Stack,
    /// The stacks beside it, with their outputs.
    pub(crate) beside: Vec<(Companion, HashMap<String, String>)>,
    /// The command line of AWS, if it was wanted.
    pub(crate) aws: Option<PathBuf>,
}

/// Builds what is deployed, starts an emulator, and deploys.
pub(crate) async fn bring_up(
    project: &Project,
    run: &RunFolder,
    options: &EmulatorOptions,
    with: &[Companion],
    progress: &Progress,
    with_aws: bool,
) -> Result<Running, Error> {
    let step = progress.step("installing the pinned Python tools (once)");
    let tools = Tools::install(project).await?;
    let aws = if with_aws { Some(Tools::install_aws(project).await?) } else { None };
    step.done();
    let step = progress.step("sam build (some minutes the first time)");
    let build = crate::build(project, &tools).await?;
    step.done();
    let step = progress.step("starting the emulator");
    let emulator = Emulator::start(project, &tools, run, options).await?;
    step.done();
    let step = progress.step("sam deploy");
    let parameters: Vec<&str> =
        with.iter().flat_map(|it| it.parameters_of_main()).copied().collect();
    let stack =
        crate::deploy(project, &tools, run, &build, &emulator, "sluice-demo", &parameters).await?;
    step.done();
    drop(build);
    let mut beside = Vec::new();
    for companion in with.iter().copied() {
        let step = progress.step("sam deploy of a stack beside it");
        let outputs =
            crate::deploy_beside(project, &tools, run, &emulator, &stack, companion).await?;
        step.done();
        beside.push((companion, outputs));
    }
    Ok(Running { emulator, stack, beside, aws })
}

impl Up {
    pub async fn run(self) -> Result<(), DemoError> {
        let project = Project::find()?;
        // Both before the build: nobody wants to hear of it minutes later.
        let run = RunFolder::take_alone(&project, RUN)?;
        let options = EmulatorOptions { port: self.port, functions_endpoint: None };
        options.check_port()?;
        if self.foreground {
            return hold(&project, &run, &options, &self.with).await;
        }
        let log = run.log("up");
        // For the other process, which holds it from now on.
        drop(run);
        Ok(self.in_the_background(&log).await?)
    }

    /// Starts this program once more, which stays, and waits until it has brought the stack up.
    async fn in_the_background(&self, log: &Path) -> Result<(), Error> {
        let program = std::env::current_exe().map_err(Error::file("find", Path::new("sluice")))?;
        let errors = File::create(log).map_err(Error::file("create", log))?;
        let mut command = Command::new(&program);
        command.args(["up", "--foreground"]);
        command.args(self.port.iter().flat_map(|port| ["--port".to_owned(), port.to_string()]));
        command.args(self.with.iter().flat_map(|it| ["--with".to_owned(), it.to_string()]));
        let mut other = Other(Some(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(errors)
                // A Ctrl-C at this terminal is not for it once it is up.
                .process_group(0)
                .spawn()
                .map_err(Error::file("run", &program))?,
        ));
        let progress = Progress::new(0);
        let step = progress.step("bringing the stack up");
        let mut printed = other.printed();
        let text = loop {
            tokio::select! {
                text = &mut printed => break text.unwrap_or_default(),
                () = sleep(POLL) => step.waits_for(tail(log).lines().last().unwrap_or_default().trim()),
            }
        };
        if text.is_empty() {
            // Its own end is what it has to say.
            return Err(Error::NotUp { log: log.to_owned(), tail: tail(log) });
        }
        other.0 = None;
        step.done();
        println!("\n{text}");
        Ok(())
    }
}

/// Brings the stack up, says how to reach it, and holds it.
async fn hold(
    project: &Project,
    run: &RunFolder,
    options: &EmulatorOptions,
    with: &[Companion],
) -> Result<(), DemoError> {
    let progress = Progress::new(0);
    let Running { mut emulator, stack, beside, aws } =
        bring_up(project, run, options, with, &progress, true).await?;
    let until = "`cargo sluice down`";
    Kept::prepare(run, &stack, &aws.unwrap_or_default()).await?.print(until);
    print_beside(&beside);
    close_stdout()?;
    Err(emulator.ended().await.into())
}

/// Says that all has been printed to whoever reads it. To write to a pipe that nobody reads any more
/// would be an error.
fn close_stdout() -> Result<(), Error> {
    let nothing = Path::new("/dev/null");
    std::io::stdout().flush().map_err(Error::file("write to", Path::new("standard output")))?;
    let file = File::options().write(true).open(nothing).map_err(Error::file("open", nothing))?;
    rustix::stdio::dup2_stdout(file)
        .map_err(|error| Error::file("close", Path::new("standard output"))(error.into()))
}

/// The process that holds the stack, until it is left alone. It ends with this value.
struct Other(Option<Child>);

impl Other {
    /// All that it prints, once it has printed all.
    fn printed(&mut self) -> oneshot::Receiver<String> {
        let (send, receive) = oneshot::channel();
        if let Some(mut out) = self.0.as_mut().and_then(|child| child.stdout.take()) {
            std::thread::spawn(move || {
                let mut text = String::new();
                // Nothing printed is a failure, whatever the reason.
                let read = out.read_to_string(&mut text);
                drop(send.send(read.map(|_| text).unwrap_or_default()));
            });
        }
        receive
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // It has not been waited for, so its id is its own.
        if kill_process(Pid::from_child(&child), Signal::TERM).is_ok() {
            drop(child.wait());
        }
    }
}

impl Down {
    pub async fn run(self) -> Result<(), Error> {
        let project = Project::find()?;
        let Some(holder) = Holder::find(&project, RUN).await? else {
            println!("no stack is up in this checkout");
            return Ok(());
        };
        let id = holder.id;
        let progress = Progress::new(0);
        let step = progress.step("ending the stack");
        holder.end().await?;
        step.done();
        println!("the stack is down (process {id})");
        Ok(())
    }
}
