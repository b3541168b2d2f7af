//! How a letter ends in a run, and everything that follows from it: the count, the log line, and
//! whether the letter is made visible again.

use runtime::SendError;
use shared::Event;
use tracing::{error, info, warn};

use crate::{DeadLetter, Report, archive::ArchiveError, plan::Reason};

/// How one letter ends in a run. It is decided once, when nothing more is done about the letter.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The work queue has confirmed all that the letter holds, and the letter is deleted.
    Redriven,
    /// The archive has confirmed the letter, and the letter is deleted.
    Archived(Reason),
    /// A dry run found that the letter would be redriven.
    WouldRedrive,
    /// A dry run found that the letter would be archived.
    WouldArchive(Reason),
    /// The letter was enqueued after the time that the run was asked for.
    TooNew,
    /// The letter is none of those that the run was asked for.
    Filtered,
    /// The letter stays, because something did not work.
    Failed(Failure),
    /// The run stopped before anything was done about the letter. It counts as not seen.
    Untried,
}

/// What did not work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Step Functions did not give the input of the execution that the letter is about.
    InputUnread(String),
    /// The work queue did not confirm an event.
    NotSent(SendError),
    /// The archive did not confirm the letter.
    NotArchived(ArchiveError),
    /// There was no time left.
    OutOfTime,
    /// The letter is redriven, but its deletion is not confirmed.
    RedrivenNotDeleted,
    /// The letter is archived, but its deletion is not confirmed.
    ArchivedNotDeleted,
}

/// A letter that a run is done with.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) letter: DeadLetter,
    /// What could be decoded of it, as far as the run has come to that.
    pub(crate) events: Vec<Event>,
    pub(crate) fate: Fate,
}

/// What a run has done: the sum of the fates of its letters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) report: Report,
    /// Receipt handles of the letters that stay, some 500 bytes each. SQS hides 120,000 messages of
    /// a queue at a time and no more, so there are never more of these.
    pub(crate) to_release: Vec<Box<str>>,
}

impl Tally {
    /// Counts, logs and acknowledges a letter, all by its fate. A deletion comes earlier, since the
    /// fate depends on its confirmation.
    pub(crate) fn record(&mut self, settled: Settled) {
        settled.log();
        self.report.add(&settled.fate);
        if settled.fate.stays() {
            self.to_release.push(settled.letter.receipt_handle.into());
        }
    }

    /// Notes the receipt of a letter that was shown once more and has its fate already.
    pub(crate) fn release_too(&mut self, letter: DeadLetter) {
        self.to_release.push(letter.receipt_handle.into());
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.report.merge(other.report);
        self.to_release.extend(other.to_release);
    }
}

impl Fate {
    /// Whether the letter stays in the dead-letter queue, for the next run.
    pub(crate) fn stays(&self) -> bool {
        match self {
            Self::Redriven | Self::Archived(_) => false,
            Self::WouldRedrive
            | Self::WouldArchive(_)
            | Self::TooNew
            | Self::Filtered
            | Self::Failed(_)
            | Self::Untried => true,
        }
    }

    /// Whether the work queue has taken what the letter holds.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self, Self::Redriven | Self::Failed(Failure::RedrivenNotDeleted))
    }

    /// Why the work queue did not take what the letter holds.
    pub(crate) fn refusal(&self) -> Option<&SendError> {
        match self {
            Self::Failed(Failure::NotSent(error)) => Some(error),
            _ => None,
        }
    }
}

impl Settled {
    fn log(&self) {
        let event = self.events.first();
        let id = event.map(|event| event.id.as_str());
        let key = event.map(|event| event.data.key.as_str());
        let message = self.letter.message_id.as_str();
        let receives = self.letter.receive_count;
        match &self.fate {
            Fate::Redriven => info!(
                event.id = id,
                object.key = key,
                message.id = message,
                message.receive_count = receives,
                "redriven"
            ),
            Fate::Archived(reason) => warn!(
                event.id = id,
                object.key = key,
                message.id = message,
                message.receive_count = receives,
                error.class = reason.class,
                error = reason.message,
                "archived"
            ),
            Fate::Failed(failure) => error!(
                event.id = id,
                object.key = key,
                message.id = message,
                message.receive_count = receives,
                error = failure.to_string(),
                "not redriven"
            ),
            // There may be thousands of these, and nothing has happened to them.
            Fate::WouldRedrive
            | Fate::WouldArchive(_)
            | Fate::TooNew
            | Fate::Filtered
            | Fate::Untried => {}
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InputUnread(error) => write!(f, "the execution's input was not read: {error}"),
            Self::NotSent(error) => error.fmt(f),
            Self::NotArchived(error) => error.fmt(f),
            Self::OutOfTime => f.write_str("there was no time left"),
            Self::RedrivenNotDeleted => f.write_str("it is redriven, but was not deleted"),
            Self::ArchivedNotDeleted => f.write_str("it is archived, but was not deleted"),
        }
    }
}
