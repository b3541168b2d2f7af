use super::*;

fn in_group(key: &str, group: &str) -> Value {
    let mut record = record(key);
    record["attributes"]["MessageGroupId"] = json!(group);
    record
}

/// A record of group `a`: one message with an event about each of these keys.
fn in_one_message(keys: &[&str]) -> Value {
    let one = &sample_json("s3-two-records.json")["Records"][0];
    let about = |key: &&str| {
        let mut one = one.clone();
        one["s3"]["object"]["key"] = json!(key);
        one
    };
    let body = json!({ "Records": keys.iter().map(about).collect::<Vec<_>>() });
    let mut record = in_group("two", "a");
    record["body"] = json!(body.to_string());
    record
}

fn two_groups() -> Vec<Value> {
    [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a")]
        .map(|(key, group)| in_group(key, group))
        .to_vec()
}

/// The keys of group `a`, in the order they were started.
fn group_a(aws: &Aws) -> Vec<String> {
    aws.step_functions().started_keys().into_iter().filter(|key| key.starts_with('a')).collect()
}

#[tokio::test(start_paused = true)]
async fn a_group_keeps_its_order() {
    let aws = Aws::with_fifo_queues();
    assert!(consume(&aws, two_groups()).await.is_empty());
    assert_eq!(group_a(&aws), ["a1", "a2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_fails_the_rest_of_its_group_and_no_other() {
    let aws = Aws::with_fifo_queues();
    aws.step_functions().fails("a2", "InternalFailure");
    assert_eq!(consume(&aws, two_groups()).await, ["a2", "a3"]);
    assert_eq!(group_a(&aws), ["a1"]);
    assert_eq!(aws.step_functions().started().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_group_is_delivered_again_and_not_deferred() {
    let aws = Aws::with_fifo_queues();
    aws.step_functions().throttles("a1");
    let failures = consume(&aws, vec![in_group("a1", "a"), in_group("a2", "a")]).await;
    assert_eq!(failures, ["a1", "a2"]);
    assert!(aws.work_queue().messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn other_groups_are_tried_after_a_throttle_and_the_throttled_one_backs_off() {
    let aws = Aws::with_fifo_queues();
    aws.step_functions().throttles("a1");
    assert_eq!(consume_in_sequence(&aws, two_groups()).await, ["a1", "a2", "a3"]);
    assert_eq!(aws.step_functions().started_keys(), ["b1", "b2"]);
    let [shown] = aws.calls_of("ChangeMessageVisibilityBatch").try_into().expect("one call");
    let entries = shown["Entries"].as_array().expect("entries");
    let receipts: Vec<&Value> = entries.iter().map(|entry| &entry["ReceiptHandle"]).collect();
    assert_eq!(receipts, ["receipt of a1", "receipt of a2", "receipt of a3"]);
    let seconds: Vec<u64> =
        entries.iter().map(|entry| entry["VisibilityTimeout"].as_u64().expect("seconds")).collect();
    // Base 8 s, half of it jitter, and the whole group the same.
    assert!((4..=8).contains(&seconds[0]) && seconds.iter().all(|s| *s == seconds[0]));
}

#[tokio::test(start_paused = true)]
async fn a_group_backs_off_for_longer_the_more_often_it_was_received() {
    let aws = Aws::with_fifo_queues();
    aws.step_functions().throttles("a1");
    let mut received_often = in_group("a1", "a");
    received_often["attributes"]["ApproximateReceiveCount"] = json!("4");
    assert_eq!(consume(&aws, vec![received_often]).await, ["a1"]);
    let [shown] = aws.calls_of("ChangeMessageVisibilityBatch").try_into().expect("one call");
    let seconds = shown["Entries"][0]["VisibilityTimeout"].as_u64().expect("seconds");
    // Three doublings of 8 s.
    assert!((32..=64).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_fifo_queue_is_given_up_by_the_age_of_its_first_receive() {
    let received = |hours: i64| {
        let mut record = in_group("a1", "a");
        let since = now() - jiff::SignedDuration::from_hours(hours);
        record["attributes"]["ApproximateFirstReceiveTimestamp"] =
            json!(since.as_millisecond().to_string());
        record
    };
    for (hours, failures, dead) in [(71, 2, 0), (72, 0, 1)] {
        let aws = Aws::with_fifo_queues();
        aws.step_functions().throttles("a1");
        let answer = consume(&aws, vec![received(hours), in_group("a2", "a")]).await;
        assert_eq!(
            (answer.len(), aws.dead_letter_queue().messages().len()),
            (failures, dead),
            "{hours} hours"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_message_of_two_events_the_second_does_not_overtake_the_first() {
    let record = in_one_message(&["first", "second"]);
    let aws = Aws::with_fifo_queues();
    aws.step_functions().fails("first", "InternalFailure");
    assert_eq!(consume(&aws, vec![record.clone()]).await, ["two"]);
    assert!(aws.step_functions().started().is_empty());

    aws.step_functions().recovers("first");
    assert!(consume(&aws, vec![record]).await.is_empty());
    assert_eq!(aws.step_functions().started_keys(), ["first", "second"]);
    assert!(aws.work_queue().messages().is_empty(), "it is not split");
}

#[tokio::test(start_paused = true)]
async fn a_message_with_one_new_execution_has_started_something() {
    for (already, outcome) in [
        (&[][..], "Started"),
        (&["first"], "Started"),
        (&["second"], "Started"),
        (&["first", "second"], "Duplicate"),
    ] {
        let aws = Aws::with_fifo_queues();
        let metrics = Lines::default();
        let consumer = consumer(&aws, config(&aws), &metrics);
        for keys in [already, &["first", "second"]] {
            let records = event(&[in_one_message(keys)]);
            let answer = handle(&consumer, &aws, records, deadline(), now()).await;
            assert!(answer.expect("an answer").batch_item_failures.is_empty());
        }
        assert_eq!(metrics.read().pop().expect("a line")[outcome], 1, "{already:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_behind_poison_once_its_dead_letter_is_confirmed() {
    let aws = Aws::with_fifo_queues();
    uploads(&aws, "a2", b"hello");
    assert!(consume(&aws, two_groups()).await.is_empty());
    assert_eq!(group_a(&aws), ["a1", "a3"]);
    let letter = aws.dead_letter_queue().messages()[0].clone();
    assert_eq!(letter.group_id.as_deref(), Some("a"));
    assert_eq!(letter.deduplication_id.as_deref(), Some("a2"));

    let aws = Aws::with_fifo_queues();
    uploads(&aws, "a2", b"hello");
    aws.dead_letter_queue().rejects("a2");
    assert_eq!(consume(&aws, two_groups()).await, ["a2", "a3"]);
    assert_eq!(group_a(&aws), ["a1"]);
}
