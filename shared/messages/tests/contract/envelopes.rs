use super::*;

/// The one write that most samples are about, as every route tells it.
fn assert_is_the_write(event: &Event, route: &str) {
    let direct = self::event(&sample("s3-object-created-put.json"));
    assert_eq!(event.id, direct.id, "{route}");
    assert_eq!(event.event_type, "com.amazonaws.s3.ObjectCreated:Put");
    assert_eq!(event.source, "aws:s3.ap-northeast-2.device-state");
    assert_eq!(event.subject, "devices/42/state 2026-11-20T21:00:00Z.json");
    assert_eq!(event.data, direct.data);
}

#[test]
fn an_s3_notification_becomes_the_message_of_the_contract() {
    let event = event(&sample("s3-object-created-put.json"));
    let message: Value = serde_json::from_str(&event.to_json().expect("JSON")).expect("JSON");
    assert_eq!(
        message,
        json!({
            "specversion": "1.0",
            // sha256 of "ObjectCreated\0device-state\0<key>\0<sequencer>", first 40 digits
            "id": "60a564b35e9db02ade816b779bdb953583907372",
            "source": "aws:s3.ap-northeast-2.device-state",
            "type": "com.amazonaws.s3.ObjectCreated:Put",
            "subject": "devices/42/state 2026-11-20T21:00:00Z.json",
            "time": "2026-11-20T21:00:00.123Z",
            "data": {
                "bucket": "device-state",
                "key": "devices/42/state 2026-11-20T21:00:00Z.json",
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "size": 512,
                "sequencer": "000000000000000055AED6DCD90281E5"
            }
        })
    );
}

#[test]
fn every_record_is_an_event() {
    let events = events(&sample("s3-two-records.json"));
    let keys: Vec<_> = events.iter().map(|event| event.data.key.as_str()).collect();
    assert_eq!(keys, ["devices/42/state 2026-11-20T21:00:00Z.json", "devices/7/한글+1.json"]);
    assert_eq!(events[1].event_type, "com.amazonaws.s3.ObjectCreated:CompleteMultipartUpload");
    assert_ne!(events[0].id, events[1].id);
}

#[test]
fn a_test_event_is_no_event_and_no_error() {
    assert!(decode(&sample("s3-test-event.json")).is_empty());
}

#[test]
fn the_same_write_is_the_same_event_on_every_route() {
    let raw = sample("s3-object-created-put.json");
    let sqs = |body: &str| json!({ "Records": [{ "eventSource": "aws:sqs", "messageId": "m", "body": body }] });
    let routes = [
        ("direct, and SNS raw", raw.clone()),
        ("SNS to Lambda", sample("sns-to-lambda.json")),
        ("SNS to SQS", sample("sns-to-sqs-body.json")),
        ("EventBridge", sample("eventbridge-object-created-key-not-encoded.json")),
        ("on-failure destination", sample("lambda-on-failure-destination-body.json")),
        (
            "on-failure destination around SNS",
            json!({ "requestPayload": sample_json("sns-to-lambda.json") }).to_string(),
        ),
        (
            "on-failure destination around EventBridge",
            json!({ "requestPayload":
                    sample_json("eventbridge-object-created-key-not-encoded.json") })
            .to_string(),
        ),
        ("SQS record around a notification", sqs(&raw).to_string()),
        (
            "SQS record around EventBridge",
            sqs(&sample("eventbridge-object-created-key-not-encoded.json")).to_string(),
        ),
        (
            "SQS record around a destination record around SNS",
            sqs(&json!({ "requestPayload": sample_json("sns-to-lambda.json") }).to_string())
                .to_string(),
        ),
        ("the message itself", event(&raw).to_json().expect("JSON")),
    ];
    for (route, body) in routes {
        assert_is_the_write(&event(&body), route);
    }
}

#[test]
fn a_failed_execution_comes_back_as_the_next_attempt() {
    let failed = event(&sample("step-functions-status-failed.json"));
    assert_eq!(failed.attempt, 1);
    assert_eq!(failed.execution_name(), "0123456789abcdef0123456789abcdef01234567-r1");
    assert_eq!(failed.data.key, "devices/42/state 2026-11-20T21:00:00Z.json");

    let letter = |event: &Event| {
        let event: Value = serde_json::from_str(&event.to_json().expect("JSON")).expect("JSON");
        let failed = json!({ "name": "n", "error": "DynamoDB.Throttling", "cause": "c" });
        json!({ "failedExecution": failed, "event": event }).to_string()
    };
    let again = self::event(&letter(&failed));
    assert_eq!(again.attempt, 2);
    assert_eq!(again.id, failed.id);
    // Two redrives of one failure collapse into one execution.
    assert_eq!(self::event(&letter(&failed)).execution_name(), again.execution_name());
}

#[test]
fn an_execution_comes_back_however_it_failed() {
    for status in ["FAILED", "TIMED_OUT", "ABORTED"] {
        let mut change = sample_json("step-functions-status-failed.json");
        change["detail"]["status"] = json!(status);
        assert_eq!(event(&change.to_string()).attempt, 1, "{status}");
    }
}

#[test]
fn an_execution_whose_input_was_left_out_is_named() {
    let without_input = sample_json("step-functions-status-timed-out-without-input.json");
    let mut without_field = without_input.clone();
    without_field["detail"].as_object_mut().expect("object").remove("input");
    for change in [without_input, without_field] {
        let errors = decode(&change.to_string());
        let [Err(error)] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!(
            error.to_string(),
            "cannot decode a Step Functions status change: expected the input, which Step \
             Functions leaves out when it is large at `detail.input`"
        );
        let arn = change["detail"]["executionArn"].as_str();
        assert_eq!(error.input_left_out_of.as_deref(), arn);
    }
    // With the input, as Step Functions has it, the event is the same as if it had been included.
    let included = sample_json("step-functions-status-failed.json");
    let input = included["detail"]["input"].as_str().expect("an input");
    assert_eq!(messages::decode_failed_input(input), decode(&included.to_string()));
    let nothing = messages::decode_failed_input("[]").remove(0).expect_err("no event");
    assert_eq!(nothing.input_left_out_of, None);
}

#[test]
fn an_execution_that_did_not_fail_is_not_started_again() {
    for status in ["RUNNING", "SUCCEEDED"] {
        let mut change = sample_json("step-functions-status-failed.json");
        change["detail"]["status"] = json!(status);
        assert_eq!(
            error(&change.to_string()),
            format!(
                "cannot decode a Step Functions status change: expected `FAILED`, `TIMED_OUT` or \
                 `ABORTED`, found `{status}` at `detail.status`"
            )
        );
    }
}

#[test]
fn events_without_sequencer_size_or_etag_have_a_stable_id() {
    let restore = sample("s3-object-restore-completed-no-sequencer.json");
    let event = event(&restore);
    assert_eq!(event.event_type, "com.amazonaws.s3.ObjectRestore:Completed");
    assert_eq!((event.data.size, event.data.sequencer.as_deref()), (None, None));
    assert_eq!(event.id, self::event(&restore).id);
    assert!(!event.is_object_created());
    // A second restore of the same version is another event.
    let later = restore.replace("21:00:00.123Z", "21:00:05.123Z");
    assert_ne!(event.id, self::event(&later).id);
    // EventBridge tells the time to the second only.
    let same_second = restore.replace("21:00:00.123Z", "21:00:00Z");
    assert_eq!(event.id, self::event(&same_second).id);
}

#[test]
fn removing_an_object_is_another_event_than_creating_it() {
    let created = event(&sample("s3-object-created-versioned.json"));
    let removed = sample("s3-object-removed-delete-marker.json")
        .replace("uzGXdeleteMarkerVersion", "3HL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY");
    let removed = event(&removed);
    assert_eq!(removed.data.version_id, created.data.version_id);
    assert_ne!(removed.id, created.id);
}

#[test]
fn event_bridge_names_events_as_s3_does() {
    let cases = [
        ("Object Created", json!({ "reason": "PutObject" }), "ObjectCreated:Put"),
        ("Object Created", json!({ "reason": "POST Object" }), "ObjectCreated:Post"),
        ("Object Created", json!({ "reason": "CopyObject" }), "ObjectCreated:Copy"),
        (
            "Object Created",
            json!({ "reason": "CompleteMultipartUpload" }),
            "ObjectCreated:CompleteMultipartUpload",
        ),
        (
            "Object Deleted",
            json!({ "reason": "DeleteObject", "deletion-type": "Permanently Deleted" }),
            "ObjectRemoved:Delete",
        ),
        (
            "Object Deleted",
            json!({ "reason": "DeleteObject", "deletion-type": "Delete Marker Created" }),
            "ObjectRemoved:DeleteMarkerCreated",
        ),
        (
            "Object Deleted",
            json!({ "reason": "Lifecycle Expiration", "deletion-type": "Permanently Deleted" }),
            "LifecycleExpiration:Delete",
        ),
        ("Object Restore Initiated", json!({}), "ObjectRestore:Post"),
        ("Object Restore Completed", json!({}), "ObjectRestore:Completed"),
        ("Object Restore Expired", json!({}), "ObjectRestore:Delete"),
        ("Object Storage Class Changed", json!({}), "LifecycleTransition"),
        ("Object Access Tier Changed", json!({}), "IntelligentTiering"),
        ("Object ACL Updated", json!({}), "ObjectAcl:Put"),
        ("Object Tags Added", json!({}), "ObjectTagging:Put"),
        ("Object Tags Deleted", json!({}), "ObjectTagging:Delete"),
    ];
    for (detail_type, detail, name) in cases {
        let mut body = sample_json("eventbridge-object-created-key-not-encoded.json");
        body["detail-type"] = json!(detail_type);
        let fields = body["detail"].as_object_mut().expect("object");
        fields.remove("reason");
        fields.extend(detail.as_object().expect("object").clone());
        let event = event(&body.to_string());
        assert_eq!(event.event_type, format!("com.amazonaws.s3.{name}"));
        assert_eq!(event.is_object_created(), detail_type == "Object Created");
    }
}

#[test]
fn fields_that_are_not_known_are_ignored() {
    let mut body = sample_json("s3-object-created-put.json");
    body["Records"][0]["eventVersion"] = json!("2.9");
    body["Records"][0]["s3"]["object"]["colour"] = json!({ "deep": ["x", null] });
    body["region"] = json!("elsewhere");
    assert_is_the_write(&event(&body.to_string()), "a later 2.x");
}
