//! Which letters a run has met. SQS may show one a second time.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How far a letter has come that was met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It stays in the dead-letter queue, or a receiver has it in hand.
    Stays,
    /// The work queue or the archive has confirmed what it holds, so it may be deleted.
    Confirmed,
}

/// The standing of each letter that a run has met, shared by its receivers.
///
/// A letter is known by a digest of its id, which costs some 40 bytes for each letter, whatever the
/// queue holds. Two ids with the same 128 bits do not happen.
#[derive(Debug, Default)]
pub(crate) struct Met {
    keys: [RandomState; 2],
    standings: Mutex<HashMap<[u64; 2], Standing>>,
}

impl Met {
    /// Notes that a letter is met. Returns its standing if it was met before.
    pub(crate) fn meet(&self, message_id: &str) -> Option<Standing> {
        let digest = self.digest(message_id);
        let mut standings = self.standings();
        let before = standings.get(&digest).copied();
        standings.entry(digest).or_insert(Standing::Stays);
        before
    }

    /// Notes that all of a letter's content is confirmed elsewhere.
    pub(crate) fn confirm(&self, message_id: &str) {
        self.standings().insert(self.digest(message_id), Standing::Confirmed);
    }

    fn digest(&self, message_id: &str) -> [u64; 2] {
        [self.keys[0].hash_one(message_id), self.keys[1].hash_one(message_id)]
    }

    fn standings(&self) -> MutexGuard<'_, HashMap<[u64; 2], Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
