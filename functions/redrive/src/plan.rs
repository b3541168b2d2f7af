//! What is to become of one dead letter. Pure: the same letter always has the same plan.

use messages::{DecodeError, ERROR_CLASS, ERROR_MESSAGE, ErrorClass, Event, REDRIVES};
use platform::{Attribute, MAX_MESSAGE_BYTES, Message};

use crate::DeadLetter;

/// Where the content of one dead letter goes. It is deleted only when all of that is confirmed.
#[derive(Debug)]
pub(crate) struct Plan {
    /// To the work queue.
    pub(crate) messages: Vec<Message>,
    /// The events behind `messages`.
    pub(crate) events: Vec<Event>,
    /// To the archive, with this reason.
    pub(crate) archive: Option<Reason>,
}

/// Why a message is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// `TooManyRedrives`, or the class of the error.
    pub(crate) class: String,
    pub(crate) message: String,
}

/// The error with which a state machine fails that cannot read a file of JSON Lines. Most often the
/// file is not JSON Lines.
const UNREADABLE: &str = "States.ItemReaderFailed";

const UNDECODABLE: &str = ErrorClass::Undecodable.as_str();

impl Reason {
    pub(crate) fn new(class: &str, message: &impl ToString) -> Self {
        Self { class: class.to_owned(), message: message.to_string() }
    }

    /// The reason that the letter itself gives.
    fn of(letter: &DeadLetter, class: &str) -> Self {
        Self::new(class, &letter.cause().unwrap_or("no reason was given"))
    }
}

/// Gives a letter up because a person wants that.
pub(crate) fn give_up(letter: &DeadLetter, decoded: Vec<Result<Event, DecodeError>>) -> Plan {
    let class = if letter.class().is_empty() { "ArchivedByHand" } else { letter.class() };
    Plan {
        messages: Vec::new(),
        events: decoded.into_iter().filter_map(Result::ok).collect(),
        archive: Some(Reason {
            message: format!("archived by hand: {}", Reason::of(letter, class).message),
            class: class.to_owned(),
        }),
    }
}

/// `decoded` is what the letter's body holds.
pub(crate) fn plan(
    letter: &DeadLetter,
    decoded: Vec<Result<Event, DecodeError>>,
    max_redrives: u64,
    group_key_segments: usize,
    fifo: bool,
) -> Plan {
    let give_up = |events, reason| Plan { messages: Vec::new(), events, archive: Some(reason) };
    let undecodable = decoded
        .iter()
        .find_map(|event| event.as_ref().err())
        .map(|error| Reason::new(UNDECODABLE, &error));
    let events: Vec<Event> = decoded.into_iter().filter_map(Result::ok).collect();

    // What could not be decoded yesterday may be decodable by newer code: only the decoder of today
    // decides about that.
    let class = letter.class();
    let is_poison = match ErrorClass::parse(class) {
        Some(class) => class.is_poison() && class != ErrorClass::Undecodable,
        None => class == UNREADABLE && !is_from_s3(letter.cause().unwrap_or_default()),
    };
    if is_poison {
        return give_up(events, Reason::of(letter, class));
    }

    let redrives = letter.redrives(&events);
    if redrives >= max_redrives && !events.is_empty() {
        let last = Reason::of(letter, if class.is_empty() { "TooManyRedrives" } else { class });
        let message = format!("still failing after {redrives} redrives: {}", last.message);
        return give_up(events, Reason { class: last.class, message });
    }

    let messages = events.iter().map(|event| {
        let mut message = Message::of_event(event, group_key_segments)?;
        // A body that is the event already goes back as it came, byte for byte.
        if is_event(&letter.body) {
            message.body.clone_from(&letter.body);
            // A FIFO queue wants a group, which a letter of a standard queue need not have.
            if letter.group_id.is_some() || !fifo {
                message.group_id.clone_from(&letter.group_id);
            }
        }
        message.attributes.clone_from(&letter.attributes);
        message.begin_journey();
        // A redrive within five minutes of the first send is no repeat of it.
        message.deduplication_id =
            Some(format!("{}-redrive-{}", event.execution_name(), redrives + 1));
        message.set(REDRIVES, Attribute::number(redrives + 1));
        Ok(message)
    });
    match messages.collect::<Result<Vec<_>, serde_json::Error>>() {
        Ok(messages) if messages.is_empty() && undecodable.is_none() => {
            give_up(events, Reason::new("NoEvent", &"the message holds no event"))
        }
        // SQS would refuse it every night, until the dead-letter queue drops it.
        Ok(messages) if messages.iter().any(|message| message.size() > MAX_MESSAGE_BYTES) => {
            let class = ErrorClass::EventTooLarge.as_str();
            give_up(events, Reason::new(class, &"no room for the count of its redrives"))
        }
        Ok(messages) => Plan { messages, archive: undecodable, events },
        Err(error) => give_up(events, Reason::new(UNDECODABLE, &error)),
    }
}

impl DeadLetter {
    /// Why it is a dead letter, as an [`ErrorClass`] or as the name of an error. Empty if it does
    /// not say so.
    ///
    /// Whoever sends to the dead-letter queue sets the class, and what is redriven has it taken
    /// off. So a class of a letter that SQS moved itself is that of an earlier death.
    pub(crate) fn class(&self) -> &str {
        let failed = self.failed_execution.as_ref().and_then(|failed| failed.error.as_deref());
        self.sent_with(ERROR_CLASS).or(failed).unwrap_or_default()
    }

    /// The same in words.
    pub(crate) fn cause(&self) -> Option<&str> {
        let failed = self.failed_execution.as_ref().and_then(|failed| failed.cause.as_deref());
        self.sent_with(ERROR_MESSAGE).or(failed)
    }

    fn sent_with(&self, name: &str) -> Option<&str> {
        if self.moved_by_sqs { None } else { text(self, name) }
    }

    /// How often this message was redriven. The attribute does not survive an execution, but the
    /// execution's input has what it was, and each failed execution that comes back counts one
    /// attempt more.
    pub(crate) fn redrives(&self, events: &[Event]) -> u64 {
        let attribute = text(self, REDRIVES).and_then(|text| text.parse().ok()).unwrap_or(0);
        let attempts = events.iter().map(|event| {
            let attempts = event.attempt.saturating_sub(event.restored).saturating_sub(1);
            u64::from(attempts.max(event.redrives))
        });
        attempts.max().unwrap_or(0).max(attribute)
    }
}

/// Whether Step Functions could not read a file because of S3 and not because of what is in it.
fn is_from_s3(cause: &str) -> bool {
    ["S3", "Status Code", "Access Denied", "AccessDenied", "Slow", "Timeout", "timed out", "KMS"]
        .iter()
        .any(|sign| cause.contains(sign))
}

fn text<'a>(letter: &'a DeadLetter, name: &str) -> Option<&'a str> {
    letter.attributes.get(name)?.text.as_deref()
}

/// Whether a body is the message itself and not an envelope around it.
fn is_event(body: &str) -> bool {
    serde_json::from_str::<Event>(body).is_ok()
}
