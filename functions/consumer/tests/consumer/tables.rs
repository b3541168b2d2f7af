//! Every error code of the calls that the consumer makes, against its outcome.

use super::*;

#[derive(Debug, PartialEq)]
enum Ended {
    Acknowledged,
    DeadLettered(String),
    Deferred,
    Failed,
}
use Ended::{Acknowledged, Deferred, Failed};

fn dead(class: &str) -> Ended {
    Ended::DeadLettered(class.to_owned())
}

async fn ended(fake: Fake) -> Ended {
    let failures = consume(&fake, vec![record("k")]).await;
    let state = fake.state();
    match (failures.len(), state.work.first(), state.dead.first()) {
        (1, None, None) => Failed,
        (0, None, None) => Acknowledged,
        (0, Some(_), None) => Deferred,
        (0, None, Some(letter)) => {
            let attributes = letter.message_attributes().expect("attributes");
            dead(attributes["errorClass"].string_value().expect("class"))
        }
        _ => panic!("more than one outcome"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_error_of_start_execution_has_its_outcome() {
    for (code, outcome) in [
        ("ExecutionAlreadyExists", Acknowledged),
        ("ExecutionLimitExceeded", Deferred),
        ("InvalidArn", Deferred),
        ("InvalidExecutionInput", dead("InputRefused")),
        ("InvalidName", dead("InputRefused")),
        ("KmsAccessDeniedException", Deferred),
        ("KmsInvalidStateException", Deferred),
        ("KmsThrottlingException", Deferred),
        ("StateMachineDeleting", Deferred),
        ("StateMachineDoesNotExist", Deferred),
        ("ValidationException", dead("InputRefused")),
        // Common errors
        ("AccessDeniedException", Deferred),
        ("ExpiredTokenException", Deferred),
        ("IncompleteSignature", Failed),
        ("InternalFailure", Failed),
        ("MalformedHttpRequestException", Failed),
        ("NotAuthorized", Deferred),
        ("OptInRequired", Deferred),
        ("RequestAbortedException", Failed),
        ("RequestEntityTooLargeException", Failed),
        ("RequestExpired", Failed),
        ("RequestTimeoutException", Failed),
        ("ServiceUnavailable", Deferred),
        ("ThrottlingException", Deferred),
        ("UnrecognizedClientException", Deferred),
        ("UnknownOperationException", Failed),
        ("SomethingNew", Failed),
    ] {
        assert_eq!(ended(Fake::new().start_fails("k", code)).await, outcome, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_error_of_get_object_has_its_outcome() {
    for (code, outcome) in [
        ("NoSuchKey", dead("ObjectMissing")),
        ("NoSuchVersion", dead("ObjectMissing")),
        ("MethodNotAllowed", dead("ObjectMissing")),
        ("InvalidObjectState", dead("ObjectArchived")),
        ("PreconditionFailed", Acknowledged),
        ("AccessDenied", Deferred),
        ("ExpiredToken", Deferred),
        ("InvalidAccessKeyId", Deferred),
        ("KMS.DisabledException", Deferred),
        ("KMS.InvalidStateException", Deferred),
        ("KMS.NotFoundException", Deferred),
        ("NoSuchBucket", Deferred),
        ("SlowDown", Deferred),
        ("ServiceUnavailable", Deferred),
        ("InternalError", Failed),
        ("RequestTimeout", Failed),
        ("SomethingNew", Failed),
    ] {
        assert_eq!(ended(Fake::new().read_fails("k", code)).await, outcome, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_may_not_be_read_closes_the_batch_for_no_other() {
    let fake = Fake::new().in_sequence().read_fails("a", "AccessDenied");
    assert!(consume(&fake, vec![record("a"), record("b")]).await.is_empty());
    assert_eq!(fake.started(), ["b"]);
    assert_eq!(fake.state().work.len(), 1);
}
