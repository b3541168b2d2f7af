//! Where a run has come to, so that another one can go on.

use messages::Event;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Ledger, Scope, entries::Entries, ranges::Ranges, uploads::Written};
use crate::{Error, archive::ArchiveError};

/// Missing writes that have a line in the log each.
const MAX_LINES: u64 = 1_000;

/// A run between two pages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    pub(super) scope: Scope,
    /// What is counted of the parts that are done.
    pub(super) ledger: Ledger,
    pub(super) phase: Phase,
    /// What was left of the bucket when the part began that is under way, and what is left behind it.
    pub(super) begin: Ranges,
    pub(super) rest: Ranges,
    /// How many missing writes have their line in the log.
    named: u64,
    #[serde(skip)]
    pub(super) entries: Entries,
}

/// What a run is about to do next for a part of the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Phase {
    /// To list what was written there.
    Writes(Ranges),
    /// To list executions, from the page of this token on.
    Executions(Option<String>),
    /// To look at documents and dead letters, and to count.
    Count,
    /// To list once more, and to name what is missing and put it on the work queue.
    Name(Ranges),
}

impl Progress {
    pub(super) fn new(scope: Scope) -> Self {
        let ledger = Ledger::of(&scope);
        let begin = Ranges::whole();
        let phase = Phase::Writes(begin.clone());
        let (rest, entries) = (Ranges::default(), Entries::default());
        Self { scope, ledger, phase, begin, rest, named: 0, entries }
    }

    /// Names a missing write in the log and in the answer, as far as there is room.
    pub(super) fn name(&mut self, written: &Written, event: &Event) {
        self.named += 1;
        if self.named <= MAX_LINES {
            warn!(
                event.id = event.id.as_str(),
                event.attempt = event.attempt,
                s3.key = written.key,
                s3.version_id = written.version_id,
                "a write is missing: it has no execution, no dead letter and no document"
            );
        }
        self.ledger.name(written);
    }

    /// One line of JSON, and the entries behind it.
    pub(super) fn save(&self) -> Result<Vec<u8>, Error> {
        let mut bytes =
            serde_json::to_vec(self).map_err(ArchiveError::Json).map_err(Error::Archive)?;
        bytes.push(b'\n');
        self.entries.save(&mut bytes);
        Ok(bytes)
    }

    pub(super) fn load(bytes: &[u8]) -> Result<Self, Error> {
        let unreadable =
            || Error::Request("`next`: this is not where a run has stopped".to_owned());
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(unreadable)?;
        let mut progress: Self = serde_json::from_slice(&bytes[..end]).map_err(|_| unreadable())?;
        progress.entries = Entries::load(&bytes[end + 1..]).ok_or_else(unreadable)?;
        Ok(progress)
    }
}
