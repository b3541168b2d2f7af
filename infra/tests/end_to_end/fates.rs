//! Fates of a dead letter that no other test of the redrive meets. A letter about an execution that
//! runs again is in `rights`, where one runs for long enough.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{Ended, Sluice, Write, key_of};
use crate::redrive::message;

async fn ids_left(sluice: &Sluice) -> HashSet<String> {
    sluice.dead_letters().await.into_iter().map(|letter| letter.message_id).collect()
}

/// A run that a person asked for, of the letters about one device.
async fn redrive(sluice: &Sluice, device: &str, more: Value) -> Value {
    let mut request = json!({ "before": "now", "canaryMessages": 0, "keyPrefix": key_of(device) });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sluice.redrive_as(&request).await.unwrap()
}

async fn store(sluice: &Sluice, device: &str, sequencer: &str) -> Write {
    sluice.store(device, &json!({ "on": true }), sequencer).await
}

#[tokio::test]
async fn a_run_does_what_it_was_asked_for_and_leaves_the_rest() {
    let sluice = Sluice::for_test("asked-for").await;
    let _alone = sluice.only_redrive().await;
    let (lamp, door) = (sluice.device("lamp"), sluice.device("door"));
    let mut good = Vec::new();
    for sequencer in ["01", "02", "03"] {
        good.push(store(&sluice, &lamp, sequencer).await);
    }
    let poison = store(&sluice, &lamp, "04").await;
    let other = store(&sluice, &door, "01").await;
    let body = |write: &Write| message(write).to_string();
    let good_ids = sluice.give_up_with(&good.iter().map(body).collect::<Vec<_>>(), &[]).await;
    let not_json = [("errorClass", "String", "NotJson")];
    let poison_ids = sluice.give_up_with(&[body(&poison)], &not_json).await;
    let other_ids = sluice.give_up_with(&[body(&other)], &[]).await;
    let all: HashSet<_> = good_ids.union(&poison_ids).chain(&other_ids).cloned().collect();

    // Would redrive, would archive; and the letter about the door is not asked for.
    let report = redrive(&sluice, &lamp, json!({ "dryRun": true })).await;
    assert_eq!((&report["redriven"], &report["archived"]), (&json!(3), &json!({ "NotJson": 1 })));
    assert!(report["filtered"].as_u64().unwrap() >= 1, "{report}");
    assert_eq!(report["movedNothing"], true);
    assert_eq!(ids_left(&sluice).await, all);

    // Two of the four; what is over the limit is not tried.
    let report = redrive(&sluice, &lamp, json!({ "maxMessages": 2 })).await;
    assert_eq!((&report["selected"], &report["stopped"]), (&json!(2), &json!("maxMessages")));
    let left = ids_left(&sluice).await;
    assert_eq!(left.len(), 3, "{report}");
    assert!(left.is_superset(&other_ids), "{report}");

    redrive(&sluice, &lamp, json!({})).await;
    assert_eq!(ids_left(&sluice).await, other_ids);
    for write in &good {
        let ended = sluice.ended(write).await;
        assert!(ended == Ended::written() || ended == Ended::superseded(), "{ended:?}");
    }
}

#[tokio::test]
async fn a_letter_about_an_execution_that_has_succeeded_since_is_done() {
    let sluice = Sluice::for_test("succeeded-since").await;
    let _alone = sluice.only_redrive().await;
    let device = sluice.device("lamp");
    let write = store(&sluice, &device, "01").await;
    sluice.deliver(&write).await;
    assert_eq!(sluice.ended(&write).await, Ended::written());
    let name = &write.event_id;
    let letter =
        json!({ "failedExecution": { "name": name, "error": "E" }, "event": message(&write) });
    sluice.give_up_with(&[letter.to_string()], &[("errorClass", "String", "E")]).await;

    let report = redrive(&sluice, &device, json!({})).await;

    assert_eq!((&report["succeeded"], &report["redriven"]), (&json!(1), &json!(0)), "{report}");
    assert_eq!(sluice.dead_letters().await.len(), 0);
    sluice.drained().await;
    assert_eq!(sluice.executions().await.get(name), Some(&1), "and no second attempt");
}

/// SQS would delete it in two days, and whoever asked for the run asked for something else.
#[tokio::test]
async fn a_letter_that_is_about_to_expire_is_archived_whatever_the_run_is_about() {
    let sluice = Sluice::for_test("about-to-expire").await;
    let _alone = sluice.only_redrive().await;
    let device = sluice.device("lamp");
    let write = store(&sluice, &device, "01").await;
    let _old = sluice.proxy().backdate(&device, 12);
    sluice.give_up(&write).await;

    let report = redrive(&sluice, "no-such-device", json!({})).await;

    assert_eq!(report["archived"], json!({ "Expiring": 1 }), "{report}");
    assert_eq!(sluice.dead_letters().await.len(), 0);
    let documents = sluice.archived().await;
    let [document] = &documents[..] else { panic!("{documents:?}") };
    assert_eq!(document["body"], write.notification());
}
