use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use metrique_writer::Entry;
use platform::Metrics;

use crate::Report;

/// What becomes of the dead letters of one run, in numbers. That there is a `Seen` at all says that
/// there was a run.
#[derive(Debug, Entry)]
#[entry(rename_all = "PascalCase")]
struct Totals {
    seen: u64,
    selected: u64,
    redriven: u64,
    archived: u64,
    too_new: u64,
    filtered: u64,
    failed: u64,
    released: u64,
    succeeded: u64,
    running: u64,
    held_back: u64,
    left: Option<u64>,
    /// Of the oldest letter that stays, by its first send.
    oldest_left_seconds: Option<u64>,
    /// 1 if every letter that was due was looked at, else 0.
    complete: u64,
    /// 1 for a complete run that EventBridge has started, and nothing for any other.
    nightly_run: Option<u64>,
    canary_succeeded: Option<u64>,
    canary_failed: Option<u64>,
    duration: Duration,
}

#[derive(Debug, Entry)]
#[entry(rename_all = "PascalCase")]
struct Archived<'c> {
    error_class: &'c str,
    archived: u64,
}

/// Error classes that get a metric of their own. What fails elsewhere may have any name.
const MAX_CLASSES: usize = 20;

pub(crate) fn publish(metrics: &Metrics, now: Timestamp, report: &Report) {
    // A dry run moves nothing, and must not look like the nightly run to an alarm.
    if report.dry_run {
        return;
    }
    let time = SystemTime::from(now);
    let totals = Totals {
        seen: report.seen,
        selected: report.selected,
        redriven: report.redriven,
        archived: report.archived.values().sum(),
        too_new: report.too_new,
        filtered: report.filtered,
        failed: report.failed,
        released: report.released,
        succeeded: report.succeeded,
        running: report.running,
        held_back: report.held_back,
        left: report.left,
        oldest_left_seconds: report.oldest_left_seconds,
        complete: u64::from(report.complete),
        nightly_run: (report.nightly && report.complete).then_some(1),
        canary_succeeded: report.canary.as_ref().map(|canary| canary.succeeded),
        canary_failed: report
            .canary
            .as_ref()
            .map(|canary| canary.failed + canary.refused + canary.not_started),
        duration: Duration::from_millis(report.duration_ms),
    };
    metrics.publish(time, totals);
    for (error_class, archived) in report.archived.iter().take(MAX_CLASSES) {
        let archived = Archived { error_class, archived: *archived };
        metrics.publish_by(&["ErrorClass"], time, archived);
    }
}
