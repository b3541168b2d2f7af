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
