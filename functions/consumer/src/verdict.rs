//! What has to be done about a record, and the tables that say which error means what.

use std::fmt;

use aws_sdk_s3::{
    error::SdkError,
    operation::{get_object::GetObjectError, head_object::HeadObjectError},
};
use aws_sdk_sfn::{
    error::ProvideErrorMetadata,
    operation::{
        describe_execution::DescribeExecutionError, list_executions::ListExecutionsError,
        start_execution::StartExecutionError,
    },
};
use messages::ErrorClass;
use platform::InWords;

use crate::{Cause, Outcome};

/// What has to be done about a record before it has its [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: this is the outcome.
    Done(Outcome),
    /// It holds several events, each of which becomes a message of its own.
    Split,
    /// The fault is in the message, so it goes to the dead-letter queue now.
    DeadLetter { class: ErrorClass, reason: String },
    /// Waiting helps, so it goes back to the work queue with a delay. `tried` tells whether this
    /// very record was refused, or only a neighbour of it; `paced`, whether all it needs is a turn
    /// at the rate that Step Functions grants.
    Defer { cause: Cause, reason: String, tried: bool, paced: bool },
}

impl Verdict {
    pub(crate) fn dead_letter(class: ErrorClass, reason: impl fmt::Display) -> Self {
        Self::DeadLetter { class, reason: reason.to_string() }
    }

    pub(crate) fn defer(cause: Cause, reason: impl fmt::Display) -> Self {
        Self::Defer { cause, reason: reason.to_string(), tried: true, paced: false }
    }

    /// A deferral of what was not even tried.
    pub(crate) fn untried(cause: Cause, reason: impl fmt::Display) -> Self {
        Self::Defer { cause, reason: reason.to_string(), tried: false, paced: false }
    }

    /// Whether the service has said what became of a call. It may have done what it was asked to do
    /// and not be able to say so.
    pub(crate) fn is_an_answer(&self) -> bool {
        !matches!(
            self,
            Self::Defer { cause: Cause::Unavailable, .. } | Self::Done(Outcome::Failed { .. })
        )
    }

    pub(crate) fn fail(reason: impl fmt::Display) -> Self {
        Self::Done(Outcome::Failed { reason: reason.to_string() })
    }

    /// What a failed `StartExecution` means.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html#API_StartExecution_Errors>
    pub(crate) fn of_start_error(error: &SdkError<StartExecutionError>) -> Self {
        let reason = InWords(error);
        match code(error) {
            // The name digests every field that identifies the event: this very event has its
            // execution. That it *succeeded* is not said; a failed one has its own way back.
            "ExecutionAlreadyExists" => Self::Done(Outcome::Duplicate),
            "InvalidName" | "InvalidExecutionInput" | "ValidationException" => {
                Self::dead_letter(ErrorClass::InputRefused, reason)
            }
            "ExecutionLimitExceeded" => Self::defer(Cause::ExecutionLimit, reason),
            "InvalidArn"
            | "StateMachineDeleting"
            | "StateMachineDoesNotExist"
            | "StateMachineTypeNotSupported" => Self::defer(Cause::StateMachineMissing, reason),
            "KmsAccessDeniedException" | "KmsInvalidStateException" => {
                Self::defer(Cause::AccessDenied, reason)
            }
            "KmsThrottlingException" => Self::defer(Cause::Throttled, reason),
            code => Self::of_common_error(code, error),
        }
    }

    /// What a failed `GetObject` means.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>
    pub(crate) fn of_get_error(error: &SdkError<GetObjectError>) -> Self {
        let reason = InWords(error);
        match code(error) {
            // 405 is the answer to reading a version that is a delete marker.
            "NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed" => {
                Self::dead_letter(ErrorClass::ObjectMissing, reason)
            }
            "InvalidObjectState" => Self::dead_letter(ErrorClass::ObjectArchived, reason),
            // The object is encrypted with a key of the writer's, which was not sent along.
            "InvalidRequest" => Self::dead_letter(ErrorClass::ObjectUnreadable, reason),
            // A bucket that is not there yet is somebody's mistake, and the messages wait until it
            // is mended.
            "NoSuchBucket" => Self::defer(Cause::AccessDenied, reason),
            "KMS.ThrottlingException" => Self::defer(Cause::Throttled, reason),
            // Every other error of KMS is about a right or about the state of the key: disabled,
            // to be deleted, unavailable. All of these somebody can mend.
            code if code.starts_with("KMS.") => Self::defer(Cause::AccessDenied, reason),
            code => Self::of_common_error(code, error),
        }
    }

    /// What a failed `HeadObject` means. It has no body, so S3's error code is in none of them.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
    pub(crate) fn of_head_error(error: &SdkError<HeadObjectError>) -> Self {
        let reason = |what: &str| format!("HeadObject: {what}");
        match error.raw_response().map(|answer| answer.status().as_u16()) {
            Some(404) => Self::dead_letter(ErrorClass::ObjectMissing, reason("404, not found")),
            Some(405) => {
                Self::dead_letter(ErrorClass::ObjectMissing, reason("405, a delete marker"))
            }
            Some(400) => Self::dead_letter(
                ErrorClass::ObjectUnreadable,
                reason("400, as for an object encrypted with a key of its writer's (SSE-C)"),
            ),
            Some(403) => Self::defer(Cause::AccessDenied, reason("403, access denied")),
            Some(503) => Self::defer(Cause::Throttled, reason("503, slow down")),
            _ => Self::of_common_error(code(error), error),
        }
    }

    /// What a failed `DescribeExecution` means.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html#API_DescribeExecution_Errors>
    pub(crate) fn of_describe_error(error: &SdkError<DescribeExecutionError>) -> Self {
        match code(error) {
            "KmsThrottlingException" => Self::defer(Cause::Throttled, InWords(error)),
            code => Self::of_common_error(code, error),
        }
    }

    /// What a failed `ListExecutions` means, without which nobody knows how many executions run.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html#API_ListExecutions_Errors>
    pub(crate) fn of_list_error(error: &SdkError<ListExecutionsError>) -> Self {
        let reason = InWords(error);
        let verdict = match code(error) {
            "StateMachineTypeNotSupported" => Self::defer(
                Cause::StateMachineMissing,
                format_args!(
                    "executions of an EXPRESS state machine cannot be listed, so \
                     MAX_RUNNING_EXECUTIONS has to be 0: {reason}"
                ),
            ),
            "InvalidArn" | "StateMachineDoesNotExist" | "StateMachineDeleting" => {
                Self::defer(Cause::StateMachineMissing, reason)
            }
            // A page came too late to go on.
            "InvalidToken" => Self::defer(Cause::Unavailable, reason),
            code => Self::of_common_error(code, error),
        };
        match verdict {
            Self::Defer { cause: Cause::AccessDenied, reason, .. } => Self::defer(
                Cause::AccessDenied,
                format_args!(
                    "with MAX_RUNNING_EXECUTIONS, the role of the consumer needs \
                     states:ListExecutions on the state machine: {reason}"
                ),
            ),
            verdict => verdict,
        }
    }

    /// Errors that every AWS API has.
    /// <https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html>
    fn of_common_error<E>(code: &str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let reason = InWords(error);
        match code {
            "RequestLimitExceeded"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException" => Self::defer(Cause::Throttled, reason),
            "AccessDenied"
            | "AccessDeniedException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "NotAuthorized"
            | "OptInRequired"
            | "UnrecognizedClientException" => Self::defer(Cause::AccessDenied, reason),
            "InternalError"
            | "InternalFailure"
            | "InternalServerError"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "ServiceUnavailable"
            | "ServiceUnavailableException" => Self::defer(Cause::Unavailable, reason),
            _ if is_unavailable(error) => Self::defer(Cause::Unavailable, reason),
            _ => Self::fail(reason),
        }
    }
}

/// Whether there was no answer, or one that says that the service has a problem of its own. The
/// same call may succeed later.
fn is_unavailable<E>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            true
        }
        error => error.raw_response().is_some_and(|answer| answer.status().is_server_error()),
    }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}
