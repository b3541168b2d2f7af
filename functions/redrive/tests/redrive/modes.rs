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
    assert_eq!(answer, Answer::Restored(Restored { restored: 3, ..Restored::default() }));
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
    assert_eq!(one, Answer::Restored(Restored { restored: 1, failed: 1, ..Restored::default() }));
    let again = invoke(&fake, &request).await.expect("an answer");
    let expected = Restored { restored_before: 1, failed: 1, ..Restored::default() };
    assert_eq!(again, Answer::Restored(expected));
    assert_eq!(fake.state().work.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_work_queue_does_not_confirm_is_not_marked() {
    let fake = archived().await;
    fake.state().fails_every.insert("send", 1);
    let request = json!({ "mode": "restore", "prefix": "dead-letters/" });
    let answer = invoke(&fake, &request).await.expect("an answer");
    assert_eq!(answer, Answer::Restored(Restored { failed: 3, ..Restored::default() }));
    assert!(fake.state().archive.values().all(|document| document.get("restoredAt").is_none()));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_not_marked_as_restored() {
    let body = sample("s3-two-records.json");
    let fake = Fake::with([Letter::new(&body.replacen("\"2.1\"", "\"3.1\"", 1))]);
    nightly(&fake).await;
    fake.state().work.clear();
    let request = json!({ "mode": "restore", "prefix": "dead-letters/" });
    let restore = async || invoke(&fake, &request).await.expect("an answer");

    let in_part = Restored { restored_in_part: 1, ..Restored::default() };
    assert_eq!(restore().await, Answer::Restored(in_part));
    let second = messages::decode(&body).remove(1).expect("decodable");
    let mark = fake.state().archive.values().next().expect("a document")["restored"].clone();
    assert_eq!(mark["executions"], json!([second.execution_name()]));
    assert_eq!(mark["body"], false);
    let left = mark["left"][0].as_str().expect("a reason");
    assert!(left.contains("expected version 2.x, found `3.1`"), "{left}");
    // The same code finds no more in it.
    let before = Restored { restored_before: 1, ..Restored::default() };
    assert_eq!(restore().await, Answer::Restored(before.clone()));
    assert_eq!(fake.keys(), ["devices/7/한글+1.json"]);

    // As newer code would decode it.
    for document in fake.state().archive.values_mut() {
        document["body"] = json!(body);
    }
    let restored = Restored { restored: 1, ..Restored::default() };
    assert_eq!(restore().await, Answer::Restored(restored));
    let first = "devices/42/state 2026-11-20T21:00:00Z.json";
    assert_eq!(fake.keys(), [first, "devices/7/한글+1.json"]);
    assert_eq!(restore().await, Answer::Restored(before));
}
