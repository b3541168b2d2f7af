use aws_sdk_sfn::{
    Client,
    config::{
        Builder,
        retry::{ClassifyRetry, RetryAction},
    },
    operation::start_execution::StartExecutionError,
};
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{RetryClassifierPriority, RetryReason},
};
use aws_smithy_types::retry::ErrorKind;

/// A client whose retries do not get in the way of [`Pace`](crate::Pace): it does not try a
/// throttled `StartExecution` again, as each of its tries has to wait for its turn. All other
/// retries stay.
pub fn step_functions_client(config: Builder) -> Client {
    Client::from_conf(config.retry_classifier(ThrottledStartsWait).build())
}

#[derive(Debug)]
struct ThrottledStartsWait;

impl ClassifyRetry for ThrottledStartsWait {
    fn classify_retry(&self, _: &InterceptorContext) -> RetryAction {
        RetryAction::NoActionIndicated
    }

    /// `so_far` is what the SDK's own classifiers have decided.
    fn classify_retry_v2(&self, call: &InterceptorContext, so_far: &RetryAction) -> RetryAction {
        let is_start = call
            .output_or_error()
            .and_then(|result| result.err()?.as_operation_error())
            .is_some_and(|error| error.downcast_ref::<StartExecutionError>().is_some());
        let is_throttled = matches!(
            so_far,
            RetryAction::RetryIndicated(RetryReason::RetryableError {
                kind: ErrorKind::ThrottlingError,
                ..
            })
        );
        if is_start && is_throttled {
            RetryAction::RetryForbidden
        } else {
            RetryAction::NoActionIndicated
        }
    }

    /// After all of the SDK's own, of which this is the last.
    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }

    fn name(&self) -> &'static str {
        "throttled starts wait for their turn"
    }
}
