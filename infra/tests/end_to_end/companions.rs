//! The stacks of `infra/stacks` beside the main one: what they do, and that they leave no trace.

use std::collections::HashMap;

use local::Companion;
use serde_json::{Value, json};

use crate::api;
use crate::harness::{Ended, Sluice, Write, eventually, key_of, subscribe_queue};

/// A part of the main stack, by its logical id.
async fn name_of(sluice: &Sluice, logical_id: &str) -> String {
    let describe = sluice.clients().cloudformation.describe_stack_resource();
    let answer =
        describe.stack_name(&sluice.stack().name).logical_resource_id(logical_id).send().await;
    let detail = answer.unwrap().stack_resource_detail.unwrap();
    detail.physical_resource_id.unwrap().rsplit('/').next().unwrap().to_owned()
}

/// What `CloudTrail` tells of a call that somebody has made by hand.
fn call(service: &str, name: &str, parameters: &Value) -> Value {
    json!({
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "AssumedRole",
            "arn": "arn:aws:sts::000000000000:assumed-role/admin/anna",
            "accountId": "000000000000",
        },
        "eventTime": "2026-11-20T21:00:00Z",
        "eventSource": format!("{service}.amazonaws.com"),
        "eventName": name,
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.7",
        "requestParameters": parameters,
    })
}

/// What somebody has done to a stack, each of which a command of the guard undoes.
struct Damage {
    rule: String,
    mapping: String,
    table: String,
    /// The device whose state was in the table, and the upload whose message was on the queue.
    device: String,
    purged: Write,
}

async fn damage(sluice: &Sluice) -> Damage {
    let clients = sluice.clients();
    let of_main = &sluice.stack().outputs;
    let device = sluice.device("kept");
    let write = sluice.upload_state(&device, &json!({ "on": true })).await;
    assert_eq!(sluice.ended(&write).await, Ended::written());

    let rule = name_of(sluice, "NightlyRedriveRule").await;
    sluice.events("DisableRule", &json!({ "Name": rule })).await;

    let mapping = name_of(sluice, "ConsumerFunctionWorkQueue").await;
    let update = clients.lambda.update_event_source_mapping().uuid(&mapping);
    update.enabled(false).send().await.unwrap();

    let purged = sluice.upload_state(&sluice.device("purged"), &json!({ "on": true })).await;
    sluice
        .eventually("its message waits", async || match sluice.queued().await {
            1 => Ok(()),
            queued => Err(format!("{queued} do")),
        })
        .await;
    clients.sqs.purge_queue().queue_url(&of_main.work_queue_url).send().await.unwrap();
    assert_eq!(sluice.queued().await, 0);

    let table = of_main.device_state_table_name.clone().unwrap();
    // DynamoDB does this by itself when a table with point-in-time recovery is deleted, and calls the
    // type of the backup SYSTEM. The emulator does not, and does not look at types.
    let backup = clients.dynamodb.create_backup().table_name(&table);
    backup.backup_name("DeletedTableBackup").send().await.unwrap();
    clients.dynamodb.delete_table().table_name(&table).send().await.unwrap();
    Damage { rule, mapping, table, device, purged }
}

impl Damage {
    async fn is_undone(&self, sluice: &Sluice) {
        let rule = sluice.events("DescribeRule", &json!({ "Name": self.rule })).await;
        assert_eq!(rule["State"], "ENABLED");
        let get = sluice.clients().lambda.get_event_source_mapping().uuid(&self.mapping);
        assert_eq!(get.send().await.unwrap().state(), Some("Enabled"));
        assert!(sluice.item(&self.device).await.is_some(), "the table is not as it was");
        assert_eq!(sluice.ended(&self.purged).await, Ended::written());
    }
}

/// The commands in a message of the guard: what a person would copy.
fn commands(message: &str) -> Vec<&str> {
    let lines = message.lines().skip(2).map(|line| line.trim_matches('"'));
    lines.map(|line| line.split_once(": ").expect("a sentence, and a command").1).collect()
}

#[tokio::test]
async fn a_call_by_hand_becomes_one_message_with_what_undoes_it_and_a_foreign_one_none() {
    let sluice = Sluice::deployed_with("guarded", &[]).await;
    let outputs = sluice.deploy_beside(Companion::Guard).await;
    let queue = subscribe_queue("listener-of-the-guard", &outputs["GuardTopicArn"], true).await;

    let of_main = &sluice.stack().outputs;
    let work_queue = json!({ "queueUrl": of_main.work_queue_url });
    let consumer = of_main.consumer_function_name.as_str();
    let damage = damage(&sluice).await;
    let Damage { rule, mapping, table, .. } = &damage;
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{consumer}");
    let back = "--deployment-mode REVERT_DRIFT";

    // First what must not ring: were it to, it would be there before the others.
    let purge = call("sqs", "PurgeQueue", &work_queue);
    let with = |name: &str, value: &str| {
        let mut call = purge.clone();
        call[name] = value.into();
        call
    };
    let foreign_queue = format!("{}-of-another-stack", of_main.work_queue_url);
    let foreign_rule = "another-NightlyRedriveRule-A1B2C3";
    for quiet in [
        with("sourceIPAddress", "cloudformation.amazonaws.com"),
        with("errorCode", "AccessDenied"),
        with("eventName", "SendMessage"),
        call("sqs", "PurgeQueue", &json!({ "queueUrl": foreign_queue })),
        call("sqs", "DeleteQueue", &json!({ "queueUrl": foreign_queue })),
        call("s3", "DeleteBucket", &json!({ "bucketName": "another" })),
        call("events", "DisableRule", &json!({ "name": foreign_rule })),
        call("events", "RemoveTargets", &json!({ "rule": foreign_rule })),
        call("lambda", "DeleteFunction20150331", &json!({ "functionName": "another" })),
        call("lambda", "DeleteFunctionConcurrency20171031", &json!({ "functionName": consumer })),
        call("dynamodb", "DeleteTable", &json!({ "tableName": format!("{table}-2") })),
    ] {
        sluice.tell_of(&quiet).await;
    }

    // In the order in which they are undone: whatever starts again needs the table.
    let cases = [
        (
            "dynamodb",
            "DeleteTable",
            json!({ "tableName": table }),
            "aws dynamodb restore-table-from-backup",
        ),
        ("sqs", "PurgeQueue", work_queue.clone(), "cargo sluice reconcile"),
        ("sqs", "DeleteQueue", json!({ "queueUrl": of_main.dead_letter_queue_url }), back),
        ("sqs", "SetQueueAttributes", work_queue.clone(), back),
        ("s3", "DeleteBucket", json!({ "bucketName": of_main.archive_bucket_name }), back),
        ("s3", "PutBucketNotification", json!({ "bucketName": of_main.upload_bucket_name }), back),
        (
            "lambda",
            "UpdateEventSourceMapping20150331",
            json!({ "uUID": mapping, "enabled": false }),
            "aws lambda update-event-source-mapping",
        ),
        ("lambda", "DeleteEventSourceMapping20150331", json!({ "uuid": mapping }), back),
        ("lambda", "DeleteFunction20150331", json!({ "functionName": arn }), back),
        ("events", "DisableRule", json!({ "name": rule }), "aws events enable-rule --name"),
        ("events", "RemoveTargets", json!({ "rule": rule, "ids": ["Redrive"] }), back),
        (
            "states",
            "DeleteStateMachine",
            json!({ "stateMachineArn": of_main.state_machine_arn }),
            back,
        ),
    ];
    for (service, name, parameters, _) in &cases {
        sluice.tell_of(&call(service, name, parameters)).await;
    }

    let messages: Vec<String> = eventually("a message of each call", async || {
        let messages = sluice.look_into(&queue).await;
        if messages.len() < cases.len() {
            return Err(format!("{messages:?}"));
        }
        let text = |message: &Value| message["Body"].as_str().unwrap_or_default().to_owned();
        Ok(messages.iter().map(text).collect())
    })
    .await;
    assert_eq!(messages.len(), cases.len(), "{messages:#?}");
    for (_, name, parameters, undo) in &cases {
        let whose = parameters.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        let first = format!("\"Somebody has touched {}: {name} on {whose}\"", sluice.stack().name);
        let mut of_call = messages.iter().filter(|text| text.lines().next() == Some(&first));
        let text = of_call.next().unwrap_or_else(|| panic!("{first}: {messages:#?}"));
        assert!(of_call.next().is_none(), "{name} has rung twice: {messages:#?}");
        let who = "\"Who: arn:aws:sts::000000000000:assumed-role/admin/anna, from 203.0.113.7, at 2026-11-20T21:00:00Z\"";
        assert_eq!(text.lines().nth(1), Some(who));
        let commands = commands(text);
        assert!(commands[0].contains(undo), "{text}");
        sluice.paste(commands[0]).await.unwrap_or_else(|error| panic!("{error}"));
        if let [_, execute] = commands[..] {
            // The emulator compares templates, not resources, so it has found nothing to change.
            let refused = sluice.paste(execute).await.unwrap_err().to_string();
            assert!(refused.contains("(InvalidChangeSetStatus)"), "{refused}");
        }
    }
    damage.is_undone(&sluice).await;

    sluice.remove_beside(Companion::Guard).await;
    works_on(&sluice).await;
}

/// Posts a state, in several lines, and puts into the stream what the API makes of it.
async fn post_state(sluice: &Sluice, outputs: &HashMap<String, String>, state: &Value) {
    let body = serde_json::to_string_pretty(state).unwrap();
    let requests = api::requests(&outputs["StateStreamName"], &[&body]).await;
    put_record(sluice, &serde_json::from_str(&requests[0][0]).unwrap()).await;
}

async fn put_record(sluice: &Sluice, request: &Value) {
    sluice.post("kinesis", "Kinesis_20131202.PutRecord", request).await;
}

/// The files that the stream has written, in their order, which is that of their time.
async fn files(sluice: &Sluice) -> Vec<String> {
    let bucket = &sluice.stack().outputs.upload_bucket_name;
    let list = sluice.clients().s3.list_objects_v2().bucket(bucket).prefix("devices/stream/");
    let objects = list.send().await.unwrap().contents.unwrap_or_default();
    objects.into_iter().map(|object| object.key.unwrap()).collect()
}

#[tokio::test]
async fn a_record_in_the_stream_becomes_an_item() {
    let sluice = Sluice::joined("streamed").await;
    let outputs = sluice.deploy_beside(Companion::Stream).await;
    let device = sluice.device("one");
    let record = |sequence: &str, number: u32| json!({ "deviceId": device, "state": { "number": number }, "sequence": sequence });
    let mut seen = Vec::new();
    // The newest arrives before an older one, which then arrives twice.
    for (sequence, number) in [("0001", 1), ("0003", 3), ("0002", 2), ("0002", 2)] {
        post_state(&sluice, &outputs, &record(sequence, number)).await;
        let key = eventually("its file is there", async || {
            let new = files(&sluice).await.into_iter().find(|key| !seen.contains(key));
            new.ok_or_else(|| "it is not".to_owned())
        })
        .await;
        let write = sluice.found(&key).await;
        assert_eq!(sluice.ended(&write).await, Ended::written());
        seen.push(key);
    }
    let item = sluice.item(&device).await.unwrap();
    assert_eq!(item.state(), json!({ "number": 3 }));
    assert_eq!(item.text("sequencer"), "s0003");
    assert_eq!(item.text("objectKey"), seen[1]);
    assert_eq!(item.number("objectLine"), 1);

    // What the model of the API would have refused, from somebody who writes to the stream directly.
    let refused = json!({ "deviceId": device, "state": 1 });
    let data = aws_smithy_types::base64::encode(refused.to_string());
    let stream = &outputs["StateStreamName"];
    let request = json!({ "StreamName": stream, "Data": data, "PartitionKey": device });
    put_record(&sluice, &request).await;
    let letters = sluice
        .eventually("the line is refused", async || {
            let url = &sluice.stack().outputs.dead_letter_queue_url;
            let letters = sluice.look_into(url).await;
            if letters.is_empty() { Err("it is not".to_owned()) } else { Ok(letters) }
        })
        .await;
    let message = &letters[0]["MessageAttributes"]["errorMessage"]["StringValue"];
    assert!(message.as_str().unwrap().contains("line 1: state: expected an object"), "{message}");

    sluice.remove_beside(Companion::Stream).await;
    works_on(&sluice).await;
}

#[tokio::test]
async fn the_second_subscriber_of_the_topic_hears_of_each_upload() {
    let sluice = Sluice::joined("catalogued").await;
    let outputs = sluice.deploy_beside(Companion::Catalog).await;

    let write = sluice.upload_state(&sluice.device("one"), &json!({ "on": true })).await;

    assert_eq!(sluice.ended(&write).await, Ended::written());
    let body = sluice
        .eventually("the queue of the crawler has it", async || {
            let messages = sluice.look_into(&outputs["CatalogQueueUrl"]).await;
            let bodies = messages.iter().filter_map(|message| message["Body"].as_str());
            let body = bodies.into_iter().find(|body| body.contains(&write.key));
            body.map(str::to_owned).ok_or_else(|| "it has not".to_owned())
        })
        .await;
    let event = messages::decode(&body).remove(0).unwrap();
    assert_eq!(event.id.to_string(), write.event_id);
    assert_eq!(sluice.look_into(&outputs["CatalogDeadLetterQueueUrl"]).await.len(), 0);

    sluice.remove_beside(Companion::Catalog).await;
    works_on(&sluice).await;
}

/// The main stack, when a companion is gone.
async fn works_on(sluice: &Sluice) {
    let device = sluice.device("after");
    let write = sluice.upload_state(&device, &json!({ "on": false })).await;
    assert_eq!(sluice.ended(&write).await, Ended::written());
    let item = sluice.item(&device).await.unwrap();
    assert_eq!(item.text("objectKey"), key_of(&device));
    assert_eq!(item.state(), json!({ "on": false }));
}
