//! Bursts against the quota of `StartExecution`, a tenth as large as those of the example `drain`.

use std::time::Duration;

use simulation::{Burst, Drained};

const SMALL: Burst =
    Burst { consumers: 2, at_once: 1_000, bucket: 130.0, refill: 30.0, ..Burst::LARGE };

#[track_caller]
fn drains_at_the_quota(drained: &Drained) {
    assert!(drained.slowness() < 1.05, "{} times the ideal", drained.slowness());
    assert!(drained.calls_per_start() < 1.1, "{} calls", drained.calls_per_start());
    assert!(drained.wait(99) < 1.2, "{} times as long", drained.wait(99));
    assert_eq!(drained.receives_burnt, 0);
}

#[test]
fn a_burst_drains_at_the_quota() {
    let drained = SMALL.drain(1);
    drains_at_the_quota(&drained);
    assert_eq!(drained.waits.len(), 1_000);
    // What the quota allows: 130 at once, and 30 a second.
    assert!(drained.time >= Duration::from_secs(29), "{:?}", drained.time);
}

#[test]
fn half_the_quota_halves_the_rate() {
    let burst = Burst { change: Some((Duration::from_secs(10), 0.5)), ..SMALL };
    let drained = burst.drain(1);
    drains_at_the_quota(&drained);
    assert!(drained.time >= Duration::from_secs(47), "{:?}", drained.time);
}

#[test]
fn what_is_not_throttled_is_called_once_and_waits_for_nothing() {
    let burst = Burst { bucket: 1e6, latency: Duration::from_millis(500), ..SMALL };
    let drained = burst.drain(1);
    assert_eq!((drained.calls, drained.deferrals), (1_000, 0));
    // A batch takes as long as the slowest of its calls.
    assert!(drained.slowness() < 1.25, "{} times the ideal", drained.slowness());
}

#[test]
fn the_same_seed_drains_in_the_same_way() {
    let burst = Burst { at_once: 300, ..SMALL };
    let (first, second) = (burst.drain(7), burst.drain(7));
    assert_eq!((first.calls, first.waits), (second.calls, second.waits));
}

/// Five executions of ten seconds at once, however many consumers there are.
const LIMITED: Burst =
    Burst { at_once: 60, limit: 5, execution: Duration::from_secs(10), ..Burst::LARGE };

#[test]
fn a_burst_over_the_limit_of_running_executions_drains_without_running_far_over_it() {
    for (consumers, most) in [(2, 5 + 3), (10, 5 + 9)] {
        let drained = Burst { consumers, ..LIMITED }.drain(1);
        assert!(drained.most_running <= most, "{} of {most}", drained.most_running);
        assert_eq!((drained.waits.len(), drained.receives_burnt), (60, 0));
        assert_eq!(drained.calls, 60, "what has no place is not called");
        // The places are mostly in use. With waits that double it would be 2.5 to 4 times.
        assert!(drained.slowness() < 1.6, "{} times the ideal", drained.slowness());
    }
}

/// Two a second are what an account may make in most regions.
#[test]
fn all_consumers_together_ask_about_once_a_second_what_runs() {
    let drained = LIMITED.drain(1);
    let (questions, seconds) = (drained.questions, drained.time.as_secs());
    assert!(questions < seconds * 3 / 2 + 20, "{questions} in {seconds} seconds");
}
