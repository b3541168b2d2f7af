use aws_sdk_sqs::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        get_queue_attributes::GetQueueAttributesError, receive_message::ReceiveMessageError,
    },
};

use crate::{Report, archive::ArchiveError};

/// Why there was no run, or why it ended before anything was known to be wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the invocation event: {0}")]
    Request(String),
    #[error("cannot receive from the dead-letter queue: {}", platform::InWords(&**.0))]
    Receive(Box<SdkError<ReceiveMessageError>>),
    /// The dead-letter queue could be read at first. What was done until then is in the report.
    #[error("{source}; until then: {}", as_json(report))]
    Incomplete { source: Box<Error>, report: Box<Report> },
    #[error("the archive cannot be read: {0}")]
    Archive(#[source] ArchiveError),
    #[error("{0}")]
    Move(String),
    #[error("cannot tell what became of what was written: {0}")]
    Reconcile(String),
    #[error("cannot read the attributes of the dead-letter queue: {}", platform::InWords(&**.0))]
    Attributes(Box<SdkError<GetQueueAttributesError>>),
}

impl Error {
    /// Whether waiting may help: SQS throttled the call, had a problem of its own, or gave no
    /// answer. Any other refusal of a receive is about a right, a key or the queue itself, which
    /// somebody has to repair.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Receive(error) => may_pass(error),
            _ => true,
        }
    }

    /// Whether SQS hides as many messages of the queue as it may.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.receive_code().is_some_and(|code| code.contains("OverLimit"))
    }

    fn receive_code(&self) -> Option<&str> {
        match self {
            Self::Receive(error) => error.code(),
            _ => None,
        }
    }
}

/// Whether waiting may help after this error.
pub(crate) fn may_pass<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ServiceError(refusal) => {
            refusal.raw().status().is_server_error() || error.code().is_some_and(is_of_the_moment)
        }
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    }
}

/// Whether an error code is about the moment, although its HTTP status is not one of a server
/// error.
fn is_of_the_moment(code: &str) -> bool {
    code.contains("Throttl")
        || code.starts_with("RequestTimeout")
        || ["RequestLimitExceeded", "SlowDown", "TooManyRequestsException"].contains(&code)
}

impl From<Error> for lambda_runtime::Diagnostic {
    fn from(error: Error) -> Self {
        let error_type = match error {
            Error::Request(_) => "Request",
            Error::Receive(_) => "Receive",
            Error::Incomplete { .. } => "Incomplete",
            Error::Archive(_) => "Archive",
            Error::Move(_) => "Move",
            Error::Reconcile(_) => "Reconcile",
            Error::Attributes(_) => "Attributes",
        };
        Self { error_type: error_type.to_owned(), error_message: error.to_string() }
    }
}

fn as_json(report: &Report) -> String {
    serde_json::to_string(report).unwrap_or_else(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::operation::receive_message::ReceiveMessageError;

    use super::*;

    #[test]
    fn a_code_of_the_moment_passes_whatever_its_status() {
        let codes = ["ThrottlingException", "RequestThrottled", "RequestTimeout", "SlowDown"];
        assert!(codes.into_iter().all(is_of_the_moment));
        assert!(!is_of_the_moment("AccessDenied"));
    }

    #[test]
    fn a_call_that_cannot_even_be_made_does_not_pass_by_waiting() {
        let error = SdkError::<ReceiveMessageError>::construction_failure("a setting is missing");
        assert!(!may_pass(&error));
        assert!(may_pass(&SdkError::<ReceiveMessageError>::timeout_error("no answer")));
    }
}
