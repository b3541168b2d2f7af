//! `sluice simulate`: many seeds of the simulation, and what came of them.

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Args;
use simulation::{Fault, Plan, QUIET_NIGHTS, Run, run, shrink};

/// Run the real functions in a simulated world, seed after seed, and check the ledger of each run
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Objects that are written in each run
    #[arg(long, default_value_t = 40)]
    uploads: u32,
    /// Nights of each run. On the last nine nothing goes wrong, so that everything can come to its end
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(i64::from(QUIET_NIGHTS) + 1..=80))]
    nights: u32,
    /// What may go wrong: full (everything but what is never delivered), lossy (that too), or calm
    /// (nothing)
    #[arg(long, default_value = "full", value_parser = ["full", "lossy", "calm"])]
    plan: String,
    /// Print all that happened instead of the table
    #[arg(long)]
    trace: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("a promise is broken")]
pub(crate) struct Broken;

/// What all runs have shown together.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    faults: BTreeMap<Fault, u64>,
    counts: BTreeMap<String, u64>,
    broken: Option<Run>,
}

impl Simulate {
    pub(crate) fn run(&self) -> Result<(), Broken> {
        let Some(plan) = Plan::named(&self.plan, self.uploads, self.nights) else {
            return Err(Broken);
        };
        if self.trace {
            for seed in self.seed..self.seed + self.seeds {
                print!("{}", run(seed, &plan).trace());
            }
            return Ok(());
        }
        let begin = Instant::now();
        let sum = self.run_all(&plan);
        sum.print(&plan, begin);
        let Some(broken) = sum.broken else { return Ok(()) };
        eprintln!("seed {} breaks a promise; looking for the smallest plan that does", broken.seed);
        print(&shrink(&broken));
        Err(Broken)
    }

    /// All seeds, on all processors, until one breaks a promise.
    fn run_all(&self, plan: &Plan) -> Sum {
        let sum = Mutex::new(Sum::default());
        let next = AtomicU64::new(self.seed);
        let end = self.seed + self.seeds;
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return;
                        }
                        let run = run(seed, plan);
                        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                        if !run.violations.is_empty() {
                            next.store(end, Ordering::Relaxed);
                        }
                        sum.add(run);
                        if sum.runs.is_multiple_of(10) {
                            eprintln!("{} of {} seeds", sum.runs, self.seeds);
                        }
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sum {
    fn add(&mut self, run: Run) {
        self.runs += 1;
        for (fault, times) in &run.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
        for (what, times) in &run.counts {
            *self.counts.entry(what.clone()).or_default() += times;
        }
        // The lowest seed, whichever thread was faster.
        let is_lower = self.broken.as_ref().is_none_or(|broken| run.seed < broken.seed);
        if !run.violations.is_empty() && is_lower {
            self.broken = Some(run);
        }
    }

    fn print(&self, plan: &Plan, begin: Instant) {
        println!("faults");
        for fault in Fault::ALL {
            let times = self.faults.get(fault).copied().unwrap_or_default();
            println!("  {:40}{times:>10}", fault.name());
        }
        println!("what happened");
        for (what, times) in &self.counts {
            println!("  {what:40}{times:>10}");
        }
        let seconds = begin.elapsed().as_secs_f64();
        let uploads = self.runs * u64::from(plan.uploads);
        let nights = self.runs * u64::from(plan.nights);
        let faults: u64 = self.faults.values().sum();
        #[expect(clippy::cast_precision_loss, reason = "a rounded figure")]
        let rate = uploads as f64 / seconds;
        println!(
            "{} seeds, {uploads} uploads, {nights} nights, {faults} faults in {seconds:.0} s: \
             {rate:.0} uploads a second; {}",
            self.runs,
            if self.broken.is_some() { "a promise is broken" } else { "every promise is kept" },
        );
    }
}

/// Prints the plan under which a promise is broken, and how that comes about.
fn print(run: &Run) {
    let Plan { uploads, nights, faults } = &run.plan;
    let faults: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    println!("seed {}, {uploads} uploads, {nights} nights, with {}", run.seed, faults.join(", "));
    println!("{}", run.setting);
    if let Some(violation) = run.violations.first() {
        println!("broken: {violation}\n\n{}", run.story(violation));
    }
}
