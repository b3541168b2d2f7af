//! What a run answers: every write of the window, and what became of it.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use metrique_writer::Entry;
use platform::Metrics;
use serde::{Deserialize, Serialize};

use super::{Scope, entries::End, uploads::Written};

/// Missing writes that the answer names. Each of them has a line in the log, up to a bound.
const MAX_NAMED: usize = 20;

/// The answer. Every version is counted in exactly one of `succeeded`, `running`, `failed`,
/// `deadLetters`, `archived`, `aborted`, `waiting`, `missing` and `unknown`. Whoever reads it may be
/// older or newer than what wrote it, so any field may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    pub mode: String,
    /// In words.
    pub summary: String,
    pub since: String,
    pub until: String,
    /// Versions of objects that were written in the window.
    pub versions: u64,
    /// An execution has succeeded, and be it because a newer write was there already.
    pub succeeded: u64,
    pub running: u64,
    /// The execution has failed, and a dead letter brings the event back.
    pub failed: u64,
    /// Not started yet: a dead letter brings the event back.
    pub dead_letters: u64,
    /// Given up, with a document that says why.
    pub archived: u64,
    /// A person ended the execution.
    pub aborted: u64,
    /// Nothing is known of these, but a queue holds at least as many messages, and they are young
    /// enough to be among them. The next ledger looks again.
    pub waiting: u64,
    /// Nothing is known of these, and nothing brings them back.
    pub missing: u64,
    /// As many of the missing ones as the work queue has taken.
    pub fixed: u64,
    /// Nobody can tell what became of these; `summary` says why.
    pub unknown: u64,
    /// Of these, those that were written without versioning.
    pub without_version: u64,
    /// Of these, those that are older than the memory of Step Functions.
    pub forgotten: u64,
    /// The first of the missing ones.
    pub first_missing: Vec<Missing>,
    /// Whether every version of the window has its end: none is waiting, missing or unknown.
    pub closed: bool,
    /// Whether the whole window was looked at.
    pub complete: bool,
    /// If not: what the next call wants as its `next` to go on.
    pub next: Option<String>,
    pub duration_ms: u64,
}

/// A write of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    pub key: String,
    pub version_id: Option<String>,
}

#[derive(Debug, Entry)]
#[entry(rename_all = "PascalCase")]
struct Totals {
    versions: u64,
    missing: u64,
    fixed: u64,
    waiting: u64,
    unknown: u64,
    /// For a complete run of the schedule, and nothing for any other.
    nightly_ledger: u64,
    ledger_duration: Duration,
}

impl Ledger {
    pub(super) fn of(scope: &Scope) -> Self {
        Self {
            mode: "reconcile".to_owned(),
            since: scope.since.to_string(),
            until: scope.until.to_string(),
            ..Self::default()
        }
    }

    /// Counts what has an end.
    pub(super) fn add(&mut self, end: End) {
        match end {
            End::Succeeded => self.succeeded += 1,
            End::Running => self.running += 1,
            End::Aborted => self.aborted += 1,
            End::Archived => self.archived += 1,
            End::Failed => self.failed += 1,
            End::DeadLetter => self.dead_letters += 1,
            // It depends on how many there are.
            End::None { .. } => {}
        }
    }

    pub(super) fn name(&mut self, written: &Written) {
        if self.first_missing.len() < MAX_NAMED {
            let Written { key, version_id, .. } = written.clone();
            self.first_missing.push(Missing { key, version_id });
        }
    }

    /// For a run that is over, or has to stop.
    pub(super) fn finish(&mut self, complete: bool, next: Option<String>) {
        self.complete = complete;
        self.closed = complete && self.waiting + self.missing + self.unknown == 0;
        self.next = next;
        self.summary = self.in_words();
    }

    fn in_words(&self) -> String {
        let counts = [
            (self.versions, "written"),
            (self.succeeded, "succeeded"),
            (self.running, "running"),
            (self.failed, "failed and on their way back"),
            (self.dead_letters, "dead letters, not started yet"),
            (self.archived, "archived"),
            (self.aborted, "ended by a person"),
            (self.waiting, "not started, and perhaps on a queue"),
            (self.unknown, "unknown"),
        ];
        let counts = counts.into_iter().filter(|(count, what)| *count > 0 || *what == "written");
        let mut words: Vec<String> =
            counts.map(|(count, what)| format!("{count} {what}")).collect();
        words.push(format!("{} missing", self.missing));
        if self.fixed > 0 {
            words.push(format!("{} of them put on the work queue", self.fixed));
        }
        let mut sentences = vec![words.join(", ")];
        if self.without_version > 0 {
            sentences.push(format!(
                "{} have no version id, and nobody can tell what became of them: the id of their \
                 event is made of a sequencer, which no listing shows; turn versioning on",
                self.without_version
            ));
        }
        if self.forgotten > 0 {
            sentences.push(format!(
                "{} are older than the 90 days for which Step Functions remembers executions, so \
                 nobody can tell whether they were started; `startForgotten` takes them for missing",
                self.forgotten
            ));
        }
        if !self.complete {
            sentences.push("the run has not come to its end, `next` goes on".to_owned());
        }
        sentences.join("; ")
    }

    /// What the alarms look at.
    pub(super) fn publish(&self, metrics: &Metrics, now: Timestamp) {
        let totals = Totals {
            versions: self.versions,
            missing: self.missing,
            fixed: self.fixed,
            waiting: self.waiting,
            unknown: self.unknown,
            nightly_ledger: 1,
            ledger_duration: Duration::from_millis(self.duration_ms),
        };
        metrics.publish(SystemTime::from(now), totals);
    }
}
