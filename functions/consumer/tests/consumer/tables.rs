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

async fn ended(fake: Fake, record: Value) -> Ended {
    let failures = consume(&fake, vec![record]).await;
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
        ("InternalFailure", Deferred),
        ("InternalServerError", Deferred),
        ("MalformedHttpRequestException", Failed),
        ("NotAuthorized", Deferred),
        ("OptInRequired", Deferred),
        ("RequestAbortedException", Failed),
        ("RequestEntityTooLargeException", Failed),
        ("RequestExpired", Failed),
        ("RequestTimeoutException", Deferred),
        ("ServiceUnavailable", Deferred),
        ("ThrottlingException", Deferred),
        ("UnrecognizedClientException", Deferred),
        ("UnknownOperationException", Failed),
        ("SomethingNew", Failed),
    ] {
        assert_eq!(ended(Fake::new().start_fails("k", code), record("k")).await, outcome, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_error_of_get_object_has_its_outcome() {
    for (code, outcome) in [
        ("NoSuchKey", dead("ObjectMissing")),
        ("NoSuchVersion", dead("ObjectMissing")),
        ("MethodNotAllowed", dead("ObjectMissing")),
        ("InvalidObjectState", dead("ObjectArchived")),
        ("InvalidRequest", dead("ObjectUnreadable")),
        ("PreconditionFailed", Acknowledged),
        ("AccessDenied", Deferred),
        ("ExpiredToken", Deferred),
        ("InvalidAccessKeyId", Deferred),
        ("KMS.DisabledException", Deferred),
        ("KMS.AccessDeniedException", Deferred),
        ("KMS.KMSInvalidStateException", Deferred),
        ("KMS.KeyUnavailableException", Deferred),
        ("KMS.SomethingNew", Deferred),
        ("KMS.ThrottlingException", Deferred),
        ("KMS.NotFoundException", Deferred),
        ("NoSuchBucket", Deferred),
        ("SlowDown", Deferred),
        ("ServiceUnavailable", Deferred),
        ("InternalError", Deferred),
        ("RequestTimeout", Deferred),
        ("SomethingNew", Failed),
    ] {
        assert_eq!(ended(Fake::new().read_fails("k", code), record("k")).await, outcome, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_of_head_object_has_its_outcome() {
    let large = || {
        let mut message = message("k");
        message["data"]["size"] = json!(1_001);
        let mut record = record("k");
        record["body"] = json!(message.to_string());
        record
    };
    for (status, outcome) in [
        (400, dead("ObjectUnreadable")),
        (403, Deferred),
        (404, dead("ObjectMissing")),
        (405, dead("ObjectMissing")),
        (412, Acknowledged),
        (500, Deferred),
        (503, Deferred),
    ] {
        let fake = Fake::new().head_answers("k", status);
        assert_eq!(ended(fake, large()).await, outcome, "{status}");
    }
    for (class, outcome) in [
        ("STANDARD_IA", Acknowledged),
        ("GLACIER_IR", Acknowledged),
        ("GLACIER", dead("ObjectArchived")),
        ("DEEP_ARCHIVE", dead("ObjectArchived")),
    ] {
        let fake = Fake::new().stored_as("k", class);
        assert_eq!(ended(fake, large()).await, outcome, "{class}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_may_not_be_read_closes_the_batch_for_no_other() {
    let fake = Fake::new().in_sequence().read_fails("a", "AccessDenied");
    assert!(consume(&fake, vec![record("a"), record("b")]).await.is_empty());
    assert_eq!(fake.started(), ["b"]);
    assert_eq!(fake.state().work.len(), 1);
}
