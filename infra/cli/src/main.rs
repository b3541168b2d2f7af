//! `sluice`: the operator's command line. `cargo demo` is short for `cargo sluice demo`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod aws;
mod bench;
mod dead_letters;
mod failure;
mod logs;
mod newcomers;
mod output;
mod parse;
mod pause;
mod plan;
mod reconcile;
mod shell;
mod simulate;
mod status;
mod trace;
mod upload;
mod watch;

use std::{error::Error, process::ExitCode, thread};

use bench::Bench;
use clap::{CommandFactory as _, Parser, Subcommand};
use local::{Demo, DemoError, Down, Project, Tools, Up};
use output::Verdict;
use plan::Plan;
use simulate::Simulate;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Operates Sluice, on AWS and on the local stack alike
///
/// The stack is found by its name in CloudFormation, with the profile, the region and the credentials
/// that the AWS command line would take. Exit codes: 0 if all is well, 1 if the system needs somebody
/// (dead letters, a missing object, an alarm), 2 if the verb could not do what it was asked to do.
#[derive(Debug, Parser)]
#[command(name = "sluice", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: aws::Options,
    #[command(flatten)]
    manner: output::Manner,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Show),
    Watch(watch::Watch),
    Pause(pause::Pause),
    Resume(pause::Resume),
    DeadLetters(dead_letters::DeadLetters),
    Reconcile(reconcile::Reconcile),
    Backfill(reconcile::Backfill),
    Trace(trace::Trace),
    Upload(upload::Upload),
    Logs(logs::Logs),
    Up(Up),
    Down(Down),
    Demo(Demo),
    /// Measure the functions beside the same in Python, Node and tutorial Rust
    Bench {
        /// How often every subject takes its turn
        #[arg(long, default_value_t = 15)]
        rounds: u32,
        /// A peer to leave out: tutorial (which takes minutes to build), node, python or floor
        #[arg(long)]
        without: Vec<String>,
        /// Only compare instructions, sizes and calls with the committed numbers, as CI does
        #[arg(long)]
        guard: bool,
        /// Only write these numbers
        #[arg(long, conflicts_with = "guard")]
        update_guard: bool,
        /// Only measure how 10,000 messages drain against the quota of `StartExecution`, and draw that
        #[arg(long, conflicts_with_all = ["guard", "update_guard"])]
        burst: bool,
    },
    Plan(Plan),
    Simulate(Simulate),
    /// Install the pinned Python tools (sam, cargo-lambda, cfn-lint, statelint) and print their folder
    Tools {
        /// Install checkov, and print the folder of that
        #[arg(long)]
        checkov: bool,
    },
    Completions(shell::Completions),
    Man(shell::Man),
}

/// The verb could not do what it was asked to do. clap's own errors have the same code.
const FAILED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = tokio::select! {
        result = run(cli) => result,
        // The other branch is dropped before this goes on, and with it all that it started.
        signal = stop_signal() => {
            eprintln!("stopped, with all that was started on this machine");
            return signal;
        }
    };
    match result {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", with_causes(&*error));
            ExitCode::from(FAILED)
        }
    }
}

async fn run(Cli { command, options, manner }: Cli) -> Result<Verdict, Box<dyn Error>> {
    match command {
        Command::Status(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Watch(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Pause(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Resume(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::DeadLetters(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Reconcile(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Backfill(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Trace(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Upload(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Logs(verb) => return Ok(Box::pin(verb.run(&options, manner)).await?),
        Command::Completions(verb) => return Ok(verb.run(Cli::command())),
        Command::Man(verb) => return Ok(verb.run(Cli::command())?),
        Command::Up(up) => up.run().await?,
        Command::Down(down) => {
            manner.must_be_allowed("end the local stack")?;
            down.run().await?;
        }
        Command::Demo(demo) => match demo.run().await {
            Err(error @ DemoError::Unexpected(_)) => {
                eprintln!("error: {error}");
                return Ok(Verdict::Wrong);
            }
            result => result?,
        },
        Command::Bench { rounds, without, guard, update_guard, burst } => {
            let project = Project::find()?;
            let bench = match (guard, update_guard, burst) {
                (true, ..) => Bench::Guard,
                (_, true, _) => Bench::UpdateGuard,
                (.., true) => Bench::Burst,
                _ => {
                    let timeline = project.target.join("burst.csv");
                    Demo::burst(timeline.clone()).run().await?;
                    Bench::Compare { rounds, without, timeline }
                }
            };
            let tools = Tools::install(&project).await?;
            eprintln!("building the functions");
            bench.run(&project, &tools, &local::build(&project, &tools).await?).await?;
        }
        Command::Plan(plan) => Box::pin(plan.run(&options, manner)).await?,
        Command::Simulate(simulate) => {
            // Each run has a runtime of its own. Not `spawn_blocking`, which a Ctrl-C would wait for.
            let (done, result) = oneshot::channel();
            thread::spawn(move || done.send(simulate.run()));
            if let Err(broken) = result.await? {
                eprintln!("error: {broken}");
                return Ok(Verdict::Wrong);
            }
        }
        Command::Tools { checkov } => {
            let project = Project::find()?;
            let folder = if checkov {
                Tools::install_checkov(&project).await?
            } else {
                Tools::install(&project).await?.bin().to_owned()
            };
            println!("{}", folder.display());
        }
    }
    Ok(Verdict::Fine)
}

/// Ends with the exit code that a shell expects after a Ctrl-C or a `kill`.
async fn stop_signal() -> ExitCode {
    const INTERRUPTED: u8 = 130;
    const TERMINATED: u8 = 143;
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then the signals end this process as they always do, and its children notice.
        return std::future::pending().await;
    };
    let code = tokio::select! {
        _ = interrupt.recv() => INTERRUPTED,
        _ = terminate.recv() => TERMINATED,
    };
    // On a line of its own, below the `^C` of the terminal.
    eprintln!("\nstopping …");
    ExitCode::from(code)
}

fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        message = format!("{message}: {next}");
        cause = next.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An option of a verb that has the name of one of all verbs panics only when it is read.
    #[test]
    fn the_options_of_all_verbs_fit_together() {
        Cli::command().debug_assert();
        for verb in [
            "status",
            "watch --interval 1s",
            "pause",
            "resume",
            "dead-letters ls",
            "reconcile",
            "backfill --since all",
            "trace key",
            "upload",
            "logs -f --function consumer --function ordered-redrive --since 1h",
            "up --port 4566",
            "down",
            "demo",
            "bench",
            "plan --arrivals 1/s",
            "plan --from-metrics --since 7d",
            "simulate",
            "tools",
            "completions bash",
            "man",
        ] {
            let words = format!("sluice {verb} --output json --yes --region r --stack s");
            let parsed = Cli::try_parse_from(words.split(' '));
            assert!(
                parsed.is_ok(),
                "{verb}: {}",
                parsed.err().map(|e| e.to_string()).unwrap_or_default()
            );
        }
    }
}
