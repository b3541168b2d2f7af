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
    let fake = Fake::with([]);
    fake.state().broken.push("move");
    let error = invoke(&fake, &json!({ "mode": "managed" })).await.expect_err("an error");
    assert!(error.to_string().contains("a move task is active already"), "{error}");
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
