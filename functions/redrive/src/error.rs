use aws_sdk_sqs::{
    error::SdkError,
    operation::{
        get_queue_attributes::GetQueueAttributesError, receive_message::ReceiveMessageError,
    },
};

use crate::archive::ArchiveError;

/// Why there was no run, or why it ended before anything was known to be wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the invocation event: {0}")]
    Request(String),
    #[error("cannot receive from the dead-letter queue: {}", aws_sdk_sqs::error::DisplayErrorContext(&**.0))]
    Receive(Box<SdkError<ReceiveMessageError>>),
    #[error("the archive cannot be read: {0}")]
    Archive(#[source] ArchiveError),
    #[error("{0}")]
    Move(String),
    #[error("cannot read the attributes of the dead-letter queue: {}", aws_sdk_sqs::error::DisplayErrorContext(&**.0))]
    Attributes(Box<SdkError<GetQueueAttributesError>>),
}

impl From<Error> for lambda_runtime::Diagnostic {
    fn from(error: Error) -> Self {
        let error_type = match error {
            Error::Request(_) => "Request",
            Error::Receive(_) => "Receive",
            Error::Archive(_) => "Archive",
            Error::Move(_) => "Move",
            Error::Attributes(_) => "Attributes",
        };
        Self { error_type: error_type.to_owned(), error_message: error.to_string() }
    }
}
