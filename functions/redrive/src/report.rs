use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    Canary,
    fate::{Fate, Settled},
    request::Selection,
};

/// What a report lists at most. Error classes may have any name.
const MAX_CLASSES: usize = 50;
const MAX_KEYS: usize = 5;

/// What a run did: its answer, its last log line and its metrics. Every message seen is counted in
/// exactly one of `redriven`, `archived`, `tooNew`, `filtered`, `failed`, `succeeded` and `running`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the fields of an answer, each a fact of its own"
)]
pub struct Report {
    pub dry_run: bool,
    /// Whether EventBridge has started the run, and no person.
    pub nightly: bool,
    /// In words.
    pub summary: String,
    /// Messages enqueued before this were selected.
    pub before: String,
    pub seen: u64,
    pub selected: u64,
    /// Confirmed by the work queue and deleted; in a dry run, what would have been.
    pub redriven: u64,
    /// Confirmed by the archive and deleted, by class.
    pub archived: BTreeMap<String, u64>,
    pub too_new: u64,
    /// Left alone because of another `errorClass` than the requested one.
    pub filtered: u64,
    /// Not confirmed elsewhere, or not deleted: they stay, for the next run.
    pub failed: u64,
    /// Executions of these had failed, and have succeeded since: Step Functions says so, and the
    /// letters are deleted.
    pub succeeded: u64,
    /// Executions of these had failed, and run again. They stay, for the next run.
    pub running: u64,
    /// Not tried, because the canaries of their class failed. They stay, and count as not seen.
    pub held_back: u64,
    /// Made visible again at once.
    pub released: u64,
    /// About how many messages are left in the dead-letter queue.
    pub left: Option<u64>,
    /// The age of the oldest letter that was met and stays, by its first send; 0 if none stays.
    pub oldest_left_seconds: Option<u64>,
    /// Whether every letter that was due was looked at.
    pub complete: bool,
    /// The messages that were redriven and watched first, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// How many of the selected letters have which error class. Only in a dry run and where letters
    /// are selected by class; then it tells of those of other classes too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, u64>,
    /// When the oldest letter of each of these classes was first sent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub oldest: BTreeMap<String, Timestamp>,
    /// The keys of the first objects that letters are about. Only in a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first_keys: Vec<String>,
    pub duration_ms: u64,
    pub stopped: Stopped,
    /// Whether all is where it was.
    pub moved_nothing: bool,
}

impl Report {
    /// Counts one letter.
    pub(crate) fn add(&mut self, fate: &Fate) {
        let (seen, selected) = match fate {
            Fate::Redriven | Fate::WouldRedrive => {
                self.redriven += 1;
                (1, 1)
            }
            Fate::Archived(reason) | Fate::WouldArchive(reason) => {
                *self.archived.entry(reason.class.clone()).or_default() += 1;
                (1, 1)
            }
            Fate::Failed(_) => {
                self.failed += 1;
                (1, 1)
            }
            Fate::TooNew => {
                self.too_new += 1;
                (1, 0)
            }
            Fate::Filtered => {
                self.filtered += 1;
                (1, 0)
            }
            Fate::Succeeded => {
                self.succeeded += 1;
                (1, 1)
            }
            Fate::Running => {
                self.running += 1;
                (1, 1)
            }
            Fate::HeldBack => {
                self.held_back += 1;
                (0, 0)
            }
            Fate::Untried => (0, 0),
        };
        self.seen += seen;
        self.selected += selected;
    }

    /// Notes what a person may want to know of a letter before it is moved.
    pub(crate) fn describe(&mut self, settled: &Settled) {
        let class = match settled.letter.class() {
            "" => "none",
            class if self.classes.contains_key(class) || self.classes.len() < MAX_CLASSES => class,
            _ => "other",
        };
        *self.classes.entry(class.to_owned()).or_default() += 1;
        self.note_oldest(class, settled.letter.sent);
        let key = settled.events.first().map(|event| event.data.key.clone());
        if let (true, Some(key)) = (self.first_keys.len() < MAX_KEYS, key) {
            self.first_keys.push(key);
        }
    }

    fn note_oldest(&mut self, class: &str, sent: Timestamp) {
        let oldest = self.oldest.entry(class.to_owned()).or_insert(sent);
        *oldest = sent.min(*oldest);
    }

    /// What has happened, or in a dry run would have.
    pub(crate) fn in_words(&self, selection: &Selection) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        let archived: u64 = self.archived.values().sum();
        let mut parts = vec![format!("{} {would}redriven", self.redriven)];
        for (count, what) in [
            (archived, format!("{would}archived")),
            (self.succeeded, "succeeded since".to_owned()),
            (self.running, "running again".to_owned()),
            (self.failed, "failed".to_owned()),
            (self.held_back, "held back, since canaries of their class came to nothing".to_owned()),
            (self.too_new, "too new".to_owned()),
            (self.filtered, "not asked for".to_owned()),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let mut words = parts.join(", ");
        if let (Some(class), 0) = (&selection.error_class, self.selected) {
            let seen = self.classes.iter().map(|(class, count)| format!("{class} ({count})"));
            let seen = seen.collect::<Vec<_>>().join(", ");
            let seen = if seen.is_empty() { "none" } else { &seen };
            let hint = format!("; no letter has the error class `{class}`, seen were: {seen}");
            words.push_str(&hint);
        }
        words
    }

    /// Adds what another receiver has counted. What is known only at the end of a run is in neither.
    pub(crate) fn merge(&mut self, other: Self) {
        self.seen += other.seen;
        self.selected += other.selected;
        self.redriven += other.redriven;
        self.too_new += other.too_new;
        self.filtered += other.filtered;
        self.failed += other.failed;
        self.succeeded += other.succeeded;
        self.running += other.running;
        self.held_back += other.held_back;
        for (class, count) in other.archived {
            *self.archived.entry(class).or_default() += count;
        }
        for (class, count) in other.classes {
            *self.classes.entry(class).or_default() += count;
        }
        for (class, sent) in other.oldest {
            self.note_oldest(&class, sent);
        }
        self.first_keys.extend(other.first_keys);
        self.first_keys.truncate(MAX_KEYS);
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stopped {
    /// There was nothing more to receive.
    #[default]
    Empty,
    /// The Lambda deadline was near; the next run goes on.
    Deadline,
    /// `maxMessages` were selected.
    MaxMessages,
    /// The canaries failed or were refused, so the cause persists; the rest waits for the next run.
    Canary,
    /// SQS hides as many messages of the queue as it may, so it shows no further ones.
    TooManyHidden,
    /// The dead-letter queue could not be read any more.
    ReceiveFailed,
}
