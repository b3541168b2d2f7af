use consumer::InlineContent;

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
async fn what_goes_by_reference_is_asked_after_as_the_version_that_it_is() {
    let large = |version: Option<&str>| {
        record_of(|message| {
            message["data"]["size"] = json!(1_001);
            if let Some(version) = version {
                message["data"]["versionId"] = json!(version);
            }
        })
    };
    let fake = Fake::new();
    input(&fake, large(Some("v1"))).await;
    let head = fake.state().heads[0].clone();
    assert_eq!((head.version_id(), head.if_match()), (Some("v1"), None));

    let fake = Fake::new().head_answers("k", 412);
    let input = input(&fake, large(None)).await;
    assert_eq!(input["data"]["overwritten"], true);
    let head = fake.state().heads[0].clone();
    let e_tag = Some("\"d41d8cd98f00b204e9800998ecf8427e\"");
    assert_eq!((head.version_id(), head.if_match()), (None, e_tag));
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_the_users_gets_json_inline_and_all_else_by_reference() {
    let preferred = || Fake::new().inline(InlineContent::Preferred, 1_000);
    let fake = preferred().object("k", br#"{"a":1}"#);
    assert_eq!(input(&fake, record("k")).await["data"]["content"], json!({ "a": 1 }));
    for content in [&b"\x89PNG"[..], b"", b"\xef\xbb\xbf{}"] {
        let fake = preferred().object("k", content);
        let input = input(&fake, record("k")).await;
        assert_eq!(input["data"].get("content"), None, "{content:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_wanted_inline_nothing_is_read() {
    for (content, limit) in [(InlineContent::Never, 1_000), (InlineContent::Required, 0)] {
        let fake = Fake::new().object("k", b"").inline(content, limit);
        let empty = record_of(|message| message["data"]["size"] = json!(0));
        assert_eq!(input(&fake, empty).await["data"].get("content"), None);
        let state = fake.state();
        assert!(state.reads.is_empty() && state.heads.is_empty());
    }
}

/// The acknowledgement was lost, the object deleted, the message delivered once more.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_after_its_execution_is_a_duplicate_and_no_dead_letter() {
    let gone = || Fake::new().read_fails("k", "NoSuchVersion");
    let fake = gone().has_execution("k");
    assert!(consume(&fake, vec![record("k")]).await.is_empty());
    assert!(fake.state().dead.is_empty());
    assert_eq!(dead_letter(&gone(), record("k")).await.0, "ObjectMissing");
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
