use super::*;

fn record_of(edit: impl FnOnce(&mut Value)) -> Value {
    let mut message = message("k");
    edit(&mut message);
    let mut record = record("k");
    record["body"] = json!(message.to_string());
    record
}

/// The input of the one execution that `record` starts.
async fn input(fake: &Fake, record: Value) -> Value {
    assert!(consume(fake, vec![record]).await.is_empty());
    let executions = &fake.state().executions;
    assert_eq!(executions.len(), 1);
    executions[0].1.clone()
}

/// Class and reason of the one dead letter that `record` becomes.
async fn dead_letter(fake: &Fake, record: Value) -> (String, String) {
    assert!(consume(fake, vec![record]).await.is_empty());
    let state = fake.state();
    let attributes = state.dead[0].message_attributes().expect("attributes");
    let text = |name: &str| attributes[name].string_value().expect("text").to_owned();
    (text("errorClass"), text("errorMessage"))
}

#[tokio::test(start_paused = true)]
async fn the_very_version_of_the_event_is_read() {
    let fake = Fake::new();
    input(&fake, record_of(|message| message["data"]["versionId"] = json!("v1"))).await;
    let read = fake.state().reads[0].clone();
    assert_eq!((read.bucket(), read.key()), (Some("device-state"), Some("k")));
    assert_eq!((read.version_id(), read.if_match()), (Some("v1"), None));
}

#[tokio::test(start_paused = true)]
async fn newer_content_is_not_passed_off_as_the_older_event() {
    let fake = Fake::new();
    input(&fake, record("k")).await;
    let read = fake.state().reads[0].clone();
    assert_eq!(read.version_id(), None);
    assert_eq!(read.if_match(), Some("\"d41d8cd98f00b204e9800998ecf8427e\""));

    let fake = Fake::new().read_fails("k", "PreconditionFailed");
    let input = input(&fake, record("k")).await;
    assert_eq!(input["data"]["overwritten"], true);
    assert_eq!(input["data"].get("content"), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_large_or_many_goes_by_reference_without_being_read() {
    let large = record_of(|message| message["data"]["size"] = json!(1_001));
    let lines = record_of(|message| message["data"]["key"] = json!("k.jsonl"));
    let removed =
        record_of(|message| message["type"] = json!("com.amazonaws.s3.ObjectRemoved:Delete"));
    for record in [large, lines, removed] {
        let fake = Fake::new();
        let input = input(&fake, record).await;
        assert_eq!(input["data"].get("content"), None);
        assert!(fake.state().reads.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_event_tells_no_size_is_measured() {
    let unsized_ = || {
        record_of(|message| {
            message["data"].as_object_mut().expect("object").remove("size");
        })
    };
    let fake = Fake::new().object("k", br#"{"a":1}"#);
    assert_eq!(input(&fake, unsized_()).await["data"]["content"], json!({ "a": 1 }));
    let fake = Fake::new().object("k", " ".repeat(1_001).as_bytes());
    assert_eq!(input(&fake, unsized_()).await["data"].get("content"), None);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_json_is_poison_with_line_and_column() {
    let fake = Fake::new().object("k", b"{\n  \"deviceId\": }");
    let (class, reason) = dead_letter(&fake, record("k")).await;
    assert_eq!(class, "NotJson");
    assert_eq!(reason, "the object is not JSON: expected value at line 2 column 15");

    for content in [&b""[..], b"{} {}", b"\xff", b"\xef\xbb\xbf{}", b"{\"a\":\"\xff\"}"] {
        let fake = Fake::new().object("k", content);
        assert_eq!(dead_letter(&fake, record("k")).await.0, "NotJson", "{content:?}");
    }
}
