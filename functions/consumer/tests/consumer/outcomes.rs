use super::*;

#[tokio::test(start_paused = true)]
async fn starts_one_execution_for_each_message_under_its_name() {
    let fake = Fake::new().object("devices/7/한글+1.json", br#" {"deviceId": "7"} "#);
    let event = serde_json::from_value(sample("sqs-two-messages.json")).expect("SQS event");
    assert!(consume_event(&fake, event).await.is_empty());
    let mut executions = fake.state().executions.clone();
    executions.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(executions[0].0, "0c9c35d0b1f4bd4c3da4b10ad45f67fcb8a4e6a1");
    assert_eq!(executions[1].0, "60a564b35e9db02ade816b779bdb953583907372");
    assert_eq!(executions[0].1["data"]["content"], json!({ "deviceId": "7" }));
    assert_eq!(executions[0].1["data"]["key"], "devices/7/한글+1.json");
    assert_eq!(executions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_message_twice_is_one_execution() {
    let fake = Fake::new();
    let failures = consume(&fake, vec![record("a"), record("a"), record("b")]).await;
    assert!(failures.is_empty());
    assert_eq!(fake.state().executions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn redelivers_only_the_message_that_failed() {
    let fake = Fake::new().start_fails("b", "InternalFailure");
    assert_eq!(consume(&fake, vec![record("a"), record("b"), record("c")]).await, ["b"]);
    assert_eq!(fake.state().executions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn seven_messages_seven_outcomes() {
    let fake = Fake::new()
        .in_sequence()
        .start_panics("panic")
        .start_fails("throttled", "ThrottlingException");
    let poison = |id: &str, body: &str| {
        let mut record = record(id);
        record["body"] = json!(body);
        record
    };
    let failures = consume(
        &fake,
        vec![
            record("valid"),
            poison("empty", ""),
            poison("odd", "\u{FFFD}\u{0} caf\u{e9} \u{1F4A9}"),
            poison("brackets", &"[".repeat(200_000)),
            record("panic"),
            record("valid"),
            record("throttled"),
        ],
    )
    .await;
    assert_eq!(failures, ["panic"]);
    assert_eq!(fake.started(), ["valid"]);
    let state = fake.state();
    let dead: Vec<_> = state.dead.iter().map(|entry| entry.message_body().len()).collect();
    assert_eq!(dead, ["(empty body)".len(), "\u{FFFD}\u{0} caf\u{e9} \u{1F4A9}".len(), 200_000]);
    assert_eq!(state.work.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_first_throttle_the_rest_of_the_batch_is_not_asked_again() {
    let fake = Fake::new().in_sequence().start_fails("b", "ThrottlingException");
    let failures = consume(&fake, ["a", "b", "c", "d"].map(record).to_vec()).await;
    assert!(failures.is_empty());
    let state = fake.state();
    assert_eq!(state.tries, ["a", "b"]);
    assert_eq!(state.work.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deferred_copy_is_the_message_with_one_deferral_more_and_a_delay() {
    let fake = Fake::new().start_fails("a", "ExecutionLimitExceeded");
    let mut record = record("a");
    record["messageAttributes"] = json!({
        "deferrals": { "stringValue": "2", "dataType": "Number" },
        "redrives": { "stringValue": "1", "dataType": "Number" },
        "theirs": { "binaryValue": "AAEC", "dataType": "Binary.x" },
    });
    assert!(consume(&fake, vec![record.clone()]).await.is_empty());
    let state = fake.state();
    let copy = &state.work[0];
    assert_eq!(copy.message_body(), record["body"]);
    assert_eq!(copy.message_group_id(), Some("devices/42"));
    assert_eq!(copy.message_deduplication_id(), None);
    let attributes = copy.message_attributes().expect("attributes");
    assert_eq!(attributes["deferrals"].string_value(), Some("3"));
    assert_eq!(attributes["redrives"].string_value(), Some("1"));
    assert_eq!(attributes["theirs"].data_type(), "Binary.x");
    assert_eq!(attributes["theirs"].binary_value().expect("binary").as_ref(), [0, 1, 2]);
    // Base 8 s, twice doubled, half of it jitter.
    assert!((16..=32).contains(&copy.delay_seconds().expect("delay")));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_not_deferred_for_ever() {
    let fake = Fake::new().start_fails("a", "AccessDeniedException");
    let consumer = fake.consumer();
    let hours = |hours: i64| now() + jiff::SignedDuration::from_hours(hours);
    for (now, deferred, dead) in [(hours(71), 1, 0), (hours(72), 1, 1)] {
        let response = consumer.handle(event(&[record("a")]), deadline(), now).await;
        assert!(response.expect("an answer").batch_item_failures.is_empty());
        let state = fake.state();
        assert_eq!((state.work.len(), state.dead.len()), (deferred, dead));
    }
    let state = fake.state();
    let attributes = state.dead[0].message_attributes().expect("attributes");
    assert_eq!(attributes["errorClass"].string_value(), Some("DeferredTooLong"));
    let reason = attributes["errorMessage"].string_value().expect("reason");
    assert!(reason.starts_with("AccessDenied for 72 hours: "), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_why() {
    let fake = Fake::new();
    let mut poison = record("poison");
    poison["body"] = json!("hello");
    assert!(consume(&fake, vec![poison, record("good")]).await.is_empty());
    assert_eq!(fake.started(), ["good"]);
    let state = fake.state();
    assert_eq!(state.dead[0].message_body(), "hello");
    assert_eq!(state.dead[0].delay_seconds(), None);
    let attributes = state.dead[0].message_attributes().expect("attributes");
    assert_eq!(attributes["errorClass"].string_value(), Some("Undecodable"));
    let reason = attributes["errorMessage"].string_value().expect("reason");
    assert!(reason.starts_with("cannot decode a message: "), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_or_a_dead_letter_that_is_not_confirmed_is_delivered_again() {
    let fake = Fake::new()
        .start_fails("throttled", "ThrottlingException")
        .queue_rejects("work", "throttled")
        .object("text", b"hello")
        .queue_rejects("dead", "text");
    let mut failures = consume(&fake, vec![record("text"), record("throttled")]).await;
    failures.sort();
    assert_eq!(failures, ["text", "throttled"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_record_without_an_id_brings_the_whole_batch_back() {
    for id in [json!(null), json!("")] {
        let fake = Fake::new().start_fails("b", "InternalFailure");
        let mut nameless = record("b");
        nameless["messageId"] = id;
        let event = event(&[record("a"), nameless]);
        let answer = fake.consumer().handle(event, deadline(), now()).await;
        answer.expect_err("the batch comes back");
    }
}

#[tokio::test(start_paused = true)]
async fn every_record_of_a_notification_that_came_without_the_forwarder_is_started() {
    let fake = Fake::new();
    let mut direct = record("direct");
    direct["body"] = json!(sample("s3-two-records.json").to_string());
    assert!(consume(&fake, vec![direct.clone()]).await.is_empty());
    assert_eq!(fake.state().executions.len(), 2);

    // One of the two fails: the message comes back, and the other one is a duplicate then.
    let fake = Fake::new().start_fails("devices/7/한글+1.json", "InternalFailure");
    assert_eq!(consume(&fake, vec![direct.clone()]).await, ["direct"]);
    fake.start_succeeds("devices/7/한글+1.json");
    assert!(consume(&fake, vec![direct]).await.is_empty());
    assert_eq!(fake.state().executions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_without_an_event_is_acknowledged() {
    let fake = Fake::new();
    let mut test = record("test");
    test["body"] = json!(sample("s3-test-event.json").to_string());
    assert!(consume(&fake, vec![test]).await.is_empty());
    assert!(fake.state().dead.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_begun_before_the_deadline_is_delivered_again() {
    let mut fake = Fake::new();
    fake.starts_per_second = Some(1);
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let failures = consume(&fake, keys.iter().map(|key| record(key)).collect()).await;
    let started = fake.started();
    // Thirty seconds less the reserve for settling.
    assert!((25..=27).contains(&started.len()), "{}", started.len());
    let mut all: Vec<String> = started.into_iter().chain(failures).collect();
    all.sort();
    let mut keys = keys;
    keys.sort();
    assert_eq!(all, keys);
}

#[tokio::test(start_paused = true)]
async fn with_no_time_left_everything_is_delivered_again() {
    let fake = Fake::new();
    let past = Deadline::at(Instant::now());
    let response = fake.consumer().handle(event(&[record("a")]), past, now()).await;
    assert_eq!(response.expect("an answer").batch_item_failures.len(), 1);
    assert!(fake.started().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_message_is_counted_once_and_reasons_are_counted_beside() {
    let fake = Fake::new()
        .in_sequence()
        .object("text", b"hello")
        .start_fails("broken", "InternalFailure")
        .start_fails("throttled", "ThrottlingException");
    let keys = ["a", "a", "b", "text", "broken", "throttled", "after"];
    consume(&fake, keys.map(record).to_vec()).await;
    let lines = fake.lines.read();
    let [batch, class, cause] = &lines[..] else { panic!("{lines:?}") };
    let counts = ["Received", "Started", "Duplicate", "DeadLettered", "Deferred", "Failed"];
    assert_eq!(counts.map(|name| batch[name].as_u64().expect("a number")), [7, 2, 1, 1, 2, 1]);
    // Both events are as old as the samples: five minutes less 123 ms.
    assert_eq!(batch["EventAgeAtStart"], json!({ "Values": [299_877, 299_877], "Counts": [1, 1] }));
    assert_eq!(class["ErrorClass"], "NotJson");
    assert_eq!(class["DeadLettered"], 1);
    assert_eq!(
        class["_aws"]["CloudWatchMetrics"][0]["Dimensions"],
        json!([["FunctionName", "ErrorClass"]])
    );
    assert_eq!((&cause["Cause"], &cause["Deferred"]), (&json!("Throttled"), &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn an_execution_is_told_how_often_its_message_was_redriven() {
    let fake = Fake::new();
    let mut redriven = record("redriven");
    redriven["messageAttributes"]["redrives"] = json!({ "dataType": "Number", "stringValue": "3" });
    assert!(consume(&fake, vec![redriven]).await.is_empty());
    assert_eq!(fake.state().executions[0].1["redrives"], 3);
}
