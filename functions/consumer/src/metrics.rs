use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use metrique_writer::{Entry, value::Distribution};
use platform::Metrics;

use crate::{Outcome, record::Record};

/// What becomes of a batch, in numbers.
#[derive(Default, Entry)]
#[entry(rename_all = "PascalCase")]
struct Batch {
    /// Messages; each is counted once more, in one of the next seven.
    received: u64,
    started: u64,
    duplicate: u64,
    empty: u64,
    split: u64,
    dead_lettered: u64,
    deferred: u64,
    failed: u64,
    /// From the write to the start of its execution.
    event_age_at_start: Distribution<Duration>,
}

#[derive(Entry)]
#[entry(rename_all = "PascalCase")]
struct DeadLettered {
    error_class: &'static str,
    dead_lettered: u64,
}

#[derive(Entry)]
#[entry(rename_all = "PascalCase")]
struct Deferred {
    cause: &'static str,
    deferred: u64,
}

/// Values of one metric in one line, at most.
const MAX_VALUES: usize = 100;

/// Publishes the outcomes of a batch, and of dead letters and deferrals the reasons.
pub(crate) fn publish<'a>(
    metrics: &Metrics,
    now: Timestamp,
    outcomes: impl Iterator<Item = (&'a Record<'a>, &'a Outcome)>,
) {
    let time = SystemTime::from(now);
    let mut batch = Batch::default();
    let mut ages = Vec::new();
    let mut classes: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut causes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (record, outcome) in outcomes {
        batch.received += 1;
        match outcome {
            Outcome::Started => {
                batch.started += 1;
                let times = record.events.iter().map(|event| event.time);
                ages.extend(times.filter_map(|written| time.duration_since(written.into()).ok()));
            }
            Outcome::Duplicate => batch.duplicate += 1,
            Outcome::Empty => batch.empty += 1,
            Outcome::Split { .. } => batch.split += 1,
            Outcome::DeadLettered { class, .. } => {
                batch.dead_lettered += 1;
                *classes.entry(class.as_str()).or_default() += 1;
            }
            Outcome::Deferred { cause, .. } => {
                batch.deferred += 1;
                *causes.entry(cause.as_str()).or_default() += 1;
            }
            Outcome::Failed { .. } => batch.failed += 1,
        }
    }
    batch.event_age_at_start = ages.into_iter().take(MAX_VALUES).collect();
    metrics.publish(time, batch);
    for (error_class, dead_lettered) in classes {
        metrics.publish_by(&["ErrorClass"], time, DeadLettered { error_class, dead_lettered });
    }
    for (cause, deferred) in causes {
        metrics.publish_by(&["Cause"], time, Deferred { cause, deferred });
    }
}
