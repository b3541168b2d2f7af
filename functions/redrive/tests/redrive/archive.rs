//! What is in the archive, and what a restore makes of it.

use redrive::Restored;

use super::*;

async fn restore(fake: &Fake) -> Restored {
    let request = json!({ "mode": "restore", "prefix": "dead-letters/" });
    match invoke(fake, &request).await.expect("an answer") {
        Answer::Restored(restored) => restored,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn two_restored_bodies_are_no_duplicates_of_each_other_on_a_fifo_queue() {
    let fake = Fake::with([Letter::new("hello"), Letter::new("world")]).fifo();
    assert_eq!(nightly(&fake).await.archived["Undecodable"], 2);
    assert_eq!(restore(&fake).await.restored, 2);
    let state = fake.state();
    let deduplication = |n: usize| state.work[n].message_deduplication_id().map(str::to_owned);
    let group = |n: usize| state.work[n].message_group_id().map(str::to_owned);
    assert_ne!(deduplication(0), deduplication(1));
    assert_ne!(group(0), group(1));
}

#[tokio::test(start_paused = true)]
async fn a_restore_does_not_send_what_was_redriven_when_the_rest_was_archived() {
    let body = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let fake = Fake::with([Letter::new(&body)]);
    nightly(&fake).await;
    assert_eq!(fake.keys(), ["devices/7/한글+1.json"]);
    restore(&fake).await;
    assert_eq!(fake.keys(), ["devices/7/한글+1.json"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_not_archived_as_redriven() {
    let body = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let fake = Fake::with([Letter::new(&body)]);
    fake.state().fails_every.insert("send", 1);
    assert_eq!(nightly(&fake).await.failed, 1);
    assert!(fake.state().archive.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_has_one_document_for_each_attempt_with_its_messages_in_it() {
    let poison = |body: Value| {
        let letter = Letter::new(&body.to_string());
        letter.text("errorClass", "NotJson").text("errorMessage", "line 1")
    };
    let mut second = message("k");
    second["attempt"] = json!(1);
    let spaced = Letter::new(&format!(" {}", message("k"))).text("errorClass", "ObjectMissing");
    let fake = Fake::with([poison(message("k")), spaced, poison(second)]);
    assert_eq!(nightly(&fake).await.archived.values().sum::<u64>(), 3);
    let id = message("k")["id"].as_str().expect("id").to_owned();
    let folder = "dead-letters/date=2026-11-20";
    let state = fake.state();
    let keys: Vec<_> = state.archive.keys().collect();
    assert_eq!(keys, [&format!("{folder}/{id}-r1.json"), &format!("{folder}/{id}.json")]);
    let document = &state.archive[&format!("{folder}/{id}.json")];
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
async fn what_dies_again_after_a_restore_can_be_restored_again() {
    let poison = || letter("k").text("errorClass", "NotJson");
    let fake = Fake::with([poison()]);
    nightly(&fake).await;
    assert_eq!(restore(&fake).await.restored, 1);
    assert_eq!(restore(&fake).await.restored_before, 1);
    // On the same day, which names the same document.
    let again =
        Fake::with([Letter { id: "again".to_owned(), ..poison() }.sent("2026-11-20T22:00:00Z")]);
    again.state().archive = fake.state().archive.clone();
    let archived = again.state().archive.clone();
    let day = archived.keys().next().expect("a key").replace("2026-11-20", "2026-11-21");
    let document = archived.values().next().expect("a document").clone();
    again.state().archive = [(day, document)].into();
    let report = redrive(&again, &json!({ "before": "2026-11-21T00:00:00Z" })).await;
    assert_eq!(report.expect("a report").archived["NotJson"], 1);
    assert_eq!(again.state().archive.len(), 1);
    assert_eq!(restore(&again).await.restored, 1);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_object_in_the_way_does_not_hold_a_letter() {
    let fake = Fake::with([letter("k").text("errorClass", "NotJson")]);
    let id = message("k")["id"].as_str().expect("id").to_owned();
    let key = format!("dead-letters/date=2026-11-20/{id}.json");
    fake.state().archive.insert(key.clone(), json!("not a document"));
    let report = nightly(&fake).await;
    assert_eq!((report.failed, report.archived["NotJson"]), (0, 1));
    assert_eq!(fake.state().archive[&key], "not a document");
    assert_eq!(fake.state().archive.len(), 2);
}
