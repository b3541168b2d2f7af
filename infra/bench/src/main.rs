//! What `cargo sluice bench` runs, once the functions and the peers are built.

mod aws;
mod cost;
mod drain;
mod events;
mod guard;
mod lambda;
mod measure;
mod plot;
mod report;
mod share;
mod subject;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use aws::Aws;
use clap::Parser;
use guard::Numbers;
use measure::Rounds;
use report::Results;
use subject::{Job, Places, Subject};

#[derive(Debug, Parser)]
struct Cli {
    /// Folder of the checkout
    #[arg(long)]
    root: PathBuf,
    /// Folder of what `sam build` made
    #[arg(long)]
    functions: PathBuf,
    /// Folder of what was made of the peers
    #[arg(long)]
    peers: PathBuf,
    #[arg(long)]
    python: Option<PathBuf>,
    #[arg(long)]
    node: Option<PathBuf>,
    /// What `cargo demo --timeline` has written
    #[arg(long)]
    timeline: Option<PathBuf>,
    /// How often every subject takes its turn
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How often every subject is started and ended
    #[arg(long, default_value_t = 50)]
    cold_rounds: usize,
    /// Invocations that are measured in each turn
    #[arg(long, default_value_t = 20)]
    warm: usize,
    /// Leave a peer out, and the goals with it
    #[arg(long)]
    without: Vec<Subject>,
    /// Only compare what repeats with the committed numbers
    #[arg(long)]
    guard: bool,
    /// Only write the numbers to be committed
    #[arg(long)]
    update_guard: bool,
    /// Only measure how 10,000 messages drain against the quota, and draw that
    #[arg(long)]
    burst: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let bench = cli.root.join("infra/bench");
    let committed = bench.join("guard.toml");
    let places = Places {
        functions: cli.functions,
        peers: cli.peers,
        root: cli.root.clone(),
        python: cli.python,
        node: cli.node,
    };
    fs::create_dir_all(&places.peers)?;
    let aws = Aws::start().await?;
    if cli.update_guard {
        return Numbers::count(&places, &aws).await?.write(&committed);
    }
    if cli.guard {
        let grown = Numbers::count(&places, &aws).await?.grown_since(&Numbers::read(&committed)?);
        if grown.is_empty() {
            println!("instructions, zips and calls are within the committed numbers");
            return Ok(());
        }
        bail!(
            "{}\nIf that is worth it, `cargo sluice bench --update-guard` writes the new numbers",
            grown.join("\n")
        );
    }

    if cli.burst {
        let burst = drain::burst(&places, &aws).await?;
        plot::quota(&burst, &bench.join("plots"))?;
        print!("{}", burst.markdown());
        return Ok(());
    }

    let local = drain::read_timeline(cli.timeline.as_deref().context("no timeline")?)?;
    let subjects: Vec<Subject> =
        Subject::ALL.into_iter().filter(|subject| !cli.without.contains(subject)).collect();
    let rounds = Rounds { cold: cli.cold_rounds, warm: cli.rounds, invocations: cli.warm };
    let runs = measure::all(&places, &aws, &subjects, rounds).await?;
    let shares = share::measure(&places, &aws, &subjects).await;
    if let Err(problem) = &shares {
        eprintln!("no shares of a processor: {problem:#}");
    }
    let numbers = Numbers::count(&places, &aws).await;
    if let Err(problem) = &numbers {
        eprintln!("no instructions: {problem:#}");
    }
    let mut zips = Vec::new();
    for &subject in &subjects {
        for job in [Job::Forwarder, Job::Consumer] {
            zips.push((subject, job, places.zip_bytes(subject, job)?));
        }
    }
    let mut command = format!("cargo sluice bench --rounds {}", cli.rounds);
    for peer in cli.without.iter().filter_map(clap::ValueEnum::to_possible_value) {
        command = format!("{command} --without {}", peer.get_name());
    }
    let results = Results {
        runs,
        rounds,
        shares: shares.unwrap_or_default(),
        numbers: numbers.ok(),
        drain: drain::measure(&places, &aws).await?,
        local,
        zips,
        machine: report::machine()?,
        versions: report::versions(&places)?,
        command,
        date: report::today()?,
    };
    plot::all(&results, &bench.join("plots"))?;
    let markdown = results.markdown();
    let path = bench.join("results.md");
    fs::write(&path, &markdown).with_context(|| format!("cannot write {}", path.display()))?;
    results.write_section(&cli.root.join("infra/docs/performance.md"))?;
    println!("{markdown}");
    Ok(())
}
