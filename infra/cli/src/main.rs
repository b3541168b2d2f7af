//! `sluice`: the operator's command line. `cargo demo` is short for `cargo sluice demo`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod bench;
mod plan;
mod simulate;

use std::{error::Error, process::ExitCode, thread};

use bench::Bench;
use clap::{Parser, Subcommand};
use local::{Demo, Project, Tools};
use plan::Plan;
use simulate::Simulate;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

#[derive(Debug, Parser)]
#[command(name = "sluice", version, about = "Operates Sluice", long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    },
    Plan(Plan),
    Simulate(Simulate),
    /// Install the pinned Python tools (sam, cargo-lambda, cfn-lint, statelint) and print their folder
    Tools {
        /// Install checkov, and print the folder of that
        #[arg(long)]
        checkov: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    let result = tokio::select! {
        result = run(command) => result,
        // The other branch is dropped before this goes on, and with it all that it started.
        signal = stop_signal() => {
            eprintln!("stopped, with all that was started");
            return signal;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Demo(demo) => demo.run().await?,
        Command::Bench { rounds, without, guard, update_guard } => {
            let project = Project::find()?;
            let bench = match (guard, update_guard) {
                (true, _) => Bench::Guard,
                (_, true) => Bench::UpdateGuard,
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
        Command::Plan(plan) => plan.run()?,
        Command::Simulate(simulate) => {
            // Each run has a runtime of its own. Not `spawn_blocking`, which a Ctrl-C would wait for.
            let (done, result) = oneshot::channel();
            thread::spawn(move || done.send(simulate.run()));
            result.await??;
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
    Ok(())
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
