//! Bursts against the quota of `StartExecution`, a tenth as large as those of the example `drain`.

use std::time::Duration;

use simulation::Burst;

const SMALL: Burst =
    Burst { consumers: 2, at_once: 1_000, bucket: 130.0, refill: 30.0, ..Burst::LARGE };

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
