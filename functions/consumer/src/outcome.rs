use std::fmt;

use messages::ErrorClass;
use tracing::{error, info, warn};

use crate::record::Record;

/// How a record ended. Each of these and nothing else: a row of the table in the README.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `StartExecution` succeeded.
    Started,
    /// The event has its execution already.
    Duplicate,
    /// The message holds no event, as S3's test message does not.
    Empty,
    /// The work queue has confirmed a message for each of the events.
    Split { events: usize },
    /// The dead-letter queue has confirmed it.
    DeadLettered { class: ErrorClass, reason: String },
    /// The work queue has confirmed the copy.
    Deferred { cause: Cause, reason: String, delay_seconds: u64 },
    /// Nothing is confirmed, so SQS delivers it again.
    Failed { reason: String },
}

/// Why a message is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    Throttled,
    ExecutionLimit,
    AccessDenied,
    StateMachineMissing,
    /// A 5xx answer, a time-out, a broken connection.
    Unavailable,
    /// No turn was left under the start rate.
    StartRate,
    /// As many executions run as may.
    RunningLimit,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "Throttled",
            Self::ExecutionLimit => "ExecutionLimit",
            Self::AccessDenied => "AccessDenied",
            Self::StateMachineMissing => "StateMachineMissing",
            Self::Unavailable => "Unavailable",
            Self::StartRate => "StartRate",
            Self::RunningLimit => "RunningLimit",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Outcome {
    /// Whether the message may be deleted: something else is confirmed to have it.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Started
            | Self::Duplicate
            | Self::Empty
            | Self::Split { .. }
            | Self::DeadLettered { .. }
            | Self::Deferred { .. } => true,
            Self::Failed { .. } => false,
        }
    }

    /// Writes the one log line of a record.
    pub(crate) fn report(&self, record: &Record<'_>) {
        let event = record.events.first();
        let id = event.map(|event| event.id.as_str());
        let key = event.map(|event| event.data.key.as_str());
        // Named only where there is one.
        let execution = match self {
            Self::Started | Self::Duplicate => event.map(messages::Event::execution_name),
            Self::Empty
            | Self::Split { .. }
            | Self::DeadLettered { .. }
            | Self::Deferred { .. }
            | Self::Failed { .. } => None,
        };
        macro_rules! line {
            ($level:ident, $($field:tt)*) => {
                $level!(
                    event.id = id,
                    object.key = key,
                    execution.name = execution,
                    message.id = record.message_id(),
                    message.receive_count = record.receive_count(),
                    $($field)*
                )
            };
        }
        match self {
            Self::Started => line!(info, "started"),
            Self::Duplicate => line!(info, "duplicate"),
            Self::Empty => line!(info, "empty"),
            Self::Split { events } => {
                line!(info, message.events = events, "split");
                // Each event can be followed by its own id from here on.
                for event in &record.events {
                    info!(
                        event.id = %event.id,
                        object.key = event.data.key,
                        message.id = record.message_id(),
                        "split off"
                    );
                }
            }
            Self::DeadLettered { class, reason } => {
                line!(warn, error.class = %class, error = reason, "dead-lettered");
            }
            Self::Deferred { cause, reason, delay_seconds } => line!(
                warn,
                cause = %cause,
                error = reason,
                delay.seconds = delay_seconds,
                "deferred"
            ),
            Self::Failed { reason } => line!(error, error = reason, "failed"),
        }
    }
}
