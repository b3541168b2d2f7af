//! Runs seeds until one breaks a promise, and says which: `first-broken-seed <seeds> <uploads>
//! <nights>`. `faults/check.sh` asks this of every deliberate fault.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;

use simulation::{Plan, run};

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let [seeds, uploads, nights] = numbers[..] else {
        println!("expected three numbers: seeds, uploads, nights");
        return ExitCode::from(2);
    };
    let plan = Plan::full(uploads, nights);
    for seed in 0..seeds {
        if let Some(violation) = run(u64::from(seed), &plan).violations.first() {
            println!("caught by seed {seed} ({} seeds): {violation}", seed + 1);
            return ExitCode::SUCCESS;
        }
    }
    println!("not caught by {seeds} seeds with {uploads} uploads and {nights} nights");
    ExitCode::FAILURE
}
