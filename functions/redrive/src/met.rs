//! Which letters a run has met. SQS may show one a second time.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How far a letter has come that was met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A receiver is at work on it.
    InHand,
    /// It has its fate and stays in the dead-letter queue.
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
    letters: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    standings: HashMap<[u64; 2], Standing>,
    /// Receipts of letters that were shown again while a receiver is at work on them. SQS deletes a
    /// message reliably by its newest receipt only. This happens to few.
    newer_receipts: HashMap<[u64; 2], String>,
}

impl Met {
    /// Notes that a letter is in hand. Returns its standing if it was met before.
    pub(crate) fn meet(&self, message_id: &str, receipt: &str) -> Option<Standing> {
        let digest = self.digest(message_id);
        let mut letters = self.letters();
        let before = letters.standings.get(&digest).copied();
        match before {
            None => drop(letters.standings.insert(digest, Standing::InHand)),
            Some(Standing::InHand) => {
                letters.newer_receipts.insert(digest, receipt.to_owned());
            }
            Some(Standing::Stays | Standing::Confirmed) => {}
        }
        before
    }

    pub(crate) fn note(&self, message_id: &str, standing: Standing) {
        self.letters().standings.insert(self.digest(message_id), standing);
    }

    /// A letter that nothing was decided about, and that is to be met again.
    pub(crate) fn forget(&self, message_id: &str) {
        self.letters().standings.remove(&self.digest(message_id));
    }

    /// The receipt with which a letter was shown again, if it was.
    pub(crate) fn newer_receipt(&self, message_id: &str) -> Option<String> {
        self.letters().newer_receipts.remove(&self.digest(message_id))
    }

    fn digest(&self, message_id: &str) -> [u64; 2] {
        [self.keys[0].hash_one(message_id), self.keys[1].hash_one(message_id)]
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
