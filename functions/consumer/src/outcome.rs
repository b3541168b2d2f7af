use aws_lambda_events::event::sqs::SqsMessage;
use messages::ErrorClass;
use tracing::{error, info, warn};

use crate::Cause;

/// How a record ended. Each of these and nothing else: a row of the table in the README.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `StartExecution` succeeded for at least one event, or the message holds none.
    Started { executions: usize },
    /// Every event of the message has its execution already.
    Duplicate,
    /// The dead-letter queue has confirmed it.
    DeadLettered { class: ErrorClass, message: String },
    /// The work queue has confirmed the copy.
    Deferred { cause: Cause, message: String, delay_seconds: u64 },
    /// Nothing is confirmed, so SQS delivers it again.
    Failed { error: String },
}

impl Outcome {
    /// Whether the message may be deleted: something else is confirmed to have it.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Started { .. }
            | Self::Duplicate
            | Self::DeadLettered { .. }
            | Self::Deferred { .. } => true,
            Self::Failed { .. } => false,
        }
    }

    /// The one log line of a record.
    pub(crate) fn report(&self, record: &SqsMessage, events: &[messages::Event]) {
        let message = record.message_id.as_deref().unwrap_or_default();
        let receives = record.attributes.get("ApproximateReceiveCount").map(String::as_str);
        let event = events.first();
        let id = event.map(|event| event.id.as_str());
        let key = event.map(|event| event.data.key.as_str());
        let execution = event.map(messages::Event::execution_name);
        macro_rules! line {
            ($level:ident, $($field:tt)*) => {
                $level!(
                    event.id = id,
                    object.key = key,
                    execution.name = execution,
                    message.id = message,
                    message.receive_count = receives,
                    message.events = events.len(),
                    $($field)*
                )
            };
        }
        match self {
            Self::Started { .. } => line!(info, "started"),
            Self::Duplicate => line!(info, "duplicate"),
            Self::DeadLettered { class, message } => {
                line!(warn, error.class = %class, error = message, "dead-lettered");
            }
            Self::Deferred { cause, message, delay_seconds } => line!(
                warn,
                cause = %cause,
                error = message,
                delay.seconds = delay_seconds,
                "deferred"
            ),
            Self::Failed { error } => line!(error, error, "failed"),
        }
    }
}
