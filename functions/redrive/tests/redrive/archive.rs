//! What is in the archive, and what a restore makes of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn two_restored_bodies_are_no_duplicates_of_each_other_on_a_fifo_queue() {
    let stack = Stack::fifo([letter_of("hello"), letter_of("world")]);
    assert_eq!(nightly(&stack).await.archived["Undecodable"], 2);
    assert_eq!(restore(&stack).await.restored, 2);
    let [one, other] = stack.work().messages().try_into().expect("two");
    assert_ne!(one.deduplication_id, other.deduplication_id);
    assert_ne!(one.group_id, other.group_id);
}

#[tokio::test(start_paused = true)]
async fn a_restore_does_not_send_what_was_redriven_when_the_rest_was_archived() {
    let body = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let stack = Stack::with([letter_of(&body)]);
    nightly(&stack).await;
    assert_eq!(stack.keys(), ["devices/7/한글+1.json"]);
    restore(&stack).await;
    assert_eq!(stack.keys(), ["devices/7/한글+1.json"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_not_archived_as_redriven() {
    let body = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let stack = Stack::with([letter_of(&body)]);
    stack.work().rejects_all();
    assert_eq!(nightly(&stack).await.failed, 1);
    assert!(stack.archive().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_has_one_document_for_each_attempt_with_its_messages_in_it() {
    let poison = |body: Value| letter_of(&body.to_string()).class("NotJson").reason("line 1");
    let mut second = message("k");
    second["attempt"] = json!(1);
    let spaced = letter_of(&format!(" {}", message("k"))).class("ObjectMissing");
    let stack = Stack::with([poison(message("k")), spaced, poison(second)]);
    // Of two writes at the same time, the first wins.
    stack.aws.answers_within(Duration::from_millis(10)..=Duration::from_millis(10));
    assert_eq!(nightly(&stack).await.archived.values().sum::<u64>(), 3);
    let id = id("k");
    let folder = "dead-letters/date=2026-11-20";
    let archive = stack.archive();
    let keys: Vec<_> = archive.keys().collect();
    assert_eq!(keys, [&format!("{folder}/{id}-r1.json"), &format!("{folder}/{id}.json")]);
    let document = &archive[&format!("{folder}/{id}.json")];
    let messages = document["messages"].as_array().expect("messages");
    let of = |n: usize, field: &str| messages[n][field].as_str().map(str::to_owned);
    assert_eq!(messages.len(), 2);
    assert_eq!((of(0, "id"), of(1, "id")), (Some("message-0".into()), Some("message-1".into())));
    assert_eq!(of(1, "class").as_deref(), Some("ObjectMissing"));
    // Its bytes are not those of the document.
    assert_eq!((of(0, "body"), of(1, "body")), (None, Some(format!(" {}", message("k")))));
    assert_eq!(document["class"], "NotJson");
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_archived_again_is_in_its_document_once() {
    let other = letter_of(&format!(" {}", message("k"))).class("ObjectMissing");
    let stack = Stack::with([letter("k").class("NotJson"), other]);
    stack.dead().keeps_all();
    for night in 1..3 {
        assert_eq!(nightly(&stack).await.failed, 2);
        assert_eq!(stack.left().len(), 2);
        let [document] = stack.archive().into_values().collect::<Vec<_>>().try_into().expect("one");
        assert_eq!(document["messages"].as_array().map(Vec::len), Some(2), "{night}");
        sleep(Duration::from_hours(1)).await;
    }
}

/// A notification of two writes, one of the first of them, and the names of both.
fn two_writes() -> (String, String, Vec<String>) {
    let both = sample_json("s3-two-records.json");
    let first = json!({ "Records": [both["Records"][0]] });
    let events = messages::decode(&both.to_string());
    let names = events.into_iter().map(|event| event.expect("an event").execution_name());
    (both.to_string(), first.to_string(), names.collect())
}

#[tokio::test(start_paused = true)]
async fn another_letter_about_an_event_brings_its_other_events_into_the_document() {
    let (both, first, names) = two_writes();
    let stack = Stack::with([&first, &both].map(|body| letter_of(body).class("NotJson")));
    stack.aws.answers_within(Duration::from_millis(10)..=Duration::from_millis(10));
    assert_eq!(nightly(&stack).await.archived["NotJson"], 2);
    let events = stack.document()["events"].as_array().cloned().expect("events");
    let ids: Vec<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(ids, names);
    assert_eq!(restore(&stack).await.restored, 1);
    assert_eq!(stack.keys().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_document_knows_what_another_letter_of_its_event_has_sent() {
    let (both, first, names) = two_writes();
    let mut undecodable: Value = serde_json::from_str(&both).expect("JSON");
    undecodable["Records"][1]["eventVersion"] = json!("3.1");
    let letters = [letter_of(&first).class("NotJson"), letter_of(&undecodable.to_string())];
    let stack = Stack::with(letters);
    stack.aws.answers_within(Duration::from_millis(10)..=Duration::from_millis(10));
    assert_eq!(nightly(&stack).await.archived.values().sum::<u64>(), 2);
    let document = stack.document();
    assert_eq!(document["redriven"], json!([names[0]]), "{document}");
    assert_eq!(stack.keys().len(), 1);
    restore(&stack).await;
    assert_eq!(stack.keys().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_dies_again_after_a_restore_can_be_restored_again() {
    let poison = || Message::about("k").class("NotJson");
    let stack = Stack::with([poison().sent("2026-11-20T15:30:00Z")]);
    let all = json!({ "before": "now" });
    assert_eq!(redrive(&stack, &all).await.expect("a report").archived["NotJson"], 1);
    assert_eq!(restore(&stack).await.restored, 1);
    assert_eq!(restore(&stack).await.restored_before, 1);
    // On the same day, which names the same document.
    stack.dead().has(poison().id("again"));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(redrive(&stack, &all).await.expect("a report").archived["NotJson"], 1);
    assert_eq!(stack.archive().len(), 1);
    assert_eq!(restore(&stack).await.restored, 1);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_object_in_the_way_does_not_hold_a_letter() {
    let stack = Stack::with([letter("k").class("NotJson")]);
    let key = format!("dead-letters/date=2026-11-20/{}.json", id("k"));
    stack.aws.s3().holds(ARCHIVE, &key, b"\"not a document\"");
    let report = nightly(&stack).await;
    assert_eq!((report.failed, report.archived["NotJson"]), (0, 1));
    assert_eq!(stack.archive()[&key], "not a document");
    assert_eq!(stack.archive().len(), 2);
}

/// The log line with this message, of a restore of all that was archived.
async fn log_of_restore(stack: &Stack, message: &str) -> Value {
    line_of(stack, &whole_archive(), Duration::from_mins(1), message).await
}

#[tokio::test(start_paused = true)]
async fn the_log_says_which_event_was_restored() {
    let stack = Stack::with([letter("k").class("NotJson")]);
    nightly(&stack).await;
    let line = log_of_restore(&stack, "restored").await;
    assert_eq!((&line["level"], &line["event.id"]), (&json!("INFO"), &json!(id("k"))));
    assert_eq!(line["object.key"], "k");
    let key = format!("dead-letters/date=2026-11-20/{}.json", id("k"));
    assert_eq!(line["archive.key"], key);
}

#[tokio::test(start_paused = true)]
async fn the_log_says_which_event_was_restored_in_part_and_what_was_not() {
    let body = sample("s3-two-records.json");
    let stack = Stack::with([letter_of(&body.replace("\"2.1\"", "\"3.1\""))]);
    nightly(&stack).await;
    // Newer code decodes one of the two.
    stack.edits_archive(|document| {
        document["body"] = json!(body.replacen("\"2.1\"", "\"3.1\"", 1));
    });
    let line = log_of_restore(&stack, "restored in part").await;
    let second = messages::decode(&body).remove(1).expect("decodable");
    assert_eq!((&line["level"], &line["event.id"]), (&json!("WARN"), &json!(second.id)));
    assert_eq!(line["object.key"], "devices/7/한글+1.json");
    let error = line["error"].as_str().expect("a reason");
    assert!(error.contains("expected version 2.x, found `3.1`"), "{error}");
}
