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
    let fake = Fake::new().start_fails("b", "SomethingNew");
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

fn hours_later(hours: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_hours(hours)
}

/// As a message that was first deferred this many hours before [`now`].
fn deferred_for(hours: i64, mut record: Value) -> Value {
    let since = now() - jiff::SignedDuration::from_hours(hours);
    record["messageAttributes"] = json!({
        "deferrals": { "stringValue": "300", "dataType": "Number" },
        "deferredSince": { "stringValue": since.to_string(), "dataType": "String" },
    });
    record
}

#[tokio::test(start_paused = true)]
async fn an_event_is_not_deferred_for_ever() {
    for (hours, deferred, dead) in [(71, 1, 0), (72, 0, 1)] {
        let fake = Fake::new().start_fails("a", "AccessDeniedException");
        assert!(consume(&fake, vec![deferred_for(hours, record("a"))]).await.is_empty());
        let state = fake.state();
        assert_eq!((state.work.len(), state.dead.len()), (deferred, dead), "{hours} hours");
        if let [letter] = &state.dead[..] {
            let attributes = letter.message_attributes().expect("attributes");
            assert_eq!(attributes["errorClass"].string_value(), Some("DeferredTooLong"));
            let reason = attributes["errorMessage"].string_value().expect("reason");
            assert!(reason.starts_with("AccessDenied for 72 hours: "), "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_first_deferral_is_set_once_and_kept() {
    let since = |fake: &Fake| {
        let state = fake.state();
        let attributes = state.work[0].message_attributes().expect("attributes");
        attributes["deferredSince"].string_value().map(str::to_owned)
    };
    let fake = Fake::new().start_fails("a", "ThrottlingException");
    consume(&fake, vec![record("a")]).await;
    assert_eq!(since(&fake), Some(now().to_string()));

    let fake = Fake::new().start_fails("a", "ThrottlingException");
    consume(&fake, vec![deferred_for(5, record("a"))]).await;
    assert_eq!(since(&fake), Some(hours_later(-5).to_string()));
}

/// As after an outage of days, or a restore, or with a mapping that was disabled.
#[tokio::test(start_paused = true)]
async fn an_old_event_has_its_full_time_from_its_first_deferral_on() {
    let fake = Fake::new().start_fails("a", "ThrottlingException");
    let mut of_an_earlier_version = record("a");
    of_an_earlier_version["messageAttributes"] =
        json!({ "deferrals": { "stringValue": "300", "dataType": "Number" } });
    for record in [record("a"), of_an_earlier_version] {
        let response =
            fake.consumer().handle(event(&[record]), deadline(), hours_later(24 * 100)).await;
        assert!(response.expect("an answer").batch_item_failures.is_empty());
    }
    let state = fake.state();
    assert_eq!((state.work.len(), state.dead.len()), (2, 0), "(deferred, dead)");
}

#[tokio::test(start_paused = true)]
async fn only_what_was_itself_refused_expires() {
    let fake = Fake::new().in_sequence().start_fails("a", "ThrottlingException");
    let records = ["a", "b", "c"].map(|key| deferred_for(100, record(key)));
    assert!(consume(&fake, records.to_vec()).await.is_empty());
    let state = fake.state();
    assert_eq!(state.tries, ["a"], "what is throttled is not asked again");
    assert_eq!((state.work.len(), state.dead.len()), (2, 1), "(deferred, dead)");
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
        let fake = Fake::new().start_fails("b", "SomethingNew");
        let mut nameless = record("b");
        nameless["messageId"] = id;
        let event = event(&[record("a"), nameless]);
        let answer = fake.consumer().handle(event, deadline(), now()).await;
        answer.expect_err("the batch comes back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_several_events_is_split_into_one_for_each() {
    let fake = Fake::new();
    let mut direct = record("direct");
    direct["body"] = json!(sample("s3-two-records.json").to_string());
    direct["messageAttributes"] = json!({
        "redrives": { "stringValue": "2", "dataType": "Number" },
        "deferrals": { "stringValue": "9", "dataType": "Number" },
    });
    assert!(consume(&fake, vec![direct.clone()]).await.is_empty());
    assert!(fake.started().is_empty(), "each is started from its own message");
    let copies = {
        let mut state = fake.state();
        std::mem::take(&mut state.work)
    };
    assert_eq!(copies.len(), 2);
    for copy in &copies {
        let attributes = copy.message_attributes().expect("attributes");
        assert_eq!(attributes.keys().collect::<Vec<_>>(), ["redrives"], "its journey begins here");
        let mut single = record(copy.id());
        single["body"] = json!(copy.message_body());
        assert!(consume(&fake, vec![single]).await.is_empty());
    }
    assert_eq!(fake.started().len(), 2);

    // What is not confirmed keeps the message, and the repeat is harmless.
    let fake = Fake::new().queue_rejects("work", "devices/7/");
    assert_eq!(consume(&fake, vec![direct]).await, ["direct"]);
}

#[tokio::test(start_paused = true)]
async fn of_a_message_that_is_decodable_in_part_both_parts_are_kept() {
    let body = sample("s3-two-records.json").to_string().replacen("\"2.1\"", "\"3.1\"", 1);
    let mut half = record("half");
    half["body"] = json!(body);
    let fake = Fake::new();
    assert!(consume(&fake, vec![half.clone()]).await.is_empty());
    {
        let state = fake.state();
        assert_eq!((state.work.len(), state.dead.len()), (1, 1));
        assert_eq!(state.dead[0].message_body(), body);
    }
    for queue in ["work", "dead"] {
        let fake = Fake::new().queue_rejects(queue, "devices");
        assert_eq!(consume(&fake, vec![half.clone()]).await, ["half"], "{queue}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_without_an_event_is_acknowledged_and_counted_as_empty() {
    let fake = Fake::new();
    let mut test = record("test");
    test["body"] = json!(sample("s3-test-event.json").to_string());
    assert!(consume(&fake, vec![test]).await.is_empty());
    assert!(fake.state().dead.is_empty());
    let batch = &fake.lines.read()[0];
    assert_eq!((&batch["Empty"], &batch["Started"]), (&json!(1), &json!(0)));
}

/// A brownout is as long as it is: it must not use up the receives of a message.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_unavailable_twice_is_not_asked_again_in_the_batch() {
    let mut fake = Fake::new().in_sequence();
    for key in ["a", "b", "c", "d"] {
        fake = fake.start_fails(key, "InternalServerError");
    }
    assert!(consume(&fake, ["a", "b", "c", "d"].map(record).to_vec()).await.is_empty());
    let state = fake.state();
    assert_eq!((state.tries.len(), state.work.len()), (2, 4), "(tried, deferred)");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_turn_under_the_start_rate_is_deferred() {
    let mut fake = Fake::new();
    fake.starts_per_second = Some(1);
    let records: Vec<Value> = (0..100).map(|n| record(&format!("k{n}"))).collect();
    let ten_seconds = Deadline::at(Instant::now() + Duration::from_secs(10));
    let answer = fake.consumer().handle(event(&records), ten_seconds, now()).await;
    assert!(answer.expect("an answer").batch_item_failures.is_empty());
    // Ten seconds less the reserve for settling.
    assert_eq!((fake.started().len(), fake.state().work.len()), (6, 94));
}

/// SQS takes no more than 1 MiB, of which the reason is a part.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_has_room_for_its_reason_or_goes_without() {
    for (bytes, attributes) in [(1_048_576, 0), (1_048_576 - 100, 2), (1_000, 2)] {
        let fake = Fake::new();
        let mut big = record("big");
        big["body"] = json!("x".repeat(bytes));
        assert!(consume(&fake, vec![big]).await.is_empty());
        let state = fake.state();
        let letter = &state.dead[0];
        let given = letter.message_attributes().cloned().unwrap_or_default();
        assert_eq!((letter.message_body().len(), given.len()), (bytes, attributes));
        let size = |(name, value): (&String, &aws_sdk_sqs::types::MessageAttributeValue)| {
            name.len() + value.data_type().len() + value.string_value().map_or(0, str::len)
        };
        assert!(bytes + given.iter().map(size).sum::<usize>() <= 1_048_576);
    }
}

#[tokio::test(start_paused = true)]
async fn with_no_time_left_nothing_is_started_and_nothing_is_lost() {
    let fake = Fake::new();
    let past = Deadline::at(Instant::now());
    let response = fake.consumer().handle(event(&[record("a")]), past, now()).await;
    let failures = response.expect("an answer").batch_item_failures.len();
    assert_eq!(failures + fake.state().work.len(), 1, "(delivered again, or confirmed as a copy)");
    assert!(fake.started().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_message_is_counted_once_and_reasons_are_counted_beside() {
    let fake = Fake::new()
        .in_sequence()
        .object("text", b"hello")
        .start_fails("broken", "SomethingNew")
        .start_fails("throttled", "ThrottlingException");
    let keys = ["a", "a", "b", "text", "broken", "throttled", "after"];
    consume(&fake, keys.map(record).to_vec()).await;
    let lines = fake.lines.read();
    let [batch, class, cause] = &lines[..] else { panic!("{lines:?}") };
    let counts = [
        "Received",
        "Started",
        "Duplicate",
        "Empty",
        "Split",
        "DeadLettered",
        "Deferred",
        "Failed",
    ];
    let counted = counts.map(|name| batch[name].as_u64().expect("a number"));
    assert_eq!(counted, [7, 2, 1, 0, 0, 1, 2, 1]);
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
