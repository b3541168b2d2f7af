use super::*;

#[tokio::test(start_paused = true)]
async fn yesterdays_letter_goes_back_and_todays_stays() {
    let today = letter("today").sent("2026-11-20T15:00:00Z");
    let stack = Stack::with([letter("yesterday"), today]);
    let report = nightly(&stack).await;
    assert_eq!(stack.keys(), ["yesterday"]);
    assert_eq!(stack.left(), ["message-1"]);
    assert_eq!(stack.dead().visible(), 1);
    assert_eq!(
        report,
        Report {
            before: "2026-11-20T15:00:00Z".to_owned(),
            nightly: true,
            summary: "1 redriven, 1 too new".to_owned(),
            seen: 2,
            selected: 1,
            redriven: 1,
            too_new: 1,
            released: 1,
            left: Some(1),
            oldest_left_seconds: Some(6 * 3_600),
            complete: true,
            duration_ms: report.duration_ms,
            ..Report::default()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_redriven_message_may_be_deferred_for_its_full_time_again() {
    let since = Attribute::text(&now().to_string());
    let letter = letter("k").with("deferrals", Attribute::text("300"));
    let stack = Stack::with([letter.with("deferredSince", since)]);
    nightly(&stack).await;
    let attributes = &stack.work().messages()[0].attributes;
    assert_eq!(attributes.get("deferrals"), None);
    assert_eq!(attributes.get("deferredSince"), None);
}

#[tokio::test(start_paused = true)]
async fn body_attributes_and_group_are_kept_and_the_redrive_is_counted() {
    let body = format!(" {} ", message("k"));
    let theirs = letter_of(&body).with("theirs", Attribute::text("x"));
    let stack = Stack::with([theirs.redrives(1).group("devices/9")]);
    nightly(&stack).await;
    let sent = &stack.work().messages()[0];
    assert_eq!(sent.body, body);
    assert_eq!(sent.group_id.as_deref(), Some("devices/9"));
    assert_eq!(sent.text("redrives"), Some("2"));
    assert_eq!(sent.text("theirs"), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_with_its_count_of_redrives_is_archived() {
    // "redrives", "Number" and "1".
    const COUNT: usize = 8 + 6 + 1;
    let body = message("k").to_string();
    let padded = |bytes: usize| format!("{body}{}", " ".repeat(bytes - body.len()));
    let fits = padded(MAX_MESSAGE_BYTES - COUNT);
    let too_large = padded(MAX_MESSAGE_BYTES - COUNT + 1);
    let stack = Stack::with([letter_of(&fits), letter_of(&too_large)]);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed), (1, 0));
    assert_eq!(report.archived, [("EventTooLarge".to_owned(), 1)].into());
    assert!(stack.left().is_empty());
    assert_eq!(stack.work().messages()[0].body, fits);
    assert_eq!(stack.document()["body"], too_large);
}

#[tokio::test(start_paused = true)]
async fn foreign_envelopes_are_unwrapped() {
    let stack = Stack::with([
        letter_of(&sample("lambda-on-failure-destination-body.json")),
        letter_of(&sample("s3-two-records.json")),
        letter_of(&sample("eventbridge-object-created-key-not-encoded.json")),
    ]);
    let report = nightly(&stack).await;
    assert_eq!(report.redriven, 3);
    assert!(stack.left().is_empty());
    let first = "devices/42/state 2026-11-20T21:00:00Z.json";
    assert_eq!(stack.keys(), [first, first, first, "devices/7/한글+1.json"]);
    for sent in stack.work().messages() {
        assert!(sent.group_id.expect("group").starts_with("devices/"));
        assert!(sent.body.starts_with(r#"{"specversion":"1.0""#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_execution_goes_back_as_its_next_attempt() {
    let failed =
        json!({ "failedExecution": { "name": message("k")["id"] }, "event": message("k") });
    let letter = letter_of(&failed.to_string()).class("DynamoDB.Throttling");
    let stack = Stack::with([letter, letter_of(&sample("step-functions-status-failed.json"))]);
    assert_eq!(nightly(&stack).await.redriven, 2);
    let sent = stack.work().messages();
    assert!(sent.iter().all(|message| message.json()["attempt"] == 1));
}

pub(super) const WITHOUT_INPUT: &str = "step-functions-status-timed-out-without-input.json";

/// Has the execution that this status change is about, with this input. Returns the input with the
/// name of the execution for its id.
pub(super) fn has_execution_without_input(stack: &Stack, mut input: Value) -> Value {
    let change = sample_json(WITHOUT_INPUT);
    let arn = change["detail"]["executionArn"].as_str().expect("an ARN").to_owned();
    let name = arn.rsplit(':').next().expect("a name");
    input["id"] = json!(name);
    let execution = Execution::new(name, &input.to_string(), now());
    let execution = Execution { arn, ..execution };
    stack.aws.step_functions().has(execution.ended(now(), Status::TimedOut));
    input
}

#[tokio::test(start_paused = true)]
async fn an_input_that_was_left_out_of_an_event_is_read_from_the_execution() {
    let stack = Stack::with([letter_of(&sample(WITHOUT_INPUT))]);
    let mut input = message("large");
    input["data"]["content"] = json!({ "deviceId": "42" });
    let input = has_execution_without_input(&stack, input);
    for request in [json!({ "dryRun": true }), json!({})] {
        let report = redrive(&stack, &request).await.expect("a report");
        assert_eq!((report.redriven, report.archived.len()), (1, 0));
    }
    let mut again = message("large");
    again["id"] = input["id"].clone();
    again["attempt"] = json!(1);
    let [sent] = stack.work().messages().try_into().expect("one");
    assert_eq!(sent.json(), again);
    assert!(stack.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_input_that_is_left_out_and_gone_is_archived_with_what_there_is() {
    let stack = Stack::with([letter_of(&sample(WITHOUT_INPUT))]);
    let report = nightly(&stack).await;
    assert_eq!(report.archived, [("Undecodable".to_owned(), 1)].into());
    let document = stack.document();
    let message = document["message"].as_str().expect("a message");
    assert!(message.contains("expected the input, which Step Functions leaves out"), "{message}");
    assert_eq!(document["body"], sample(WITHOUT_INPUT));
}

#[tokio::test(start_paused = true)]
async fn an_input_that_cannot_be_read_now_is_left_for_the_next_run() {
    let stack = Stack::with([letter_of(&sample(WITHOUT_INPUT)), letter("other")]);
    stack.aws.when("DescribeExecution").fails("Broken");
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed, report.archived.len()), (1, 1, 0));
    assert_eq!((stack.left(), stack.dead().visible()), (vec!["message-0".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn what_has_been_redriven_often_enough_is_archived() {
    let failed = |attempt: u32, restored: u32| {
        let mut message = message("k");
        message["attempt"] = json!(attempt);
        message["restored"] = json!(restored);
        let body = json!({ "failedExecution": {}, "event": message });
        letter_of(&body.to_string()).class("States.Timeout").reason("slow")
    };
    let stack = Stack::with([
        letter("four").redrives(4),
        letter("five").redrives(5),
        failed(4, 0),
        failed(5, 0),
        failed(7, 5),
    ]);
    let report = nightly(&stack).await;
    assert_eq!(report.redriven, 3);
    assert_eq!(
        report.archived,
        [("States.Timeout".to_owned(), 1), ("TooManyRedrives".to_owned(), 1)].into()
    );
    assert!(stack.left().is_empty());
    let archive = stack.archive();
    let reasons: Vec<_> = archive.values().map(|document| &document["message"]).collect();
    assert!(reasons.contains(&&json!("still failing after 5 redrives: slow")), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn poison_is_archived_with_all_that_is_known() {
    let poison = letter("k").class("NotJson").reason("line 2 column 15");
    let poison =
        poison.redrives(2).group("devices/9").with("theirs", Attribute::binary(b"\x01\xC3\xBF"));
    let stack = Stack::with([poison]);
    let report = nightly(&stack).await;
    assert_eq!(report.archived, [("NotJson".to_owned(), 1)].into());
    assert!(stack.work().messages().is_empty() && stack.left().is_empty());
    let message = message("k");
    let archive = stack.archive();
    let (key, document) = archive.first_key_value().expect("archived");
    let id = message["id"].as_str().expect("id");
    assert_eq!(*key, format!("dead-letters/date=2026-11-20/{id}.json"));
    assert_eq!(
        *document,
        json!({
            "id": id,
            "messageId": "message-0",
            "class": "NotJson",
            "message": "line 2 column 15",
            "enqueuedAt": "2026-11-20T14:59:59.999Z",
            "archivedAt": "2026-11-20T21:00:00Z",
            "receiveCount": 1,
            "redrives": 2,
            "groupId": "devices/9",
            "attributes": {
                "errorClass": { "type": "String", "text": "NotJson" },
                "errorMessage": { "type": "String", "text": "line 2 column 15" },
                "redrives": { "type": "Number", "text": "2" },
                "theirs": { "type": "Binary", "binary": "AcO/" },
            },
            "body": message.to_string(),
            "events": [message],
            "redriven": [],
            "messages": [{
                "id": "message-0",
                "class": "NotJson",
                "message": "line 2 column 15",
                "enqueuedAt": "2026-11-20T14:59:59.999Z",
                "archivedAt": "2026-11-20T21:00:00Z",
                "receiveCount": 1,
                "redrives": 2,
                "attributes": {
                    "errorClass": { "type": "String", "text": "NotJson" },
                    "errorMessage": { "type": "String", "text": "line 2 column 15" },
                    "redrives": { "type": "Number", "text": "2" },
                    "theirs": { "type": "Binary", "binary": "AcO/" },
                },
            }],
        })
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_archived_and_what_newer_code_can_decode_is_not() {
    let once_undecodable = letter("k").class("Undecodable");
    let stack = Stack::with([
        letter_of("hello"),
        once_undecodable,
        letter_of(&sample("s3-test-event.json")),
    ]);
    let report = nightly(&stack).await;
    assert_eq!(stack.keys(), ["k"]);
    assert_eq!(report.archived, [("NoEvent".to_owned(), 1), ("Undecodable".to_owned(), 1)].into());
    assert!(stack.archive().contains_key("dead-letters/date=2026-11-20/message-0.json"));
    assert!(stack.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_half_decodable_goes_both_ways() {
    let body = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let stack = Stack::with([letter_of(&body)]);
    let report = nightly(&stack).await;
    assert_eq!(stack.keys(), ["devices/7/한글+1.json"]);
    assert_eq!(report.archived, [("Undecodable".to_owned(), 1)].into());
    assert!(stack.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_archived_document_is_never_overwritten_and_never_doubled() {
    let poison = || letter("k").class("NotJson");
    let stack = Stack::with([poison(), poison()]);
    nightly(&stack).await;
    assert_eq!(stack.document()["messages"].as_array().map(Vec::len), Some(2), "of one event");

    // The same message again, as after a crash between archive and delete.
    let stack = Stack::with([poison()]);
    stack.dead().keeps_all();
    assert_eq!(nightly(&stack).await.failed, 1);
    let archive = stack.archive();
    assert_eq!(archive.len(), 1);
    stack.dead().recovers();
    assert_eq!(nightly(&stack).await.archived["NotJson"], 1);
    assert_eq!(stack.archive(), archive);
    assert!(stack.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_says_so() {
    let report = nightly(&Stack::with([])).await;
    assert!(report.moved_nothing);
    assert_eq!((report.seen, report.left, report.stopped), (0, Some(0), Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn a_redriven_message_carries_nothing_of_an_earlier_journey() {
    let old = letter("k")
        .class("DeferredTooLong")
        .reason("throttled")
        .with("deferredSince", Attribute::text("2026-11-19T00:00:00Z"))
        .with("deferrals", Attribute::number(300))
        .with("theirs", Attribute::text("x"));
    let stack = Stack::with([old]);
    nightly(&stack).await;
    let sent = &stack.work().messages()[0];
    assert_eq!(sent.attributes.keys().collect::<Vec<_>>(), ["redrives", "theirs"]);
}

#[tokio::test(start_paused = true)]
async fn a_class_is_not_believed_of_a_letter_that_sqs_moved() {
    // It died of poison once, was restored after a fix, and was then received too often.
    let old = |key: &str| letter(key).class("NotJson").reason("old");
    let stack = Stack::with([old("moved").moved_by_sqs(), old("sent")]);
    let report = nightly(&stack).await;
    assert_eq!(stack.keys(), ["moved"]);
    assert_eq!(report.archived, [("NotJson".to_owned(), 1)].into());

    let stack = Stack::with([old("moved").moved_by_sqs().redrives(5)]);
    assert_eq!(nightly(&stack).await.archived, [("TooManyRedrives".to_owned(), 1)].into());
}
