//! What became of each write of the window, by the id of its event.

use jiff::{SignedDuration, Timestamp};
use messages::EventId;

/// How long a write may wait for its start, and an event whose execution has failed for its next
/// attempt, before it can no longer be one of the messages that a queue holds.
///
/// An event that failed waits for the night after the next midnight.
const MAY_WAIT: SignedDuration = SignedDuration::from_hours(24);
const MAY_WAIT_AFTER_FAILURE: SignedDuration = SignedDuration::from_hours(48);

/// How long the dead letter about a failed execution may be on its way.
const LETTER_DELAY: SignedDuration = SignedDuration::from_hours(1);

/// Bytes of an entry in memory, and in a saved run.
pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();
const SAVED_BYTES: usize = 25;

/// A write, and what is known of it. Attempts are counted from one here, and zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    id: [u8; 20],
    failed: u16,
    archived: u16,
    marks: u8,
}

/// What an entry is marked with.
const SUCCEEDED: u8 = 1;
const RUNNING: u8 = 2;
const ABORTED: u8 = 4;
const IN_LETTER: u8 = 8;
/// The failure, or without one the write, is so young that a queue may hold a message about it.
const MAY_WAIT_STILL: u8 = 16;
/// The failure is so young that its dead letter may be on its way.
const LETTER_MAY_COME: u8 = 32;
/// Decided at the end.
const MISSING: u8 = 64;

/// Something that is known of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    Succeeded,
    Running,
    /// A person ended the execution.
    Aborted,
    /// Attempt and time of the end.
    Failed(u32, Timestamp),
    /// The attempt that the document is about.
    Archived(u32),
    InLetter,
}

/// Where a write has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Running,
    Aborted,
    Archived,
    /// Its execution failed, and a dead letter brings it back.
    Failed,
    /// It was not started, and a dead letter brings it back.
    DeadLetter,
    /// Nothing is known of it. Whether a queue may hold a message about it, by its age.
    None {
        may_wait: bool,
    },
}

/// The writes of a window, or of a part of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, id: &EventId, written: Timestamp, now: Timestamp) {
        let marks = if now.duration_since(written) < MAY_WAIT { MAY_WAIT_STILL } else { 0 };
        self.0.push(Entry { id: id.to_bytes(), failed: 0, archived: 0, marks });
    }

    /// To be called before anything is noted.
    pub(super) fn sort(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by_key(|entry| entry.id);
    }

    fn find(&mut self, id: &EventId) -> Option<&mut Entry> {
        let index = self.0.binary_search_by_key(&id.to_bytes(), |entry| entry.id).ok()?;
        self.0.get_mut(index)
    }

    /// Notes a fact, if it is about one of these writes.
    pub(super) fn note(&mut self, id: &EventId, fact: Fact, now: Timestamp) {
        let Some(entry) = self.find(id) else { return };
        let one_more = |attempt: u32| u16::try_from(attempt.saturating_add(1)).unwrap_or(u16::MAX);
        match fact {
            Fact::Succeeded => entry.marks |= SUCCEEDED,
            Fact::Running => entry.marks |= RUNNING,
            Fact::Aborted => entry.marks |= ABORTED,
            Fact::InLetter => entry.marks |= IN_LETTER,
            Fact::Archived(attempt) => entry.archived = entry.archived.max(one_more(attempt)),
            Fact::Failed(attempt, ended) if one_more(attempt) > entry.failed => {
                entry.failed = one_more(attempt);
                entry.marks &= !(MAY_WAIT_STILL | LETTER_MAY_COME);
                let age = now.duration_since(ended);
                for (limit, mark) in
                    [(MAY_WAIT_AFTER_FAILURE, MAY_WAIT_STILL), (LETTER_DELAY, LETTER_MAY_COME)]
                {
                    entry.marks |= if age < limit { mark } else { 0 };
                }
            }
            Fact::Failed(..) => {}
        }
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = End> {
        self.0.iter().map(Entry::end)
    }

    /// Says that those without an end are missing: all, or only those that cannot wait any more.
    pub(super) fn miss(&mut self, those_that_may_wait_too: bool) {
        for entry in &mut self.0 {
            let End::None { may_wait } = entry.end() else { continue };
            if those_that_may_wait_too || !may_wait {
                entry.marks |= MISSING;
            }
        }
    }

    /// If this write is missing: the attempt that is to be made.
    pub(super) fn missing(&mut self, id: &EventId) -> Option<u32> {
        let entry = self.find(id)?;
        (entry.marks & MISSING != 0).then_some(u32::from(entry.failed))
    }

    /// Says that a write is missing no more.
    pub(super) fn found(&mut self, id: &EventId) {
        if let Some(entry) = self.find(id) {
            entry.marks &= !MISSING;
        }
    }

    pub(super) fn save(&self, into: &mut Vec<u8>) {
        into.reserve(self.0.len() * SAVED_BYTES);
        for Entry { id, failed, archived, marks } in &self.0 {
            into.extend_from_slice(id);
            into.extend_from_slice(&failed.to_be_bytes());
            into.extend_from_slice(&archived.to_be_bytes());
            into.push(*marks);
        }
    }

    /// None if these are not the bytes of entries.
    pub(super) fn load(bytes: &[u8]) -> Option<Self> {
        let saved = bytes.chunks(SAVED_BYTES);
        saved.map(Entry::load).collect::<Option<_>>().map(Self)
    }
}

impl Entry {
    fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// The latest attempt counts: a document is the end of the attempt before it, and of none that
    /// came later. What has succeeded once has succeeded.
    fn end(&self) -> End {
        if self.has(SUCCEEDED) {
            End::Succeeded
        } else if self.has(RUNNING) {
            End::Running
        } else if self.archived > self.failed {
            End::Archived
        } else if self.has(ABORTED) {
            End::Aborted
        } else if self.failed > 0 && (self.has(IN_LETTER) || self.has(LETTER_MAY_COME)) {
            End::Failed
        } else if self.has(IN_LETTER) {
            End::DeadLetter
        } else {
            End::None { may_wait: self.has(MAY_WAIT_STILL) }
        }
    }

    fn load(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<20>()?;
        let &[f0, f1, a0, a1, marks] = rest else { return None };
        let [failed, archived] = [[f0, f1], [a0, a1]].map(u16::from_be_bytes);
        Some(Self { id: *id, failed, archived, marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const NOW: &str = "2026-11-20T21:00:00Z";

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    /// The end of a write of two days ago of which this is known.
    fn end(facts: &[Fact]) -> End {
        let id = EventId::of_write("b", "k", "v");
        let mut entries = Entries::default();
        entries.push(&id, at("2026-11-18T21:00:00Z"), at(NOW));
        entries.sort();
        for fact in facts {
            entries.note(&id, *fact, at(NOW));
            entries.note(&EventId::of_write("b", "other", "v"), Fact::Succeeded, at(NOW));
        }
        entries.ends().next().expect("one")
    }

    #[test]
    fn the_latest_attempt_decides() {
        let long_ago = at("2026-11-18T20:00:00Z");
        let failed = |attempt| Fact::Failed(attempt, long_ago);
        for (facts, expected) in [
            (vec![], End::None { may_wait: false }),
            (vec![Fact::Succeeded, failed(0)], End::Succeeded),
            (vec![failed(0), Fact::Running], End::Running),
            (vec![failed(0), Fact::InLetter], End::Failed),
            (vec![failed(0)], End::None { may_wait: false }),
            (vec![Fact::InLetter], End::DeadLetter),
            // A poison object has no execution, and its document is about attempt 0.
            (vec![Fact::Archived(0)], End::Archived),
            // The document about a failed attempt is named after the one that is not made.
            (vec![failed(4), Fact::Archived(5)], End::Archived),
            // Restored, and failed once more.
            (vec![failed(5), Fact::Archived(5), Fact::InLetter], End::Failed),
            (vec![failed(5), Fact::Archived(5)], End::None { may_wait: false }),
            (vec![Fact::Aborted], End::Aborted),
            (vec![Fact::Aborted, Fact::Succeeded], End::Succeeded),
        ] {
            assert_eq!(end(&facts), expected, "{facts:?}");
        }
    }

    /// operations.md and architecture.md say how much memory a ledger takes.
    #[test]
    fn a_million_writes_take_26_megabytes() {
        assert_eq!(ENTRY_BYTES, 26);
        // In a quarter of 256 MB.
        assert_eq!(Config::most_entries_in(256), 2_581_110);
    }

    #[test]
    fn what_is_young_may_wait() {
        let young = Fact::Failed(0, at("2026-11-18T22:00:00Z"));
        assert_eq!(end(&[young]), End::None { may_wait: true });
        assert_eq!(
            end(&[young, Fact::Failed(1, at("2026-11-18T20:00:00Z"))]),
            End::None { may_wait: false }
        );
        // EventBridge delivers within seconds, and tries for hours.
        assert_eq!(end(&[Fact::Failed(0, at("2026-11-20T20:30:00Z"))]), End::Failed);
        let mut entries = Entries::default();
        entries.push(&EventId::of_write("b", "k", "v"), at("2026-11-19T21:30:00Z"), at(NOW));
        assert_eq!(entries.ends().next(), Some(End::None { may_wait: true }));
    }

    #[test]
    fn a_missing_write_is_told_with_its_next_attempt() {
        let ids = ["a", "b", "c"].map(|key| EventId::of_write("bucket", key, "v"));
        let mut entries = Entries::default();
        for id in &ids {
            entries.push(id, at("2026-11-18T21:00:00Z"), at(NOW));
        }
        entries.sort();
        entries.note(&ids[0], Fact::Succeeded, at(NOW));
        entries.note(&ids[1], Fact::Failed(1, at("2026-11-18T21:30:00Z")), at(NOW));
        entries.note(&ids[2], Fact::Running, at(NOW));
        assert_eq!(ids.each_ref().map(|id| entries.missing(id)), [None, None, None]);
        entries.miss(false);
        assert_eq!(ids.each_ref().map(|id| entries.missing(id)), [None, None, None]);
        entries.miss(true);
        assert_eq!(ids.each_ref().map(|id| entries.missing(id)), [None, Some(2), None]);

        let mut saved = Vec::new();
        entries.save(&mut saved);
        assert_eq!(Entries::load(&saved).as_ref(), Some(&entries));
        assert_eq!(Entries::load(&saved[1..]), None);
    }
}
