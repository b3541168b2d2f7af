//! The order of each group of a FIFO queue, as messages were put into it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use testing::Moved;

use crate::ledger::Ledger;

/// A message of the work queue.
#[derive(Debug, Clone)]
struct Place {
    id: String,
    group: String,
    writes: Vec<usize>,
    /// The attempt of its event.
    attempt: u32,
    sent: Timestamp,
}

/// The messages of an ordered work queue.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Those that are there, by sequence number.
    places: BTreeMap<u64, Place>,
    /// All that ever were there, by id.
    known: BTreeMap<String, Place>,
    /// When the consumer last sent a dead letter about a write.
    letters: BTreeMap<usize, Timestamp>,
}

impl Order {
    /// A message is put into the queue, unless it is there or was there: the deduplication id of
    /// one that is confirmed and dropped is that of an earlier one.
    pub(crate) fn enters(
        &mut self,
        number: u64,
        id: &str,
        group: &str,
        body: &str,
        (writes, sent): (&[usize], Timestamp),
    ) {
        if self.known.contains_key(id) {
            return;
        }
        let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let attempt = body["attempt"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0);
        let (id, group, writes) = (id.to_owned(), group.to_owned(), writes.to_vec());
        let place = Place { id, group, writes, attempt, sent };
        self.known.insert(place.id.clone(), place.clone());
        self.places.insert(number, place);
    }

    pub(crate) fn leaves(&mut self, id: &str) {
        self.places.retain(|_, place| place.id != id);
    }

    /// SQS itself has moved a message, away from the work queue or back to it.
    pub(crate) fn moves(&mut self, moved: &Moved, is_back: bool, sent: Timestamp) {
        self.leaves(&moved.old_id);
        if let (true, Some(place)) = (is_back, self.known.get(&moved.old_id)) {
            let place = Place { id: moved.id.clone(), sent, ..place.clone() };
            self.known.insert(place.id.clone(), place.clone());
            self.places.insert(moved.number, place);
        }
    }

    pub(crate) fn gives_up(&mut self, writes: &[usize], at: Timestamp) {
        self.letters.extend(writes.iter().map(|write| (*write, at)));
    }

    /// An execution of this write starts: a message of its group that was to come before and has
    /// neither been started nor been given up.
    pub(crate) fn overtaken_by(&self, write: usize, ledger: &Ledger) -> Option<usize> {
        let is_its = |(_, place): &(&u64, &Place)| place.writes.contains(&write);
        let (number, place) = self.places.iter().find(is_its)?;
        let ahead = self.places.range(..number).filter(|(_, other)| other.group == place.group);
        let waiting = ahead.flat_map(|(_, other)| other.writes.iter().map(move |w| (*w, other)));
        let mut waiting = waiting.filter(|(other, place)| {
            let given_up = self.letters.get(other).is_some_and(|at| *at >= place.sent);
            !given_up && ledger.last_attempt(*other).is_none_or(|last| last < place.attempt)
        });
        waiting.next().map(|(other, _)| other).filter(|other| *other != write)
    }
}
