//! Which messages a run has met: SQS may show one again.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Confirmed elsewhere.
    Settled,
    /// Left in the dead-letter queue.
    Left,
}

/// The fate of each message met, by a digest of its id: some 40 bytes for each, whatever the queue
/// holds. Two ids with the same 128 bits do not happen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    keys: [RandomState; 2],
    fates: HashMap<[u64; 2], Fate>,
}

impl Seen {
    pub(crate) fn fate(&self, message_id: &str) -> Option<Fate> {
        self.fates.get(&self.digest(message_id)).copied()
    }

    pub(crate) fn note(&mut self, message_id: &str, fate: Fate) {
        self.fates.insert(self.digest(message_id), fate);
    }

    /// As if never met.
    pub(crate) fn forget(&mut self, message_id: &str) {
        self.fates.remove(&self.digest(message_id));
    }

    fn digest(&self, message_id: &str) -> [u64; 2] {
        [self.keys[0].hash_one(message_id), self.keys[1].hash_one(message_id)]
    }
}
