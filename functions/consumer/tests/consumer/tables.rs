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

async fn ended(aws: &Aws, record: Value) -> Ended {
    let failures = consume(aws, vec![record]).await;
    let (work, dead_letters) = (aws.work_queue().messages(), aws.dead_letter_queue().messages());
    match (failures.len(), work.first(), dead_letters.first()) {
        (1, None, None) => Failed,
        (0, None, None) => Acknowledged,
        (0, Some(_), None) => Deferred,
        (0, None, Some(letter)) => dead(letter.text("errorClass").expect("class")),
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
        let aws = Aws::new();
        aws.step_functions().fails("k", code);
        assert_eq!(ended(&aws, record("k")).await, outcome, "{code}");
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
        let aws = Aws::new();
        aws.s3().fails("k", code);
        assert_eq!(ended(&aws, record("k")).await, outcome, "{code}");
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
    // Of these, S3 answers with the status only.
    for (code, outcome) in [
        ("InvalidRequest", dead("ObjectUnreadable")),
        ("AccessDenied", Deferred),
        ("NoSuchKey", dead("ObjectMissing")),
        ("MethodNotAllowed", dead("ObjectMissing")),
        ("PreconditionFailed", Acknowledged),
        ("InternalError", Deferred),
        ("SlowDown", Deferred),
    ] {
        let aws = Aws::new();
        aws.when("HeadObject").fails(code);
        assert_eq!(ended(&aws, large()).await, outcome, "{code}");
    }
    let (aws, metrics) = (Aws::new(), Lines::default());
    aws.when("HeadObject").fails("SlowDown");
    consume_with(&aws, config(&aws), &metrics, event(&[large()])).await;
    assert_eq!(metrics.read().pop().expect("a line")["Cause"], "Throttled");
    for (class, outcome) in [
        ("STANDARD_IA", Acknowledged),
        ("GLACIER_IR", Acknowledged),
        ("GLACIER", dead("ObjectArchived")),
        ("DEEP_ARCHIVE", dead("ObjectArchived")),
    ] {
        let aws = Aws::new();
        aws.s3().has("device-state", Object::new("k", b"").e_tag(E_TAG).stored_as(class));
        assert_eq!(ended(&aws, large()).await, outcome, "{class}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_may_not_be_read_closes_the_batch_for_no_other() {
    let aws = Aws::new();
    aws.s3().fails("a", "AccessDenied");
    assert!(consume_in_sequence(&aws, vec![record("a"), record("b")]).await.is_empty());
    assert_eq!(aws.step_functions().started_keys(), ["b"]);
    assert_eq!(aws.work_queue().messages().len(), 1);
}
