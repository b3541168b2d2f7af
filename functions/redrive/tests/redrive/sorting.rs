use super::*;

#[tokio::test(start_paused = true)]
async fn yesterdays_letter_goes_back_and_todays_stays() {
    let today = letter("today").sent("2026-11-20T15:00:00Z");
    let fake = Fake::with([letter("yesterday"), today]);
    let report = nightly(&fake).await;
    assert_eq!(fake.keys(), ["yesterday"]);
    assert_eq!(fake.left(), ["message-1"]);
    assert_eq!(fake.visible(), 1);
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
    let since = now().to_string();
    let letter = letter("k").text("deferrals", "300").text("deferredSince", &since);
    let fake = Fake::with([letter]);
    nightly(&fake).await;
    let state = fake.state();
    let attributes = state.work[0].message_attributes().expect("attributes");
    assert_eq!(attributes.get("deferrals"), None);
    assert_eq!(attributes.get("deferredSince"), None);
}

#[tokio::test(start_paused = true)]
async fn body_attributes_and_group_are_kept_and_the_redrive_is_counted() {
    let body = format!(" {} ", message("k"));
    let fake = Fake::with([Letter::new(&body).redrives(1).text("theirs", "x").group("devices/9")]);
    nightly(&fake).await;
    let state = fake.state();
    assert_eq!(state.work[0].message_body(), body);
    assert_eq!(state.work[0].message_group_id(), Some("devices/9"));
    let attributes = state.work[0].message_attributes().expect("attributes");
    assert_eq!(attributes["redrives"].string_value(), Some("2"));
    assert_eq!(attributes["theirs"].string_value(), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_with_its_count_of_redrives_is_archived() {
    // "redrives", "Number" and "1".
    const COUNT: usize = 8 + 6 + 1;
    let body = message("k").to_string();
    let padded = |bytes: usize| format!("{body}{}", " ".repeat(bytes - body.len()));
    let fits = padded(MAX_MESSAGE_BYTES - COUNT);
    let too_large = padded(MAX_MESSAGE_BYTES - COUNT + 1);
    let fake = Fake::with([Letter::new(&fits), Letter::new(&too_large)]);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed), (1, 0));
    assert_eq!(report.archived, [("EventTooLarge".to_owned(), 1)].into());
    assert!(fake.left().is_empty());
    let state = fake.state();
    assert_eq!(state.work[0].message_body(), fits);
    assert_eq!(state.archive.values().next().expect("archived")["body"], too_large);
}

#[tokio::test(start_paused = true)]
async fn foreign_envelopes_are_unwrapped() {
    let fake = Fake::with([
        Letter::new(&sample("lambda-on-failure-destination-body.json")),
        Letter::new(&sample("s3-two-records.json")),
        Letter::new(&sample("eventbridge-object-created-key-not-encoded.json")),
    ]);
    let report = nightly(&fake).await;
    assert_eq!(report.redriven, 3);
    assert!(fake.left().is_empty());
    let first = "devices/42/state 2026-11-20T21:00:00Z.json";
    assert_eq!(fake.keys(), [first, first, first, "devices/7/한글+1.json"]);
    for entry in &fake.state().work {
        assert!(entry.message_group_id().expect("group").starts_with("devices/"));
        assert!(entry.message_body().starts_with(r#"{"specversion":"1.0""#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_execution_goes_back_as_its_next_attempt() {
    let failed =
        json!({ "failedExecution": { "name": message("k")["id"] }, "event": message("k") });
    let letter = Letter::new(&failed.to_string()).text("errorClass", "DynamoDB.Throttling");
    let fake = Fake::with([letter, Letter::new(&sample("step-functions-status-failed.json"))]);
    assert_eq!(nightly(&fake).await.redriven, 2);
    assert!(fake.work().iter().all(|message| message["attempt"] == 1));
}

const WITHOUT_INPUT: &str = "step-functions-status-timed-out-without-input.json";

fn execution_without_input() -> String {
    let change: Value = serde_json::from_str(&sample(WITHOUT_INPUT)).expect("JSON");
    change["detail"]["executionArn"].as_str().expect("an ARN").to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_input_that_was_left_out_of_an_event_is_read_from_the_execution() {
    let fake = Fake::with([Letter::new(&sample(WITHOUT_INPUT))]);
    let mut input = message("large");
    // Its own execution, by its name.
    input["id"] = json!(execution_without_input().rsplit(':').next());
    input["data"]["content"] = json!({ "deviceId": "42" });
    fake.state().inputs.insert(execution_without_input(), input.to_string());
    for request in [json!({ "dryRun": true }), json!({})] {
        let report = redrive(&fake, &request).await.expect("a report");
        assert_eq!((report.redriven, report.archived.len()), (1, 0));
    }
    let mut again = message("large");
    again["id"] = input["id"].clone();
    again["attempt"] = json!(1);
    assert_eq!(fake.work(), [again]);
    assert!(fake.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_input_that_is_left_out_and_gone_is_archived_with_what_there_is() {
    let fake = Fake::with([Letter::new(&sample(WITHOUT_INPUT))]);
    let report = nightly(&fake).await;
    assert_eq!(report.archived, [("Undecodable".to_owned(), 1)].into());
    let state = fake.state();
    let document = state.archive.values().next().expect("archived");
    let message = document["message"].as_str().expect("a message");
    assert!(message.contains("expected the input, which Step Functions leaves out"), "{message}");
    assert_eq!(document["body"], sample(WITHOUT_INPUT));
}

#[tokio::test(start_paused = true)]
async fn an_input_that_cannot_be_read_now_is_left_for_the_next_run() {
    let fake = Fake::with([Letter::new(&sample(WITHOUT_INPUT)), letter("other")]);
    fake.state().broken.push("describe");
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed, report.archived.len()), (1, 1, 0));
    assert_eq!((fake.left(), fake.visible()), (vec!["message-0".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn what_has_been_redriven_often_enough_is_archived() {
    let failed = |attempt: u32, restored: u32| {
        let mut message = message("k");
        message["attempt"] = json!(attempt);
        message["restored"] = json!(restored);
        let body = json!({ "failedExecution": {}, "event": message });
        Letter::new(&body.to_string())
            .text("errorClass", "States.Timeout")
            .text("errorMessage", "slow")
    };
    let fake = Fake::with([
        letter("four").redrives(4),
        letter("five").redrives(5),
        failed(4, 0),
        failed(5, 0),
        failed(7, 5),
    ]);
    let report = nightly(&fake).await;
    assert_eq!(report.redriven, 3);
    assert_eq!(
        report.archived,
        [("States.Timeout".to_owned(), 1), ("TooManyRedrives".to_owned(), 1)].into()
    );
    assert!(fake.left().is_empty());
    let state = fake.state();
    let reasons: Vec<_> = state.archive.values().map(|document| &document["message"]).collect();
    assert!(reasons.contains(&&json!("still failing after 5 redrives: slow")), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn poison_is_archived_with_all_that_is_known() {
    let poison = letter("k").text("errorClass", "NotJson").text("errorMessage", "line 2 column 15");
    let poison = poison.redrives(2).group("devices/9").binary("theirs", "\u{1}ÿ");
    let fake = Fake::with([poison]);
    let report = nightly(&fake).await;
    assert_eq!(report.archived, [("NotJson".to_owned(), 1)].into());
    assert!(fake.work().is_empty() && fake.left().is_empty());
    let message = message("k");
    let state = fake.state();
    let (key, document) = state.archive.first_key_value().expect("archived");
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
    let once_undecodable = letter("k").text("errorClass", "Undecodable");
    let fake = Fake::with([
        Letter::new("hello"),
        once_undecodable,
        Letter::new(&sample("s3-test-event.json")),
    ]);
    let report = nightly(&fake).await;
    assert_eq!(fake.keys(), ["k"]);
    assert_eq!(report.archived, [("NoEvent".to_owned(), 1), ("Undecodable".to_owned(), 1)].into());
    assert!(fake.state().archive.contains_key("dead-letters/date=2026-11-20/message-0.json"));
    assert!(fake.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_half_decodable_goes_both_ways() {
    let body = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let fake = Fake::with([Letter::new(&body)]);
    let report = nightly(&fake).await;
    assert_eq!(fake.keys(), ["devices/7/한글+1.json"]);
    assert_eq!(report.archived, [("Undecodable".to_owned(), 1)].into());
    assert!(fake.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_archived_document_is_never_overwritten_and_never_doubled() {
    let poison = || letter("k").text("errorClass", "NotJson");
    let fake = Fake::with([poison(), poison()]);
    nightly(&fake).await;
    let messages = |fake: &Fake| {
        let state = fake.state();
        let document = state.archive.values().next().expect("archived").clone();
        (state.archive.len(), document["messages"].as_array().map(Vec::len))
    };
    assert_eq!(messages(&fake), (1, Some(2)), "two messages about one event");

    // The same message again, as after a crash between archive and delete.
    let again = Fake::with([poison()]);
    again.state().archive.clone_from(&fake.state().archive);
    nightly(&again).await;
    assert_eq!(again.state().archive, fake.state().archive);
    assert!(again.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_says_so() {
    let report = nightly(&Fake::with([])).await;
    assert!(report.moved_nothing);
    assert_eq!((report.seen, report.left, report.stopped), (0, Some(0), Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn a_redriven_message_carries_nothing_of_an_earlier_journey() {
    let mut old = letter("k")
        .text("errorClass", "DeferredTooLong")
        .text("errorMessage", "throttled")
        .text("deferredSince", "2026-11-19T00:00:00Z")
        .text("theirs", "x");
    old.attributes.insert("deferrals".to_owned(), ("Number", "300".to_owned()));
    let fake = Fake::with([old]);
    nightly(&fake).await;
    let state = fake.state();
    let attributes = state.work[0].message_attributes().expect("attributes");
    let mut names: Vec<_> = attributes.keys().collect();
    names.sort();
    assert_eq!(names, ["redrives", "theirs"]);
}

#[tokio::test(start_paused = true)]
async fn a_class_is_not_believed_of_a_letter_that_sqs_moved() {
    // It died of poison once, was restored after a fix, and was then received too often.
    let old = |key: &str| letter(key).text("errorClass", "NotJson").text("errorMessage", "old");
    let fake = Fake::with([old("moved").moved_by_sqs(), old("sent")]);
    let report = nightly(&fake).await;
    assert_eq!(fake.keys(), ["moved"]);
    assert_eq!(report.archived, [("NotJson".to_owned(), 1)].into());

    let fake = Fake::with([old("moved").moved_by_sqs().redrives(5)]);
    assert_eq!(nightly(&fake).await.archived, [("TooManyRedrives".to_owned(), 1)].into());
}
