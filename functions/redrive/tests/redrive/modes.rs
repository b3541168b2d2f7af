use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use redrive::{Moved, Restored};

use super::*;

#[tokio::test(start_paused = true)]
async fn managed_mode_has_sqs_move_all_and_watches() {
    let fake = Fake::with([letter("a")]);
    fake.state().looks_until_moved = 3;
    let request = json!({ "mode": "managed", "maxPerSecond": 7 });
    let answer = invoke(&fake, &request).await.expect("an answer");
    let moved = Moved {
        task_handle: "handle".to_owned(),
        status: "COMPLETED".to_owned(),
        moved: 3,
        to_move: Some(9),
        failure_reason: None,
    };
    assert_eq!(answer, Answer::Moved(moved));
    assert!(!fake.state().calls.contains_key("receive"));
}

#[tokio::test(start_paused = true)]
async fn managed_mode_answers_before_its_deadline_with_the_handle() {
    let fake = Fake::with([]);
    fake.state().looks_until_moved = u32::MAX;
    let request = json!({ "mode": "managed", "maxPerSecond": 7 });
    let Answer::Moved(moved) = invoke(&fake, &request).await.expect("an answer") else {
        panic!("another mode")
    };
    assert_eq!((moved.status.as_str(), moved.task_handle.as_str()), ("RUNNING", "handle"));
}

#[tokio::test(start_paused = true)]
async fn managed_mode_says_why_sqs_refuses() {
    let arn = "arn:aws:sqs:eu-west-1:1:dead";
    for (message, sentence) in [
        (
            "There is already a task running. Only one active task is allowed for a source queue \
             arn at a given time.",
            format!("a move task is active already, and {arn} may have one at a time"),
        ),
        (
            "Source queue must be configured as a Dead Letter Queue.",
            format!("no queue has {arn} as its dead-letter queue"),
        ),
        ("Something else.", "cannot start a move task: ".to_owned()),
    ] {
        let fake = Fake::with([]);
        fake.state().refuses_move = Some(message);
        let error = invoke(&fake, &json!({ "mode": "managed" })).await.expect_err("an error");
        assert!(error.to_string().contains(&sentence), "{error}");
    }
}

/// The counts of a restore, without what it says of them in words.
fn counts(answer: Answer) -> Restored {
    match answer {
        Answer::Restored(restored) => {
            Restored { summary: String::new(), problems: Vec::new(), ..restored }
        }
        other => panic!("{other:?}"),
    }
}

/// Two archived messages: poison, and an event whose executions failed.
async fn archived() -> Fake {
    let mut failed = message("failed");
    failed["attempt"] = json!(5);
    let failed = json!({ "failedExecution": {}, "event": failed }).to_string();
    let poison = letter("poison").text("errorClass", "NotJson").redrives(3);
    let fake = Fake::with([poison, Letter::new(&failed), Letter::new("hello")]);
    assert_eq!(nightly(&fake).await.archived.values().sum::<u64>(), 3);
    fake
}

#[tokio::test(start_paused = true)]
async fn archived_messages_go_back_with_their_failures_forgiven() {
    let fake = archived().await;
    let request = json!({ "mode": "restore", "prefix": "dead-letters/date=2026-11-20/" });
    let answer = invoke(&fake, &request).await.expect("an answer");
    assert_eq!(counts(answer), Restored { restored: 3, ..Restored::default() });
    let state = fake.state();
    assert!(state.work.iter().all(|entry| entry.message_attributes().is_none()));
    assert!(state.archive.values().all(|document| document["restoredAt"] == now().to_string()));
    let marks = |body: bool| {
        let marks = state.archive.values().map(|document| &document["restored"]);
        marks.filter(|mark| mark["body"] == body).cloned().collect::<Vec<_>>()
    };
    let [as_it_came] = marks(true).try_into().expect("one");
    assert_eq!(as_it_came["executions"], json!([]));
    let mut names: Vec<Value> =
        marks(false).iter().map(|mark| mark["executions"].clone()).collect();
    names.sort_by_key(|names| names.to_string().len());
    let id = |key: &str| message(key)["id"].as_str().expect("id").to_owned();
    assert_eq!(names, [json!([id("poison")]), json!([format!("{}-r6", id("failed"))])]);
    let bodies: Vec<_> =
        state.work.iter().map(SendMessageBatchRequestEntry::message_body).collect();
    assert!(bodies.contains(&"hello"));
    let event = |key: &str| {
        let event = bodies.iter().filter_map(|body| serde_json::from_str::<Value>(body).ok());
        event.into_iter().find(|body| body["data"]["key"] == key).expect("sent")
    };
    assert_eq!(event("poison"), message("poison"));
    assert_eq!((&event("failed")["attempt"], &event("failed")["restored"]), (&json!(6), &json!(6)));
}

#[tokio::test(start_paused = true)]
async fn what_was_restored_is_not_restored_again() {
    let fake = archived().await;
    let id = message("poison")["id"].as_str().expect("id").to_owned();
    let key = format!("dead-letters/date=2026-11-20/{id}.json");
    let request = json!({ "mode": "restore", "keys": [key, "dead-letters/none.json"] });
    let one = invoke(&fake, &request).await.expect("an answer");
    assert_eq!(counts(one), Restored { restored: 1, failed: 1, ..Restored::default() });
    let again = invoke(&fake, &request).await.expect("an answer");
    let expected = Restored { restored_before: 1, failed: 1, ..Restored::default() };
    assert_eq!(counts(again), expected);
    assert_eq!(fake.state().work.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_work_queue_does_not_confirm_is_not_marked() {
    let fake = archived().await;
    fake.state().fails_every.insert("send", 1);
    let request = json!({ "mode": "restore", "prefix": "dead-letters/" });
    let answer = invoke(&fake, &request).await.expect("an answer");
    assert_eq!(counts(answer), Restored { failed: 3, ..Restored::default() });
    assert!(fake.state().archive.values().all(|document| document.get("restoredAt").is_none()));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_not_marked_as_restored() {
    let body = sample("s3-two-records.json");
    let fake = Fake::with([Letter::new(&body.replacen("\"2.1\"", "\"3.1\"", 1))]);
    nightly(&fake).await;
    fake.state().work.clear();
    let request = json!({ "mode": "restore", "prefix": "dead-letters/" });
    let restore = async || counts(invoke(&fake, &request).await.expect("an answer"));

    // The second record was redriven when the first was archived.
    let nothing = Restored { nothing_to_send: 1, ..Restored::default() };
    assert_eq!(restore().await, nothing);
    assert!(fake.state().archive.values().all(|document| document.get("restored").is_none()));

    // As newer code would decode it.
    for document in fake.state().archive.values_mut() {
        document["body"] = json!(body);
    }
    let restored = Restored { restored: 1, ..Restored::default() };
    assert_eq!(restore().await, restored);
    assert_eq!(fake.keys(), ["devices/42/state 2026-11-20T21:00:00Z.json"]);
    let before = Restored { restored_before: 1, ..Restored::default() };
    assert_eq!(restore().await, before);
}

#[tokio::test(start_paused = true)]
async fn what_newer_code_decodes_in_part_is_restored_in_part() {
    let body = sample("s3-two-records.json");
    let fake = Fake::with([Letter::new(&body.replace("\"2.1\"", "\"3.1\""))]);
    nightly(&fake).await;
    for document in fake.state().archive.values_mut() {
        document["body"] = json!(body.replacen("\"2.1\"", "\"3.1\"", 1));
    }
    let request = json!({ "mode": "restore", "prefix": "dead-letters/" });
    let restore = async || counts(invoke(&fake, &request).await.expect("an answer"));
    let in_part = Restored { restored_in_part: 1, ..Restored::default() };
    assert_eq!(restore().await, in_part);
    let second = messages::decode(&body).remove(1).expect("decodable");
    let mark = fake.state().archive.values().next().expect("a document")["restored"].clone();
    assert_eq!(mark["executions"], json!([second.execution_name()]));
    assert_eq!(mark["body"], false);
    let left = mark["left"][0].as_str().expect("a reason");
    assert!(left.contains("expected version 2.x, found `3.1`"), "{left}");
    // The same code finds no more in it.
    let before = Restored { restored_before: 1, ..Restored::default() };
    assert_eq!(restore().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_restore_can_be_tried_bounded_and_slowed() {
    let fake = archived().await;
    let restore = async |request: Value| {
        let mut whole = json!({ "mode": "restore", "prefix": "dead-letters/" });
        let fields = whole.as_object_mut().expect("an object");
        fields.extend(request.as_object().expect("an object").clone());
        invoke(&fake, &whole).await.expect("an answer")
    };
    let Answer::Restored(dry) = restore(json!({ "dryRun": true })).await else { panic!("mode") };
    assert_eq!((dry.restored, dry.dry_run), (3, true));
    assert_eq!(dry.summary, "3 would be restored");
    assert!(fake.state().work.is_empty());
    let one = counts(restore(json!({ "maxMessages": 1 })).await);
    assert_eq!(one, Restored { restored: 1, left: 2, ..Restored::default() });
    let begin = Instant::now();
    let slow = counts(restore(json!({ "maxPerSecond": 1 })).await);
    assert_eq!((slow.restored, slow.restored_before), (2, 1));
    assert_eq!(begin.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restore_says_what_is_wrong_with_a_key_or_a_prefix() {
    let fake = archived().await;
    for (request, problem) in [
        (json!({ "keys": ["dead-letters/none.json"] }), "has no document with this key"),
        (json!({ "prefix": "dead-letters/date=2025" }), "has no document with this prefix"),
    ] {
        let mut request = request;
        request["mode"] = json!("restore");
        let answer = invoke(&fake, &request).await.expect("an answer");
        let Answer::Restored(restored) = answer else { panic!("{answer:?}") };
        let [found] = restored.problems.as_slice() else { panic!("{restored:?}") };
        assert!(found.problem.contains(problem), "{found:?}");
        assert!(found.key.starts_with("dead-letters/"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_task_can_be_asked_for_and_cancelled() {
    let fake = Fake::with([]);
    fake.state().looks_until_moved = 3;
    let moved = async |mode: &str| match invoke(&fake, &json!({ "mode": mode })).await? {
        Answer::Moved(moved) => Ok::<_, Error>((moved.status, moved.task_handle)),
        other => panic!("{other:?}"),
    };
    let running = ("RUNNING".to_owned(), "handle".to_owned());
    assert_eq!(moved("moveState").await.expect("a task"), running);
    let cancelled = moved("cancelMove").await.expect("a task");
    assert_eq!(cancelled.0, "CANCELLING");
    assert_eq!(fake.state().calls["cancel"], 1);
    let error = moved("cancelMove").await.expect_err("an error").to_string();
    assert!(error.contains("the newest is COMPLETED"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_person_can_archive_without_sending() {
    let fake = Fake::with([letter("a").text("errorClass", "E"), letter("b")]).canaries(
        3,
        now(),
        aws_sdk_sfn::types::ExecutionStatus::Succeeded,
    );
    let report = redrive(&fake, &json!({ "mode": "archive" })).await.expect("a report");
    let archived = [("ArchivedByHand".to_owned(), 1), ("E".to_owned(), 1)];
    assert_eq!(report.archived, archived.into());
    assert!(fake.work().is_empty() && fake.left().is_empty());
    let state = fake.state();
    let reasons: Vec<_> = state.archive.values().map(|document| &document["message"]).collect();
    assert!(reasons.contains(&&json!("archived by hand: no reason was given")), "{reasons:?}");
}
