use super::*;

/// A message whose body is this sample.
fn holding(id: &str, name: &str) -> Value {
    let mut record = record(id);
    record["body"] = json!(sample(name));
    record
}

#[tokio::test(start_paused = true)]
async fn starts_one_execution_for_each_message_under_its_name() {
    let aws = Aws::new();
    let object = Object::new("devices/7/한글+1.json", br#" {"deviceId": "7"} "#);
    aws.s3().has("device-state", object.version("3HL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"));
    let records = sample_json("sqs-two-messages.json")["Records"].take();
    let records = records.as_array().expect("records").clone();
    assert!(consume(&aws, records).await.is_empty());
    let mut executions = aws.step_functions().started();
    executions.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(executions[0].name, "0c9c35d0b1f4bd4c3da4b10ad45f67fcb8a4e6a1");
    assert_eq!(executions[1].name, "60a564b35e9db02ade816b779bdb953583907372");
    assert_eq!(executions[0].input()["data"]["content"], json!({ "deviceId": "7" }));
    assert_eq!(executions[0].key(), "devices/7/한글+1.json");
    assert_eq!(executions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_message_twice_is_one_execution() {
    let aws = Aws::new();
    let failures = consume(&aws, vec![record("a"), record("a"), record("b")]).await;
    assert!(failures.is_empty());
    assert_eq!(aws.step_functions().started().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn redelivers_only_the_message_that_failed() {
    let aws = Aws::new();
    aws.step_functions().fails("b", "SomethingNew");
    assert_eq!(consume(&aws, vec![record("a"), record("b"), record("c")]).await, ["b"]);
    assert_eq!(aws.step_functions().started().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn seven_messages_seven_outcomes() {
    let aws = Aws::new();
    aws.step_functions().panics("panic");
    aws.step_functions().throttles("throttled");
    let poison = |id: &str, body: &str| {
        let mut record = record(id);
        record["body"] = json!(body);
        record
    };
    let failures = consume_in_sequence(
        &aws,
        vec![
            record("valid"),
            poison("empty", ""),
            poison("odd", "\u{FFFD}\u{85} caf\u{e9} \u{1F4A9}"),
            poison("brackets", &"[".repeat(200_000)),
            record("panic"),
            record("valid"),
            record("throttled"),
        ],
    )
    .await;
    assert_eq!(failures, ["panic"]);
    assert_eq!(aws.step_functions().started_keys(), ["valid"]);
    let dead: Vec<_> =
        aws.dead_letter_queue().messages().iter().map(|letter| letter.body.len()).collect();
    assert_eq!(dead, ["(empty body)".len(), "\u{FFFD}\u{85} caf\u{e9} \u{1F4A9}".len(), 200_000]);
    assert_eq!(aws.work_queue().messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_start_is_tried_again_when_its_next_turn_comes() {
    let aws = Aws::new();
    aws.when("StartExecution").about("b").times(3).fails("ThrottlingException");
    let begin = Instant::now();
    assert!(consume(&aws, ["a", "b", "c", "d"].map(record).to_vec()).await.is_empty());
    assert_eq!(deferred_and_dead(&aws), (0, 0));
    assert_eq!(aws.step_functions().started().len(), 4);
    assert_eq!(aws.count("StartExecution"), 7);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// Nothing is granted, so the delays are those of an outage.
#[tokio::test(start_paused = true)]
async fn what_has_no_turn_for_three_seconds_is_deferred() {
    let aws = Aws::new();
    aws.when("StartExecution").fails("ThrottlingException");
    let begin = Instant::now();
    let records: Vec<Value> = (0..10).map(|n| record(&format!("k{n}"))).collect();
    assert!(consume(&aws, records).await.is_empty());
    assert!(begin.elapsed() < Duration::from_millis(3_100), "{:?}", begin.elapsed());
    assert_eq!(deferred_and_dead(&aws), (10, 0));
    let delays = delays(&aws);
    assert!(delays.iter().all(|delay| (4..=8).contains(delay)), "{delays:?}");
    // Ten at once, and then ever fewer. The SDK's own retries would be three times as many.
    assert!(aws.count("StartExecution") < 25, "{}", aws.count("StartExecution"));
}

/// The time of the batch is over when S3 has been waited for in vain.
#[tokio::test(start_paused = true)]
async fn what_will_have_no_turn_is_not_read() {
    let aws = Aws::new();
    let consumer = consumer(&aws, in_sequence(&aws), &Lines::default());
    let records = |keys: &[&str]| event(&keys.iter().copied().map(record).collect::<Vec<_>>());
    let handle = async |keys| {
        handle(&consumer, &aws, records(keys), deadline(), now()).await.expect("an answer");
    };
    aws.step_functions().throttles("throttled");
    handle(&["throttled"]).await;
    aws.when("GetObject").about("slow").is_never_answered();
    handle(&["slow", "unread"]).await;
    assert_eq!(deferred_and_dead(&aws), (3, 0));
    assert!(aws.s3().read_keys().contains(&"slow".to_owned()));
    assert!(!aws.s3().read_keys().contains(&"unread".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn while_others_are_started_what_has_no_turn_comes_back_soon() {
    let aws = Aws::new();
    aws.step_functions().throttles("b");
    let mut waiting = record("b");
    waiting["messageAttributes"] =
        json!({ "deferrals": { "stringValue": "2", "dataType": "Number" } });
    assert!(consume(&aws, vec![record("a"), waiting, record("c")]).await.is_empty());
    assert!(matches!(delays(&aws)[..], [1..=2]), "{:?}", delays(&aws));
    // Nothing has stopped, so the next back-off is no longer than it would have been.
    assert_eq!(aws.work_queue().messages()[0].text("deferrals"), Some("2"));

    // Step Functions has answered that it is there.
    let aws = Aws::new();
    assert!(consume(&aws, vec![record("a")]).await.is_empty());
    aws.step_functions().throttles("b");
    assert!(consume(&aws, ["a", "b"].map(record).to_vec()).await.is_empty());
    assert!(matches!(delays(&aws)[..], [1..=2]), "{:?}", delays(&aws));

    // What S3 throttles has a back-off.
    let aws = Aws::new();
    aws.when("GetObject").about("b").fails("SlowDown");
    assert!(consume(&aws, ["a", "b", "c"].map(record).to_vec()).await.is_empty());
    assert!(matches!(delays(&aws)[..], [4..=8]), "{:?}", delays(&aws));
}

#[tokio::test(start_paused = true)]
async fn invocations_of_one_environment_share_what_it_has_learnt() {
    let aws = Aws::new();
    let consumer = consumer(&aws, config(&aws), &Lines::default());
    let batch = async |name: &str| {
        let begin = Instant::now();
        let records: Vec<Value> = (0..10).map(|n| record(&format!("{name}{n}"))).collect();
        let answer = handle(&consumer, &aws, event(&records), deadline(), now()).await;
        assert!(answer.expect("an answer").batch_item_failures.is_empty());
        begin.elapsed()
    };
    assert!(batch("before").await < Duration::from_millis(100));
    aws.when("StartExecution").about("throttled0").once().fails("ThrottlingException");
    batch("throttled").await;
    assert!(batch("after").await > Duration::from_millis(300));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(batch("later").await < Duration::from_millis(100));
    assert_eq!(deferred_and_dead(&aws), (0, 0));
}

/// Of the copies on the work queue.
fn delays(aws: &Aws) -> Vec<u64> {
    aws.work_queue().messages().iter().filter_map(|copy| copy.delay_seconds).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deferred_copy_is_the_message_with_one_deferral_more_and_a_delay() {
    let aws = Aws::new();
    aws.step_functions().fails("a", "ExecutionLimitExceeded");
    let mut record = record("a");
    record["messageAttributes"] = json!({
        "deferrals": { "stringValue": "2", "dataType": "Number" },
        "redrives": { "stringValue": "1", "dataType": "Number" },
        "theirs": { "binaryValue": "AAEC", "dataType": "Binary.x" },
    });
    assert!(consume(&aws, vec![record.clone()]).await.is_empty());
    let copy = aws.work_queue().messages()[0].clone();
    assert_eq!(copy.body, record["body"]);
    assert_eq!(copy.group_id.as_deref(), Some("devices/42"));
    assert_eq!(copy.deduplication_id, None);
    assert_eq!(copy.text("deferrals"), Some("3"));
    assert_eq!(copy.text("redrives"), Some("1"));
    assert_eq!(copy.attributes["theirs"].data_type, "Binary.x");
    assert_eq!(copy.attributes["theirs"].binary.as_deref(), Some(&[0, 1, 2][..]));
    // Base 8 s, twice doubled, half of it jitter.
    assert!((16..=32).contains(&copy.delay_seconds.expect("delay")));
}

fn deferred_and_dead(aws: &Aws) -> (usize, usize) {
    (aws.work_queue().messages().len(), aws.dead_letter_queue().messages().len())
}

fn hours_later(hours: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_hours(hours)
}

#[tokio::test(start_paused = true)]
async fn an_event_is_not_deferred_for_ever() {
    for (hours, deferred, dead) in [(71, 1, 0), (72, 0, 1)] {
        let aws = Aws::new();
        aws.step_functions().fails("a", "AccessDeniedException");
        assert!(consume(&aws, vec![deferred_for(hours, record("a"))]).await.is_empty());
        assert_eq!(deferred_and_dead(&aws), (deferred, dead), "{hours} hours");
        if let [letter] = &aws.dead_letter_queue().messages()[..] {
            assert_eq!(letter.text("errorClass"), Some("DeferredTooLong"));
            let reason = letter.text("errorMessage").expect("reason");
            assert!(reason.starts_with("AccessDenied for 72 hours: "), "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_first_deferral_is_set_once_and_kept() {
    let since = async |record| {
        let aws = Aws::new();
        aws.step_functions().throttles("a");
        consume(&aws, vec![record]).await;
        aws.work_queue().messages()[0].text("deferredSince").map(str::to_owned)
    };
    assert_eq!(since(record("a")).await, Some(now().to_string()));
    let before = deferred_for(5, record("a"));
    assert_eq!(since(before).await, Some(hours_later(-5).to_string()));
}

/// As after an outage of days, or a restore, or with a mapping that was disabled.
#[tokio::test(start_paused = true)]
async fn an_old_event_has_its_full_time_from_its_first_deferral_on() {
    let aws = Aws::new();
    aws.step_functions().throttles("a");
    let consumer = consumer(&aws, config(&aws), &Lines::default());
    let mut of_an_earlier_version = record("a");
    of_an_earlier_version["messageAttributes"] =
        json!({ "deferrals": { "stringValue": "300", "dataType": "Number" } });
    for record in [record("a"), of_an_earlier_version] {
        let late = hours_later(24 * 100);
        let response = handle(&consumer, &aws, event(&[record]), deadline(), late).await;
        assert!(response.expect("an answer").batch_item_failures.is_empty());
    }
    assert_eq!(deferred_and_dead(&aws), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_itself_refused_expires() {
    let aws = Aws::new();
    aws.step_functions().throttles("a");
    let records = ["a", "b", "c"].map(|key| deferred_for(100, record(key)));
    assert!(consume_in_sequence(&aws, records.to_vec()).await.is_empty());
    let tried = aws.step_functions().tried_keys();
    assert_eq!(tried, ["a"], "there was no turn for the others");
    assert_eq!(deferred_and_dead(&aws), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_why() {
    let aws = Aws::new();
    let mut poison = record("poison");
    poison["body"] = json!("hello");
    assert!(consume(&aws, vec![poison, record("good")]).await.is_empty());
    assert_eq!(aws.step_functions().started_keys(), ["good"]);
    let letter = aws.dead_letter_queue().messages()[0].clone();
    assert_eq!(letter.body, "hello");
    assert_eq!(letter.delay_seconds, None);
    assert_eq!(letter.text("errorClass"), Some("Undecodable"));
    let reason = letter.text("errorMessage").expect("reason");
    assert!(reason.starts_with("cannot decode a message: "), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_or_a_dead_letter_that_is_not_confirmed_is_delivered_again() {
    let aws = Aws::new();
    aws.step_functions().throttles("throttled");
    aws.work_queue().rejects("throttled");
    uploads(&aws, "text", b"hello");
    aws.dead_letter_queue().rejects("text");
    let mut failures = consume(&aws, vec![record("text"), record("throttled")]).await;
    failures.sort();
    assert_eq!(failures, ["text", "throttled"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_record_without_an_id_brings_the_whole_batch_back() {
    for id in [json!(null), json!("")] {
        let aws = Aws::new();
        aws.step_functions().fails("b", "SomethingNew");
        let consumer = consumer(&aws, config(&aws), &Lines::default());
        let mut nameless = record("b");
        nameless["messageId"] = id;
        let event = event(&[record("a"), nameless]);
        let answer = handle(&consumer, &aws, event, deadline(), now()).await;
        answer.expect_err("the batch comes back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_several_events_is_split_into_one_for_each() {
    let aws = Aws::new();
    let mut direct = holding("direct", "s3-two-records.json");
    direct["messageAttributes"] = json!({
        "redrives": { "stringValue": "2", "dataType": "Number" },
        "deferrals": { "stringValue": "9", "dataType": "Number" },
    });
    assert!(consume(&aws, vec![direct.clone()]).await.is_empty());
    assert!(aws.step_functions().started().is_empty(), "each is started from its own message");
    let copies = aws.work_queue().messages();
    aws.work_queue().is_purged();
    assert_eq!(copies.len(), 2);
    for copy in &copies {
        let names: Vec<_> = copy.attributes.keys().collect();
        assert_eq!(names, ["redrives"], "its journey begins here");
        let mut single = record(&copy.id);
        single["body"] = json!(copy.body);
        assert!(consume(&aws, vec![single]).await.is_empty());
    }
    assert_eq!(aws.step_functions().started().len(), 2);

    // What is not confirmed keeps the message, and the repeat is harmless.
    let aws = Aws::new();
    aws.work_queue().rejects("devices/7/한글+1.json");
    assert_eq!(consume(&aws, vec![direct]).await, ["direct"]);
}

#[tokio::test(start_paused = true)]
async fn of_a_message_that_is_decodable_in_part_both_parts_are_kept() {
    let body = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let mut half = record("half");
    half["body"] = json!(body);
    let aws = Aws::new();
    assert!(consume(&aws, vec![half.clone()]).await.is_empty());
    assert_eq!(deferred_and_dead(&aws), (1, 1));
    assert_eq!(aws.dead_letter_queue().messages()[0].body, body);
    for queue in [Aws::work_queue, Aws::dead_letter_queue] {
        let aws = Aws::new();
        queue(&aws).rejects_all();
        assert_eq!(consume(&aws, vec![half.clone()]).await, ["half"], "{}", queue(&aws).name());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_without_an_event_is_acknowledged_and_counted_as_empty() {
    let aws = Aws::new();
    let test = holding("test", "s3-test-event.json");
    let metrics = Lines::default();
    assert!(consume_with(&aws, config(&aws), &metrics, event(&[test])).await.is_empty());
    assert!(aws.dead_letter_queue().messages().is_empty());
    let batch = &metrics.read()[0];
    assert_eq!((&batch["Empty"], &batch["Started"]), (&json!(1), &json!(0)));
}

/// A brownout is as long as it is: it must not use up the receives of a message.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_unavailable_twice_is_not_asked_again_in_the_batch() {
    let aws = Aws::new();
    aws.when("StartExecution").fails("InternalServerError");
    let records = ["a", "b", "c", "d"].map(record).to_vec();
    assert!(consume_in_sequence(&aws, records).await.is_empty());
    let tried = aws.step_functions().tried_keys();
    assert_eq!((tried.len(), aws.work_queue().messages().len()), (2, 4), "(tried, deferred)");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_turn_under_the_start_rate_is_deferred() {
    let aws = Aws::new();
    let config = Config { start_rate_per_second: Some(1), ..config(&aws) };
    let consumer = consumer(&aws, config, &Lines::default());
    let records: Vec<Value> = (0..100).map(|n| record(&format!("k{n}"))).collect();
    let ten_seconds = Deadline::at(Instant::now() + Duration::from_secs(10));
    let answer = handle(&consumer, &aws, event(&records), ten_seconds, now()).await;
    assert!(answer.expect("an answer").batch_item_failures.is_empty());
    // Ten seconds less the reserve for settling.
    let started = aws.step_functions().started().len();
    assert_eq!((started, aws.work_queue().messages().len()), (6, 94));
}

/// The turns of the start rate are seconds apart, and a refused start does not wait for its next one
/// beyond the three seconds that every start may wait.
#[tokio::test(start_paused = true)]
async fn what_is_refused_does_not_wait_long_for_another_turn_under_the_start_rate() {
    let aws = Aws::new();
    aws.when("StartExecution").fails("ThrottlingException");
    let config = Config { start_rate_per_second: Some(1), ..config(&aws) };
    let consumer = consumer(&aws, config, &Lines::default());
    let begin = Instant::now();
    let records: Vec<Value> = (0..10).map(|n| record(&format!("k{n}"))).collect();
    let answer = handle(&consumer, &aws, event(&records), deadline(), now()).await;
    assert!(answer.expect("an answer").batch_item_failures.is_empty());
    // The last of the ten has its first turn after nine seconds.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(deferred_and_dead(&aws), (10, 0));
}

/// SQS takes no more than 1 MiB, of which the reason is a part.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_has_room_for_its_reason_or_goes_without() {
    for (bytes, attributes) in [(1_048_576, 0), (1_048_576 - 100, 2), (1_000, 2)] {
        let aws = Aws::new();
        let mut big = record("big");
        big["body"] = json!("x".repeat(bytes));
        assert!(consume(&aws, vec![big]).await.is_empty());
        // The simulated SQS refuses what is larger, as SQS does.
        let letter = aws.dead_letter_queue().messages()[0].clone();
        assert_eq!((letter.body.len(), letter.attributes.len()), (bytes, attributes));
    }
}

#[tokio::test(start_paused = true)]
async fn with_no_time_left_nothing_is_started_and_nothing_is_lost() {
    let aws = Aws::new();
    let past = Deadline::at(Instant::now());
    let consumer = consumer(&aws, config(&aws), &Lines::default());
    let response = handle(&consumer, &aws, event(&[record("a")]), past, now()).await;
    let failures = response.expect("an answer").batch_item_failures.len();
    let copies = aws.work_queue().messages().len();
    assert_eq!(failures + copies, 1, "(delivered again, or confirmed as a copy)");
    assert!(aws.step_functions().started().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_message_is_counted_once_and_reasons_are_counted_beside() {
    let aws = Aws::new();
    uploads(&aws, "text", b"hello");
    aws.step_functions().fails("broken", "SomethingNew");
    aws.step_functions().throttles("throttled");
    let keys = ["a", "a", "b", "text", "broken", "throttled", "after"];
    let mut records = keys.map(record).to_vec();
    records.push(holding("two", "s3-two-records.json"));
    let metrics = Lines::default();
    consume_with(&aws, in_sequence(&aws), &metrics, event(&records)).await;
    let lines = metrics.read();
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
    assert_eq!(counted, [8, 2, 1, 0, 1, 1, 2, 1]);
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
    let aws = Aws::new();
    let mut redriven = record("redriven");
    redriven["messageAttributes"]["redrives"] = json!({ "dataType": "Number", "stringValue": "3" });
    assert!(consume(&aws, vec![redriven]).await.is_empty());
    assert_eq!(aws.step_functions().started()[0].input()["redrives"], 3);
}

#[tokio::test(start_paused = true)]
async fn every_outcome_has_one_log_line_that_names_the_event() {
    let aws = Aws::new();
    uploads(&aws, "text", b"hello");
    aws.step_functions().fails("broken", "SomethingNew");
    aws.step_functions().throttles("throttled");
    aws.step_functions().panics("panic");
    let mut records = ["a", "a", "text", "broken", "panic", "throttled"].map(record).to_vec();
    records.push(holding("none", "s3-test-event.json"));
    records.push(holding("two", "s3-two-records.json"));
    let log = Lines::default();
    let captured = log.capture_log();
    consume_in_sequence(&aws, records).await;
    drop(captured);
    let lines = log.read();
    let said = |message: &str| {
        let mut said = lines.iter().filter(|line| line["message"] == message);
        let line = said.next().unwrap_or_else(|| panic!("no {message}: {lines:?}")).clone();
        (line, said.count())
    };
    let a = message("a")["id"].clone();
    for outcome in ["started", "duplicate"] {
        let (line, others) = said(outcome);
        assert_eq!((&line["event.id"], &line["execution.name"], others), (&a, &a, 0));
        assert_eq!((&line["object.key"], &line["message.id"]), (&json!("a"), &json!("a")));
    }
    let (line, _) = said("dead-lettered");
    assert_eq!((&line["level"], &line["error.class"]), (&json!("WARN"), &json!("NotJson")));
    let (line, _) = said("deferred");
    assert_eq!((&line["cause"], &line["object.key"]), (&json!("Throttled"), &json!("throttled")));
    let (line, _) = said("failed");
    assert_eq!((&line["level"], &line["object.key"]), (&json!("ERROR"), &json!("broken")));
    let panicked = lines.iter().find(|line| line["object.key"] == "panic").expect("a line");
    assert_eq!(panicked["error"], "panicked: as the test says");
    assert_eq!((said("empty").1, said("split").1, said("split off").1), (0, 0, 1));
}

/// Only throttled starts wait for the turn that the consumer gives them.
#[tokio::test(start_paused = true)]
async fn a_start_that_breaks_once_is_tried_again_by_the_sdk() {
    let aws = Aws::new();
    aws.when("StartExecution").once().fails("InternalServerError");
    assert!(consume(&aws, vec![record("k")]).await.is_empty());
    assert_eq!((aws.count("StartExecution"), aws.step_functions().started().len()), (2, 1));
    assert!(aws.work_queue().messages().is_empty(), "it is not deferred");
}
