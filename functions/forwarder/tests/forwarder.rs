//! The forwarder as Lambda calls it, with a real SDK client and simulated queues.

use std::time::Duration;

use forwarder::{Config, Error, Forwarded, Forwarder};
use platform::{Deadline, MAX_MESSAGE_BYTES, Metrics, Queue};
use serde_json::{Value, json};
use testing::{Aws, Lines, notification, sample, sample_json};
use tokio::time::Instant;

async fn forward(aws: &Aws, payload: &str) -> Result<Forwarded, Error> {
    forward_and_measure(aws, payload, &Lines::default()).await
}

async fn forward_and_measure(
    aws: &Aws,
    payload: &str,
    metrics: &Lines,
) -> Result<Forwarded, Error> {
    let (work, dead) = (aws.work_queue(), aws.dead_letter_queue());
    let forwarder = Forwarder {
        config: Config { group_key_segments: 2 },
        metrics: Metrics::to("Sluice", "forwarder", metrics.clone()),
        work_queue: Queue::new(work.client(), work.url()),
        dead_letter_queue: Queue::new(dead.client(), dead.url()),
    };
    forwarder.handle(payload, Deadline::at(Instant::now() + Duration::from_secs(30))).await
}

fn forwarded(forwarded: usize) -> Forwarded {
    Forwarded { forwarded, dead_lettered: 0 }
}

#[tokio::test(start_paused = true)]
async fn every_record_becomes_a_message_of_its_device() {
    let aws = Aws::new();
    let answer = forward(&aws, &sample("s3-two-records.json")).await.expect("forwarded");
    assert_eq!(answer, forwarded(2));
    let work = aws.work_queue().messages();
    assert_eq!(
        aws.work_queue().keys(),
        ["devices/42/state 2026-11-20T21:00:00Z.json", "devices/7/한글+1.json"]
    );
    let groups: Vec<_> =
        work.iter().map(|message| message.group_id.as_deref().expect("group")).collect();
    assert_eq!(groups, ["devices/42", "devices/7"]);
    assert!(work.iter().all(|message| message.deduplication_id.is_none()));
    assert!(work.iter().all(|message| message.attributes.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn every_way_in_is_accepted() {
    for name in [
        "s3-object-created-put.json",
        "s3-object-created-versioned.json",
        "s3-object-restore-completed-no-sequencer.json",
        "sns-to-lambda.json",
        "eventbridge-object-created-key-not-encoded.json",
    ] {
        let answer = forward(&Aws::new(), &sample(name)).await;
        assert_eq!(answer.expect("forwarded"), forwarded(1), "{name}");
    }
    let answer = forward(&Aws::new(), &sample("s3-test-event.json")).await;
    assert_eq!(answer.expect("forwarded"), forwarded(0));
}

#[tokio::test(start_paused = true)]
async fn a_burst_goes_out_in_tens() {
    let records =
        (0..1_000).map(|n| notification(&format!("devices/{n}/state.json"))["Records"][0].clone());
    let burst = json!({ "Records": records.collect::<Vec<_>>() });
    let aws = Aws::new();
    assert_eq!(forward(&aws, &burst.to_string()).await.expect("forwarded"), forwarded(1_000));
    let mut keys = aws.work_queue().keys();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_entry_fails_the_invocation_after_the_others_are_sent() {
    let aws = Aws::new();
    aws.work_queue().rejects("devices/7/한글+1.json");
    let error = forward(&aws, &sample("s3-two-records.json")).await.expect_err("an error");
    assert_eq!(
        error.to_string(),
        "1 of 2 events are not on the queue, first: the queue rejected the message: \
         InternalError: as the test says"
    );
    assert_eq!(aws.work_queue().keys(), ["devices/42/state 2026-11-20T21:00:00Z.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_decoded_fails_the_invocation_after_the_others_are_sent() {
    let aws = Aws::new();
    let payload = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let error = forward(&aws, &payload).await.expect_err("an error").to_string();
    assert!(error.starts_with("1 of 2 events cannot be decoded, first: "), "{error}");
    assert!(error.contains("Records[0].eventVersion"), "{error}");
    assert_eq!(aws.work_queue().keys(), ["devices/7/한글+1.json"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_no_message_can_hold_is_dead_lettered_with_a_reason() {
    let aws = Aws::new();
    let mut payload = sample_json("s3-two-records.json");
    payload["Records"][0]["s3"]["object"]["key"] =
        json!("devices/42/".to_owned() + &"x".repeat(600_000));
    let answer = forward(&aws, &payload.to_string()).await.expect("forwarded");
    assert_eq!(answer, Forwarded { forwarded: 1, dead_lettered: 1 });
    assert_eq!(aws.work_queue().keys(), ["devices/7/한글+1.json"]);
    let letter = aws.dead_letter_queue().messages()[0].clone();
    assert_eq!(letter.text("errorClass"), Some("EventTooLarge"));
    let reason = letter.text("errorMessage").expect("reason");
    assert!(reason.ends_with("of which a queue takes 1048576"), "{reason}");
    assert!(letter.body.contains("devices/42/xxx"));
}

#[tokio::test(start_paused = true)]
async fn a_message_of_just_the_size_that_a_queue_takes_is_sent() {
    let payload = |key_bytes: usize, e_tag_bytes: usize| {
        let mut payload = notification(&"k".repeat(key_bytes));
        payload["Records"][0]["s3"]["object"]["eTag"] = json!("e".repeat(e_tag_bytes));
        payload.to_string()
    };
    let aws = Aws::new();
    forward(&aws, &payload(1, 1)).await.expect("forwarded");
    let missing = MAX_MESSAGE_BYTES - aws.work_queue().messages()[0].body.len();
    // The key stands in a message twice.
    let (key_bytes, e_tag_bytes) = (1 + missing / 2, 1 + missing % 2);
    let answer = forward(&aws, &payload(key_bytes, e_tag_bytes)).await.expect("forwarded");
    assert_eq!(answer, forwarded(1));
    assert_eq!(aws.work_queue().messages()[1].body.len(), MAX_MESSAGE_BYTES);
    let answer = forward(&aws, &payload(key_bytes, e_tag_bytes + 1)).await.expect("forwarded");
    assert_eq!(answer, Forwarded { forwarded: 0, dead_lettered: 1 });
}

#[tokio::test(start_paused = true)]
async fn every_event_is_logged_with_its_id_and_what_became_of_it() {
    let aws = Aws::new();
    aws.work_queue().rejects("devices/7/한글+1.json");
    let log = Lines::default();
    let captured = log.capture_log();
    forward(&aws, &sample("s3-two-records.json")).await.expect_err("one is not confirmed");
    drop(captured);
    let lines = log.read();
    let with_id = lines.iter().filter(|line| line["event.id"].is_string());
    let said: Vec<_> = with_id.map(|line| (&line["message"], &line["object.key"])).collect();
    assert_eq!(
        said,
        [
            (&json!("forwarded"), &json!("devices/42/state 2026-11-20T21:00:00Z.json")),
            (&json!("not forwarded"), &json!("devices/7/한글+1.json")),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_the_id_deduplicates_and_the_order_is_kept() {
    let aws = Aws::with_fifo_queues();
    forward(&aws, &sample("s3-two-records.json")).await.expect("forwarded");
    let work = aws.work_queue().messages();
    let ids: Vec<_> =
        work.iter().filter_map(|message| message.deduplication_id.as_deref()).collect();
    assert_eq!(ids[0], "60a564b35e9db02ade816b779bdb953583907372");
    assert_eq!(ids.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_at_all_is_an_error() {
    let error = forward(&Aws::new(), &sample("scheduled-event.json")).await;
    assert!(matches!(error, Err(Error::Undecodable { events: 1, .. })));
}

#[tokio::test(start_paused = true)]
async fn every_event_is_counted_once() {
    let aws = Aws::new();
    aws.work_queue().rejects("devices/7/한글+1.json");
    let mut payload = sample_json("s3-two-records.json");
    payload["Records"].as_array_mut().expect("array").push(json!({}));
    let metrics = Lines::default();
    forward_and_measure(&aws, &payload.to_string(), &metrics).await.expect_err("an error");
    let [line] = metrics.read().try_into().expect("one line");
    let line: Value = line;
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Namespace"], "Sluice");
    assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
    assert_eq!(line["FunctionName"], "forwarder");
    let count = |name: &str| line[name].as_u64().expect("a number");
    assert_eq!(count("Received"), 3);
    assert_eq!([count("Forwarded"), count("Rejected"), count("Undecodable")], [1, 1, 1]);
    assert_eq!(count("DeadLettered"), 0);
}
