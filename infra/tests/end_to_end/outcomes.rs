//! Each row of the outcome table, and the promise behind it: what waits is not lost, does not count
//! as in flight, and starts once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::faults::{MORE_THAN_RETRIES, SDK_ATTEMPTS, assert_written_once, upload_some};
use crate::harness::{Ended, Sluice, Write, key_of};
use crate::proxy::Fault;

/// As the template has them: `MaximumConcurrency` × `BatchSize`.
const MOST_IN_FLIGHT: usize = 10 * 10;

#[tokio::test]
async fn five_hundred_files_wait_out_a_minute_of_throttling() {
    let sluice = Sluice::for_test("minute").await;
    let throttled = sluice.proxy().inject("StartExecution", sluice.prefix, Fault::Throttled);
    let minute = async {
        let mut most = 0;
        for _ in 0..120 {
            most = most.max(sluice.in_flight().await);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        most
    };
    let (writes, most_in_flight) = tokio::join!(upload_some(&sluice, 500), minute);

    assert!(most_in_flight <= MOST_IN_FLIGHT, "{most_in_flight} in flight");
    assert!(sluice.dead_letters().await.is_empty());
    // A consumer that is cut off between its copies and its answer leaves both on the queue, so
    // there may be more messages than files, but never fewer.
    let waiting = sluice.queued_bodies().await;
    let waits = |write: &Write| waiting.iter().any(|body| body.contains(&write.event_id));
    let missing: Vec<_> = writes.iter().filter(|write| !waits(write)).collect();
    assert!(missing.is_empty(), "neither started nor waiting: {missing:?}");
    drop(throttled);
    assert_written_once(&sluice, &writes).await;
}

#[tokio::test]
async fn one_write_by_every_route_is_one_execution() {
    let sluice = Sluice::for_test("every-route").await;
    let device = sluice.device("lamp");
    let write = sluice.store(&device, &json!({ "on": true }), "0A").await;
    let notification: Value = serde_json::from_str(&write.notification()).unwrap();
    let s3 = &notification["Records"][0]["s3"];
    let mut sns = sluice.sample_event("sns-to-lambda.json");
    sns["Records"][0]["Sns"]["Message"] = json!(notification.to_string());
    let mut bridge = sluice.sample_event("eventbridge-object-created-key-not-encoded.json");
    bridge["region"] = notification["Records"][0]["awsRegion"].clone();
    bridge["detail"]["bucket"] = s3["bucket"].clone();
    bridge["detail"]["object"] = json!({
        "key": write.key,
        "size": s3["object"]["size"],
        "etag": s3["object"]["eTag"],
        "version-id": s3["object"]["versionId"],
        "sequencer": s3["object"]["sequencer"],
    });
    let destination = json!({ "requestPayload": sns, "responsePayload": {} });

    for event in [&notification, &sns, &bridge] {
        sluice.forward(event).await;
    }
    let bodies = [&notification, &sns["Records"][0]["Sns"], &bridge, &destination];
    sluice.enqueue_together(&bodies.map(Value::to_string)).await;

    assert_eq!(sluice.ended(&write).await, Ended::written());
    sluice.drained().await;
    // Lines and not calls: the SDK repeats a call whose answer is late, and a message that shares a
    // batch with a throttled one of another test may be deferred and tried in another batch.
    let ends = sluice.log_of(&write.event_id);
    let tried = ends.iter().filter(|line| ["started", "duplicate"].contains(&line.message()));
    assert!(tried.count() >= 7, "all seven were tried: {ends:#?}");
    assert_eq!(sluice.executions().await.get(&write.event_id), Some(&1));
    assert!(sluice.dead_letters().await.is_empty());
}

/// The neighbours of a throttled message wait for their turns with it, and some may have none. They
/// were not refused themselves, so however old their events are, they are not given up.
#[tokio::test]
async fn what_shares_a_batch_with_a_throttled_message_waits_and_starts() {
    let sluice = Sluice::for_test("shares-a-batch").await;
    let mut writes = Vec::new();
    for number in 0..10 {
        let device = sluice.device(&format!("{number}-of-ten"));
        writes.push(sluice.store(&device, &json!({}), "01").await.of_last_year());
    }
    let throttled = &writes[0].event_id;
    let fault = sluice.proxy().inject("StartExecution", throttled, Fault::Throttled);
    let bodies: Vec<String> = writes.iter().map(Write::notification).collect();
    sluice.enqueue_together(&bodies).await;
    sluice
        .eventually("the throttled one was deferred twice", async || {
            let lines = sluice.log_of(throttled);
            match lines.iter().filter(|line| line.message() == "deferred").count() {
                2.. => Ok(()),
                times => Err(format!("{times} times")),
            }
        })
        .await;
    drop(fault);

    assert_written_once(&sluice, &writes).await;
}

#[tokio::test]
async fn an_object_that_is_gone_is_dead_lettered_and_starts_nothing() {
    let sluice = Sluice::for_test("object-gone").await;
    let gone = sluice.store(&sluice.device("gone"), &json!({}), "01").await;
    sluice.remove(&gone).await;
    let there = sluice.store(&sluice.device("there"), &json!({}), "01").await;
    sluice.enqueue_together(&[gone.notification(), there.notification()]).await;

    assert_eq!(sluice.ended(&there).await, Ended::written());
    let letters = sluice.dead_letters_reach(1).await;
    sluice.drained().await;
    assert_eq!(letters[0].error_class.as_deref(), Some("ObjectMissing"));
    assert_eq!(letters[0].body, gone.notification());
    assert_eq!(sluice.executions().await.get(&gone.event_id), None);
}

#[tokio::test]
async fn what_the_world_refuses_waits_until_it_is_allowed() {
    let sluice = Sluice::for_test("world-says-no").await;
    let denied = Fault::Refused { status: 403, code: "AccessDenied" };
    let missing = Fault::Refused { status: 400, code: "StateMachineDoesNotExist" };
    let limit = Fault::Refused { status: 400, code: "ExecutionLimitExceeded" };
    let faults = [
        sluice.proxy().inject_times(2, "GetObject", sluice.prefix, denied),
        sluice.proxy().inject_times(2, "StartExecution", sluice.prefix, missing),
        sluice.proxy().inject_times(2, "StartExecution", sluice.prefix, limit),
    ];
    let writes = upload_some(&sluice, 3).await;

    assert_written_once(&sluice, &writes).await;
    assert!(sluice.calls_with("SendMessageBatch", "\"deferrals\"") > 0, "deferred");
    drop(faults);
}

#[tokio::test]
async fn input_that_step_functions_refuses_is_dead_lettered() {
    let sluice = Sluice::for_test("input-refused").await;
    let refused = Fault::Refused { status: 400, code: "InvalidExecutionInput" };
    let _fault = sluice.proxy().inject("StartExecution", sluice.prefix, refused);
    let write = sluice.upload_state(&sluice.device("lamp"), &json!({})).await;

    let letters = sluice.dead_letters_reach(1).await;
    sluice.drained().await;
    assert_eq!(letters[0].error_class.as_deref(), Some("InputRefused"));
    assert_eq!(sluice.executions().await.get(&write.event_id), None);
}

/// A send that settles a message is refused for longer than it is retried: the message must not be
/// acknowledged, and comes back by itself.
async fn comes_back_if_its_send_is_refused(sluice: &Sluice, bodies: &[String]) {
    let rejecting = sluice.proxy().inject_times(
        MORE_THAN_RETRIES,
        "SendMessageBatch",
        sluice.prefix,
        Fault::EntriesFail { although_taken: false },
    );
    sluice.enqueue_together(bodies).await;
    sluice
        .eventually("the sends are refused", async || match sluice.calls("SendMessageBatch") {
            MORE_THAN_RETRIES.. => Ok(()),
            calls => Err(format!("{calls} calls")),
        })
        .await;
    assert_eq!(sluice.queued().await, bodies.len(), "still there, hidden");
    drop(rejecting);
}

#[tokio::test]
async fn a_dead_letter_that_is_not_confirmed_keeps_its_message() {
    let sluice = Sluice::for_test("letter-unconfirmed").await;
    let body = format!("poison, {}", sluice.prefix);
    comes_back_if_its_send_is_refused(&sluice, std::slice::from_ref(&body)).await;

    let letters = sluice.dead_letters_reach(1).await;
    sluice.drained().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].body, body);
}

#[tokio::test]
async fn a_deferred_copy_that_is_not_confirmed_keeps_its_message() {
    let sluice = Sluice::for_test("copy-unconfirmed").await;
    // What is throttled would be tried again in the same invocation.
    let refused = Fault::Refused { status: 400, code: "ExecutionLimitExceeded" };
    let _fault = sluice.proxy().inject_times(1, "StartExecution", sluice.prefix, refused);
    let write = sluice.store(&sluice.device("lamp"), &json!({}), "01").await;
    comes_back_if_its_send_is_refused(&sluice, &[write.notification()]).await;

    assert_written_once(&sluice, &[write]).await;
}

#[tokio::test]
async fn a_message_with_two_writes_is_split_and_starts_each_once_though_one_fails() {
    let sluice = Sluice::for_test("two-writes").await;
    let mut writes = Vec::new();
    for name in ["one", "other"] {
        writes.push(sluice.store(&sluice.device(name), &json!({}), "01").await);
    }
    let records = writes.iter().map(|write| {
        let notification: Value = serde_json::from_str(&write.notification()).unwrap();
        notification["Records"][0].clone()
    });
    let body = json!({ "Records": records.collect::<Vec<_>>() }).to_string();
    let broken = Fault::Refused { status: 500, code: "InternalServerError" };
    let other = key_of(&sluice.device("other"));
    let _fault = sluice.proxy().inject_times(SDK_ATTEMPTS, "StartExecution", &other, broken);
    sluice.enqueue_together(&[body]).await;

    assert_written_once(&sluice, &writes).await;
    for write in &writes {
        let lines = sluice.log_of(&write.event_id);
        let split = lines.iter().filter(|line| line.message() == "split off").count();
        assert!(split >= 1, "each became a message of its own: {lines:#?}");
    }
}

/// S3 sends one whenever a notification is configured.
#[tokio::test]
async fn a_test_event_is_acknowledged_and_starts_nothing() {
    let sluice = Sluice::for_test("test-event").await;
    let mut event = sluice.sample_event("s3-test-event.json");
    event["Bucket"] = sluice.prefix.into();
    sluice.forward(&event).await;
    sluice.enqueue_together(&[event.to_string()]).await;

    sluice.drained().await;
    assert_eq!(sluice.dead_letters().await.len(), 0);
    assert_eq!(sluice.names_tried().len(), 0);
}
