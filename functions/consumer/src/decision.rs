//! What to do about a record, and the tables that say which error means what.

use std::fmt;

use aws_sdk_s3::{error::SdkError, operation::get_object::GetObjectError};
use aws_sdk_sfn::{
    error::{DisplayErrorContext, ProvideErrorMetadata},
    operation::start_execution::StartExecutionError,
};
use messages::ErrorClass;

/// What is to be done about a record. Nothing is done yet about the last three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// All executions of the record exist; `started` of them since now.
    Executed { started: usize, duplicates: usize },
    /// The fault is in the message: to the dead-letter queue, now.
    DeadLetter { class: ErrorClass, message: String },
    /// The world's fault, which time cures: back to the work queue, with a delay.
    /// `tried` tells
    /// whether this record was itself refused, or only a neighbour of it.
    Defer { cause: Cause, message: String, tried: bool },
    /// Neither is known: SQS delivers it again.
    Fail { error: String },
}

/// Why a message is deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    Throttled,
    ExecutionLimit,
    AccessDenied,
    StateMachineMissing,
}

impl Decision {
    pub(crate) const STARTED: Self = Self::Executed { started: 1, duplicates: 0 };
    pub(crate) const DUPLICATE: Self = Self::Executed { started: 0, duplicates: 1 };
    pub(crate) const NOTHING_TO_DO: Self = Self::Executed { started: 0, duplicates: 0 };

    pub(crate) fn dead_letter(class: ErrorClass, message: impl fmt::Display) -> Self {
        Self::DeadLetter { class, message: message.to_string() }
    }

    fn defer(cause: Cause, message: impl fmt::Display) -> Self {
        Self::Defer { cause, message: message.to_string(), tried: true }
    }

    pub(crate) fn fail(error: impl fmt::Display) -> Self {
        Self::Fail { error: error.to_string() }
    }

    /// The decision about a message with two events. The message goes one way as a whole, and its
    /// repeat is harmless, so what keeps it goes before what lets it go.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (fail @ Self::Fail { .. }, _) | (_, fail @ Self::Fail { .. }) => fail,
            (defer @ Self::Defer { .. }, _) | (_, defer @ Self::Defer { .. }) => defer,
            (letter @ Self::DeadLetter { .. }, _) | (_, letter @ Self::DeadLetter { .. }) => letter,
            (
                Self::Executed { started: a, duplicates: b },
                Self::Executed { started: c, duplicates: d },
            ) => Self::Executed { started: a + c, duplicates: b + d },
        }
    }

    /// What a failed `StartExecution` means.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html#API_StartExecution_Errors>
    pub(crate) fn of_start_error(error: &SdkError<StartExecutionError>) -> Self {
        let defer = |cause| Self::defer(cause, DisplayErrorContext(error));
        match code(error) {
            // The name digests every field that identifies the event: this very event has its
            // execution. That it *succeeded* is not said; a failed one has its own way back.
            "ExecutionAlreadyExists" => Self::DUPLICATE,
            "InvalidName" | "InvalidExecutionInput" | "ValidationException" => {
                Self::dead_letter(ErrorClass::InputRefused, DisplayErrorContext(error))
            }
            "ExecutionLimitExceeded" => defer(Cause::ExecutionLimit),
            "InvalidArn"
            | "StateMachineDeleting"
            | "StateMachineDoesNotExist"
            | "StateMachineTypeNotSupported" => defer(Cause::StateMachineMissing),
            "KmsAccessDeniedException" | "KmsInvalidStateException" => defer(Cause::AccessDenied),
            "KmsThrottlingException" => defer(Cause::Throttled),
            code => Self::of_common_error(code, DisplayErrorContext(error)),
        }
    }

    /// What a failed `GetObject` means.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>
    pub(crate) fn of_read_error(error: &SdkError<GetObjectError>) -> Self {
        match code(error) {
            // 405 is the answer to reading a version that is a delete marker.
            "NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed" => {
                Self::dead_letter(ErrorClass::ObjectMissing, DisplayErrorContext(error))
            }
            "InvalidObjectState" => {
                Self::dead_letter(ErrorClass::ObjectArchived, DisplayErrorContext(error))
            }
            // A bucket that is not there yet, or a key that is disabled, is somebody's mistake, and
            // the messages wait until it is mended.
            "NoSuchBucket"
            | "KMS.DisabledException"
            | "KMS.InvalidStateException"
            | "KMS.NotFoundException" => {
                Self::defer(Cause::AccessDenied, DisplayErrorContext(error))
            }
            code => Self::of_common_error(code, DisplayErrorContext(error)),
        }
    }

    /// Errors that every AWS API has.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html>
    fn of_common_error(code: &str, error: impl fmt::Display) -> Self {
        let cause = match code {
            "RequestLimitExceeded"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException" => Cause::Throttled,
            "AccessDenied"
            | "AccessDeniedException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "NotAuthorized"
            | "OptInRequired"
            | "UnrecognizedClientException" => Cause::AccessDenied,
            _ => return Self::fail(error),
        };
        Self::defer(cause, error)
    }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "Throttled",
            Self::ExecutionLimit => "ExecutionLimit",
            Self::AccessDenied => "AccessDenied",
            Self::StateMachineMissing => "StateMachineMissing",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
