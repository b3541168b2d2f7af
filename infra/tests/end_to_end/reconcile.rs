//! The ledger over a real bucket: what was lost without a trace is found and started.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::types::{
    BucketVersioningStatus, NotificationConfiguration, VersioningConfiguration,
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Ended, Sluice, Write, clients, device_state, key_of};

/// S3 lists the times of versions in whole seconds.
const ANOTHER_SECOND: Duration = Duration::from_millis(1_100);

/// A ledger of all that was written until now.
async fn reconcile(sluice: &Sluice, fix: bool) -> Value {
    let until = Timestamp::now();
    let request = json!({ "mode": "reconcile", "until": until, "fix": fix });
    sluice.redrive_as(&request).await.unwrap()
}

/// The same over as many runs as it takes, and how many these were.
async fn reconcile_to_its_end(sluice: &Sluice, mut request: Value) -> (Value, usize) {
    let mut runs = 0;
    loop {
        runs += 1;
        let ledger = sluice.redrive_as(&request).await.unwrap();
        match &ledger["next"] {
            Value::String(next) => request = json!({ "mode": "reconcile", "next": next }),
            _ => return (ledger, runs),
        }
    }
}

fn missing_keys(ledger: &Value) -> BTreeSet<String> {
    let missing = ledger["firstMissing"].as_array().unwrap().iter();
    missing.map(|missing| missing["key"].as_str().unwrap().to_owned()).collect()
}

async fn upload(sluice: &Sluice, device: &str, state: u32) -> Write {
    sluice.upload_state(&sluice.device(device), &json!({ "number": state })).await
}

/// Uploads while S3 notifies nobody.
async fn upload_unnoticed(sluice: &Sluice, devices: &[&str]) -> Vec<Write> {
    let (s3, bucket) = (&sluice.clients().s3, &sluice.stack().outputs.upload_bucket_name);
    let answer = s3.get_bucket_notification_configuration().bucket(bucket).send().await.unwrap();
    let configuration = NotificationConfiguration::builder()
        .set_lambda_function_configurations(answer.lambda_function_configurations)
        .build();
    let configure = async |configuration| {
        let put = s3.put_bucket_notification_configuration().bucket(bucket);
        put.notification_configuration(configuration).send().await.unwrap();
    };
    configure(NotificationConfiguration::builder().build()).await;
    let mut writes = Vec::new();
    for device in devices {
        writes.push(upload(sluice, device, 2).await);
    }
    configure(configuration).await;
    writes
}

#[tokio::test]
async fn what_was_purged_and_what_was_never_notified_is_found_and_started() {
    let sluice = Sluice::deployed_with("ledger", &[]).await;
    // The state of `purged` is lost before a newer one arrives, and that of `unnoticed` after one.
    let first = upload(&sluice, "unnoticed", 1).await;
    assert_eq!(sluice.ended(&first).await, Ended::written());
    sluice.set_consumer(false).await;
    let purged = [upload(&sluice, "purged", 1).await, upload(&sluice, "gone", 1).await];
    sluice
        .eventually("two messages", async || match sluice.queued().await {
            2 => Ok(()),
            other => Err(format!("{other} are there")),
        })
        .await;
    sluice.purge_work_queue().await;
    sluice.set_consumer(true).await;
    tokio::time::sleep(ANOTHER_SECOND).await;
    let newer = upload(&sluice, "purged", 2).await;
    let unnoticed = upload_unnoticed(&sluice, &["unnoticed", "unheard"]).await;
    assert_eq!(sluice.ended(&newer).await, Ended::written());
    sluice.drained().await;

    let found = reconcile(&sluice, false).await;
    let lost = ["purged", "gone", "unnoticed", "unheard"].map(|it| key_of(&sluice.device(it)));
    assert_eq!(missing_keys(&found), BTreeSet::from(lost), "{found}");
    let counts = (&found["versions"], &found["missing"], &found["succeeded"], &found["fixed"]);
    assert_eq!(counts, (&json!(6), &json!(4), &json!(2), &json!(0)), "{found}");
    assert_eq!(found["closed"], false);
    assert_eq!(sluice.queued().await, 0, "nobody asked for more than to look");

    let fixed = reconcile(&sluice, true).await;
    assert_eq!((&fixed["missing"], &fixed["fixed"]), (&json!(4), &json!(4)), "{fixed}");
    assert_eq!(sluice.ended(&purged[0]).await, Ended::superseded(), "a newer state was there");
    assert_eq!(sluice.ended(&purged[1]).await, Ended::written());
    for write in &unnoticed {
        assert_eq!(sluice.ended(write).await, Ended::written());
    }
    let item = sluice.item(&sluice.device("unnoticed")).await.unwrap();
    assert_eq!(item.state(), json!({ "number": 2 }));
    sluice.drained().await;
    let closed = reconcile(&sluice, true).await;
    assert_eq!((&closed["succeeded"], &closed["closed"]), (&json!(6), &json!(true)), "{closed}");

    // What comes by notification replaces what the ledger has started, and not the other way round.
    tokio::time::sleep(ANOTHER_SECOND).await;
    let latest = upload(&sluice, "unnoticed", 3).await;
    assert_eq!(sluice.ended(&latest).await, Ended::written());
    sluice.deliver(&first).await;
    sluice.drained().await;
    let item = sluice.item(&sluice.device("unnoticed")).await.unwrap();
    assert_eq!(item.state(), json!({ "number": 3 }));
    for (name, count) in sluice.executions().await {
        assert_eq!(count, 1, "{name}");
    }
}

#[tokio::test]
async fn what_was_there_before_the_stack_is_started_by_a_backfill() {
    const BUCKET: &str = "was-there-before";
    const OBJECTS: usize = 1_000;
    let s3 = clients().await.s3;
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let enabled = BucketVersioningStatus::Enabled;
    let versioning = VersioningConfiguration::builder().status(enabled).build();
    let put = s3.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioning);
    put.send().await.unwrap();
    let uploads = (0..OBJECTS).map(async |number| {
        let device = format!("before-{number}");
        let body = device_state(&device, &json!({ "number": number })).into_bytes();
        let put = s3.put_object().bucket(BUCKET).key(key_of(&device)).body(body.into());
        put.send().await.unwrap();
    });
    stream::iter(uploads).buffer_unordered(16).collect::<Vec<()>>().await;
    let own = format!("ExistingBucketName={BUCKET}");
    let sluice = Sluice::deployed_with("before", &["Ingestion=EventBridge", &own]).await;

    // At this rate one run has not enough time for all of them.
    let request = json!({ "mode": "reconcile", "since": "2020-01-01T00:00:00Z",
                          "until": Timestamp::now(), "fix": true, "maxPerSecond": 15 });
    let (started, runs) = reconcile_to_its_end(&sluice, request.clone()).await;
    assert!(runs > 1, "{started}");
    let counts = (&started["versions"], &started["missing"], &started["fixed"]);
    assert_eq!(counts, (&json!(OBJECTS), &json!(OBJECTS), &json!(OBJECTS)), "{started}");
    sluice.drained().await;
    let executions = sluice.executions().await;
    assert_eq!((executions.len(), executions.values().sum()), (OBJECTS, OBJECTS));

    let (again, _) = reconcile_to_its_end(&sluice, request).await;
    assert_eq!((&again["missing"], &again["fixed"]), (&json!(0), &json!(0)), "{again}");
}
