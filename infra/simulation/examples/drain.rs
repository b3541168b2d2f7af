//! How bursts drain with the consumer as it is: `drain [words of the names of the bursts]`.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::time::Duration;

use simulation::Burst;

fn bursts() -> Vec<Burst> {
    let large = || Burst::LARGE;
    vec![
        Burst { name: "2 consumers", consumers: 2, ..large() },
        Burst { name: "10 consumers", ..large() },
        Burst { name: "100 consumers", consumers: 100, ..large() },
        Burst {
            name: "half the quota after 10 s",
            change: Some((Duration::from_secs(10), 0.5)),
            ..large()
        },
        Burst {
            name: "twice the quota after 10 s",
            change: Some((Duration::from_secs(10), 2.0)),
            ..large()
        },
        Burst {
            name: "half at once, half at 200/s",
            at_once: 5_000,
            later: 5_000,
            per_second: 200,
            ..large()
        },
        Burst { name: "EXPRESS", bucket: 6_000.0, refill: 6_000.0, ..large() },
        Burst { name: "slow, not throttled", latency: Duration::from_millis(500), ..large() },
        limited("5 may run, 30 s each, 10 consumers", 10, 5, 30, 200),
        limited("5 may run, 30 s each, 2 consumers", 2, 5, 30, 200),
        limited("5 may run, 2 s each, 2 consumers", 2, 5, 2, 200),
        limited("100 may run, 10 s each, 10 consumers", 10, 100, 10, 2_000),
    ]
}

/// With `MaxRunningExecutions`.
fn limited(
    name: &'static str,
    consumers: u32,
    limit: u32,
    execution_seconds: u64,
    at_once: u32,
) -> Burst {
    let execution = Duration::from_secs(execution_seconds);
    Burst { name, consumers, limit, execution, at_once, ..Burst::LARGE }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    println!(
        "| burst | seconds | times the ideal | calls for each start | median wait | 99 % | all | deferrals | receives burnt | billed seconds | most running | questions |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for burst in bursts() {
        if !words.iter().all(|word| burst.name.contains(word)) {
            continue;
        }
        let drained = burst.drain(1);
        println!(
            "| {} | {:.1} | {:.3} | {:.3} | {:.2} | {:.2} | {:.2} | {} | {} | {:.0} | {} | {} |",
            burst.name,
            drained.time.as_secs_f64(),
            drained.slowness(),
            drained.calls_per_start(),
            drained.wait(50),
            drained.wait(99),
            drained.wait(100),
            drained.deferrals,
            drained.receives_burnt,
            drained.billed.as_secs_f64(),
            drained.most_running,
            drained.questions,
        );
    }
}
