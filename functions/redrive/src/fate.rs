//! How a letter ends in a run, and everything that follows from it: the count, the log line, and
//! whether the letter is made visible again.

use jiff::Timestamp;
use messages::Event;
use platform::SendError;
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
    /// The execution that the letter is about has succeeded since: Step Functions has said so, and
    /// the letter is deleted.
    Succeeded,
    /// The execution that the letter is about runs again.
    Running,
    /// The canaries of its class came to nothing, so the letter would too. It counts as not seen.
    HeldBack,
    /// The run stopped before anything was done about the letter. It counts as not seen.
    Untried,
}

/// What did not work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Step Functions did not give the input of the execution that the letter is about.
    InputUnread(String),
    /// Step Functions did not say how the execution is doing that the letter is about.
    StateUnknown(String),
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
    /// The execution has succeeded, but the deletion of the letter is not confirmed.
    SucceededNotDeleted,
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
    /// The same of letters that nothing is decided about, and that this run wants to meet again.
    pub(crate) to_meet_again: Vec<Box<str>>,
    /// When the oldest letter was sent that stays.
    pub(crate) oldest_left: Option<Timestamp>,
}

impl Tally {
    /// Counts, logs and acknowledges a letter, all by its fate. A deletion comes earlier, since the
    /// fate depends on its confirmation.
    pub(crate) fn record(&mut self, settled: Settled) {
        settled.log();
        self.report.add(&settled.fate);
        if settled.fate.stays() {
            self.note_age(settled.letter.sent);
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
        self.to_meet_again.extend(other.to_meet_again);
        if let Some(sent) = other.oldest_left {
            self.note_age(sent);
        }
    }

    fn note_age(&mut self, sent: Timestamp) {
        self.oldest_left = Some(self.oldest_left.map_or(sent, |oldest| oldest.min(sent)));
    }
}

impl Fate {
    /// Whether the letter stays in the dead-letter queue, for the next run.
    pub(crate) fn stays(&self) -> bool {
        match self {
            Self::Redriven | Self::Archived(_) | Self::Succeeded => false,
            Self::WouldRedrive
            | Self::WouldArchive(_)
            | Self::TooNew
            | Self::Filtered
            | Self::Running
            | Self::HeldBack
            | Self::Failed(_)
            | Self::Untried => true,
        }
    }

    /// Whether something else has confirmed all that the letter holds.
    pub(crate) fn is_confirmed(&self) -> bool {
        match self {
            Self::Redriven | Self::Archived(_) | Self::Succeeded => true,
            Self::Failed(failure) => matches!(
                failure,
                Failure::RedrivenNotDeleted
                    | Failure::ArchivedNotDeleted
                    | Failure::SucceededNotDeleted
            ),
            _ => false,
        }
    }

    /// Whether something would be lost if SQS deleted the letter.
    pub(crate) fn loses_by_expiry(&self) -> bool {
        !matches!(self, Self::WouldRedrive | Self::WouldArchive(_)) && !self.is_confirmed()
    }

    /// Why a letter stays, in words.
    pub(crate) fn why_it_stays(&self) -> String {
        let why = match self {
            Self::Failed(failure) => return format!("tonight, {failure}"),
            Self::TooNew => "it was enqueued after the time that the run was asked for",
            Self::Filtered => "it is none of those that the run was asked for",
            Self::Running => "its execution runs again",
            Self::HeldBack => "others of its class were tried, and failed",
            Self::Untried => "the run stopped before it was tried",
            Self::Redriven
            | Self::Archived(_)
            | Self::Succeeded
            | Self::WouldRedrive
            | Self::WouldArchive(_) => "it does not stay",
        };
        why.to_owned()
    }

    /// Whether the work queue has taken what the letter holds.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self, Self::Redriven | Self::Failed(Failure::RedrivenNotDeleted))
    }

    /// Why the work queue did not take what the letter holds.
    pub(crate) fn refusal(&self) -> Option<&SendError> {
        match self {
            // That one is about the letter ahead of it.
            Self::Failed(Failure::NotSent(SendError::Behind)) => None,
            Self::Failed(Failure::NotSent(error)) => Some(error),
            _ => None,
        }
    }
}

impl Settled {
    /// A letter that was not looked into.
    pub(crate) fn undecoded(letter: DeadLetter, fate: Fate) -> Self {
        Self { letter, events: Vec::new(), fate }
    }

    /// The letter with the fate that it has if its deletion is not confirmed.
    pub(crate) fn not_deleted(self) -> Self {
        let fate = match self.fate {
            Fate::Redriven => Fate::Failed(Failure::RedrivenNotDeleted),
            Fate::Archived(_) => Fate::Failed(Failure::ArchivedNotDeleted),
            Fate::Succeeded => Fate::Failed(Failure::SucceededNotDeleted),
            fate => fate,
        };
        Self { fate, ..self }
    }

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
            Fate::Succeeded => info!(
                event.id = id,
                object.key = key,
                message.id = message,
                message.receive_count = receives,
                "succeeded since"
            ),
            // There may be thousands of these, and nothing has happened to them.
            Fate::WouldRedrive
            | Fate::WouldArchive(_)
            | Fate::TooNew
            | Fate::Filtered
            | Fate::Running
            | Fate::HeldBack
            | Fate::Untried => {}
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InputUnread(error) => write!(f, "the execution's input was not read: {error}"),
            Self::StateUnknown(error) => {
                write!(f, "it is not known how the execution is doing: {error}")
            }
            Self::NotSent(error) => error.fmt(f),
            Self::NotArchived(error) => error.fmt(f),
            Self::OutOfTime => f.write_str("there was no time left"),
            Self::RedrivenNotDeleted => f.write_str("it is redriven, but was not deleted"),
            Self::ArchivedNotDeleted => f.write_str("it is archived, but was not deleted"),
            Self::SucceededNotDeleted => {
                f.write_str("its execution has succeeded, but it was not deleted")
            }
        }
    }
}
