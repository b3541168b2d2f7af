use std::fmt;

/// Message attribute (String) of a dead letter: why it is one, as an [`ErrorClass`] or as the name
/// of the error with which an execution failed.
pub const ERROR_CLASS: &str = "errorClass";

/// Message attribute (String) of a dead letter: the reason in words.
pub const ERROR_MESSAGE: &str = "errorMessage";

/// Message attribute (Number): how many times the message went from the dead-letter queue back to
/// the work queue.
pub const REDRIVES: &str = "redrives";

/// Message attribute (Number): how many times the consumer put the message back with a delay.
pub const DEFERRALS: &str = "deferrals";

/// Message attribute (String): when the consumer first put the message back, in RFC 3339. It is set
/// by the first deferral of a journey and kept by the next ones; a redrive begins a new journey, and
/// takes it off.
pub const DEFERRED_SINCE: &str = "deferredSince";

/// Why Sluice itself dead-lettered a message: the value of [`ERROR_CLASS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// No envelope that the decoder knows, or one that lacks what identifies the object.
    Undecodable,
    /// The event alone is larger than a message on the work queue may be.
    EventTooLarge,
    /// The object, or this version of it, is gone.
    ObjectMissing,
    /// The object is in an archive storage class and cannot be read without a restore.
    ObjectArchived,
    /// S3 refuses to read the object as it is asked for: it is encrypted with a key that only its
    /// writer has (SSE-C).
    ObjectUnreadable,
    /// The object is small enough to be passed inline and is not JSON.
    NotJson,
    /// Step Functions refused the name or the input of the execution.
    InputRefused,
    /// The state machine found that the event lacks what a write needs.
    InvalidEvent,
    /// The state machine found that the content is not a device state.
    InvalidDeviceState,
    /// The consumer could not start the execution for longer than an event is deferred.
    DeferredTooLong,
}

impl ErrorClass {
    const ALL: [Self; 10] = [
        Self::Undecodable,
        Self::EventTooLarge,
        Self::ObjectMissing,
        Self::ObjectArchived,
        Self::ObjectUnreadable,
        Self::NotJson,
        Self::InputRefused,
        Self::InvalidEvent,
        Self::InvalidDeviceState,
        Self::DeferredTooLong,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "Undecodable",
            Self::EventTooLarge => "EventTooLarge",
            Self::ObjectMissing => "ObjectMissing",
            Self::ObjectArchived => "ObjectArchived",
            Self::ObjectUnreadable => "ObjectUnreadable",
            Self::NotJson => "NotJson",
            Self::InputRefused => "InputRefused",
            Self::InvalidEvent => "InvalidEvent",
            Self::InvalidDeviceState => "InvalidDeviceState",
            Self::DeferredTooLong => "DeferredTooLong",
        }
    }

    /// Reads the value of [`ERROR_CLASS`]; any other text is an error name from elsewhere.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Whether the fault is in the message, so that no retry and no redrive can help.
    pub fn is_poison(self) -> bool {
        self != Self::DeferredTooLong
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_read_back_from_its_text() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::parse(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::parse("DynamoDB.ThrottlingException"), None);
    }

    #[test]
    fn all_is_poison_but_what_has_waited_too_long() {
        for class in ErrorClass::ALL {
            assert_eq!(class.is_poison(), class.to_string() != "DeferredTooLong", "{class}");
        }
    }
}
