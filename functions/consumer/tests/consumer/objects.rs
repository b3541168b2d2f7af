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
async fn input(aws: &Aws, record: Value) -> Value {
    input_with(aws, config(aws), record).await
}

async fn input_with(aws: &Aws, config: Config, record: Value) -> Value {
    assert!(consume_with(aws, config, &Lines::default(), event(&[record])).await.is_empty());
    let executions = aws.step_functions().started();
    assert_eq!(executions.len(), 1);
    executions[0].input()
}

/// Class and reason of the one dead letter that `record` becomes.
async fn dead_letter(aws: &Aws, record: Value) -> (String, String) {
    assert!(consume(aws, vec![record]).await.is_empty());
    let letter = aws.dead_letter_queue().messages()[0].clone();
    let text = |name: &str| letter.text(name).expect("text").to_owned();
    (text("errorClass"), text("errorMessage"))
}

#[tokio::test(start_paused = true)]
async fn the_very_version_of_the_event_is_read() {
    let aws = Aws::new();
    input(&aws, record_of(|message| message["data"]["versionId"] = json!("v1"))).await;
    let read = json!({ "Bucket": "device-state", "Key": "k", "VersionId": "v1" });
    assert_eq!(aws.calls_of("GetObject"), [read]);
}

#[tokio::test(start_paused = true)]
async fn newer_content_is_not_passed_off_as_the_older_event() {
    let aws = Aws::new();
    input(&aws, record("k")).await;
    let tag = format!("\"{E_TAG}\"");
    let read = json!({ "Bucket": "device-state", "Key": "k", "IfMatch": tag });
    assert_eq!(aws.calls_of("GetObject"), [read]);

    let aws = Aws::new();
    aws.s3().holds("device-state", "k", b"newer");
    let input = input(&aws, record("k")).await;
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
        let aws = Aws::new();
        let input = input(&aws, record).await;
        assert_eq!(input["data"].get("content"), None);
        assert!(aws.calls_of("GetObject").is_empty());
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
    let aws = Aws::new();
    input(&aws, large(Some("v1"))).await;
    let head = json!({ "Bucket": "device-state", "Key": "k", "VersionId": "v1" });
    assert_eq!(aws.calls_of("HeadObject"), [head]);

    let aws = Aws::new();
    aws.s3().holds("device-state", "k", b"newer");
    let input = input(&aws, large(None)).await;
    assert_eq!(input["data"]["overwritten"], true);
    let tag = format!("\"{E_TAG}\"");
    let head = json!({ "Bucket": "device-state", "Key": "k", "IfMatch": tag });
    assert_eq!(aws.calls_of("HeadObject"), [head]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_the_users_gets_json_inline_and_all_else_by_reference() {
    let preferred = async |content: &[u8]| {
        let aws = Aws::new();
        uploads(&aws, "k", content);
        let config = Config { inline_content: InlineContent::Preferred, ..config(&aws) };
        input_with(&aws, config, record("k")).await
    };
    assert_eq!(preferred(br#"{"a":1}"#).await["data"]["content"], json!({ "a": 1 }));
    for content in [&b"\x89PNG"[..], b"", b"\xef\xbb\xbf{}"] {
        let input = preferred(content).await;
        assert_eq!(input["data"].get("content"), None, "{content:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_of_just_the_limit_is_inline_whether_or_not_its_event_tells_the_size() {
    for tells_size in [true, false] {
        for (size, is_inline) in [(1_000, true), (1_001, false)] {
            let aws = Aws::new();
            let content = format!("\"{}\"", "x".repeat(size - 2));
            uploads(&aws, "k", content.as_bytes());
            let record = record_of(|message| {
                message["data"]["size"] = if tells_size { json!(size) } else { Value::Null };
            });
            let input = input_with(&aws, config(&aws), record).await;
            assert_eq!(input["data"].get("content").is_some(), is_inline, "{size}, {tells_size}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_wanted_inline_nothing_is_read() {
    for (content, limit) in [(InlineContent::Never, 1_000), (InlineContent::Required, 0)] {
        let aws = Aws::new();
        uploads(&aws, "k", b"");
        let config =
            Config { inline_content: content, inline_object_max_bytes: limit, ..config(&aws) };
        let empty = record_of(|message| message["data"]["size"] = json!(0));
        assert_eq!(input_with(&aws, config, empty).await["data"].get("content"), None);
        assert_eq!((aws.count("GetObject"), aws.count("HeadObject")), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_may_be_rounded_is_passed_as_text_if_the_input_has_room_for_it() {
    let text = |padding: usize| {
        let padding = "x".repeat(padding);
        format!(r#"{{"deviceId":"42","state":{{"at":1763672400123456,"x":"{padding}"}}}}"#)
    };
    let limit = 245_760;
    let input = async |text: &str| {
        let aws = Aws::new();
        uploads(&aws, "k", text.as_bytes());
        let config = Config { inline_object_max_bytes: limit, ..config(&aws) };
        input_with(&aws, config, record("k")).await
    };

    let small = input(&text(10)).await;
    let exact = r#"{"at":1763672400123456,"x":"xxxxxxxxxx"}"#;
    assert_eq!(small["data"]["contentText"], json!({ "state": exact }));

    assert_eq!(small["data"]["content"]["state"]["x"], "xxxxxxxxxx");

    // Without room for both, the text alone.
    let large = input(&text(200_000)).await;
    assert_eq!(large["data"]["content"], json!({ "deviceId": "42" }));
    assert_eq!(large["data"]["contentText"]["state"].as_str().map(str::len), Some(200_030));

    let quoted = text(0).replace(r#""x":"""#, &format!(r#""x":[{}1]"#, r#""","#.repeat(80_000)));
    let larger = input(&quoted).await;
    let names: Vec<&str> =
        larger["data"].as_object().expect("object").keys().map(String::as_str).collect();
    assert!(!names.iter().any(|name| name.starts_with("content")), "{names:?}");
}

/// The acknowledgement was lost, the object deleted, the message delivered once more.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_after_its_execution_is_a_duplicate_and_no_dead_letter() {
    let aws = Aws::new();
    aws.s3().fails("k", "NoSuchVersion");
    let message = message("k");
    aws.step_functions().starts(message["id"].as_str().expect("id"), &message.to_string());
    assert!(consume(&aws, vec![record("k")]).await.is_empty());
    assert!(aws.dead_letter_queue().messages().is_empty());

    let aws = Aws::new();
    aws.s3().fails("k", "NoSuchVersion");
    assert_eq!(dead_letter(&aws, record("k")).await.0, "ObjectMissing");
}

/// A letter would end in the archive, although the execution has run.
#[tokio::test(start_paused = true)]
async fn whether_a_gone_object_has_its_execution_is_asked_again_while_there_is_no_answer() {
    for code in ["ThrottlingException", "KmsThrottlingException", "InternalFailure"] {
        let aws = Aws::new();
        aws.s3().fails("k", "NoSuchVersion");
        aws.when("DescribeExecution").fails(code);
        assert!(consume(&aws, vec![record("k")]).await.is_empty());
        assert!(aws.dead_letter_queue().messages().is_empty(), "{code}");
        assert_eq!(aws.work_queue().keys(), ["k"], "{code}");
    }

    // Nobody may ask about the executions of an EXPRESS machine.
    let aws = Aws::new();
    aws.s3().fails("k", "NoSuchVersion");
    aws.when("DescribeExecution").fails("AccessDeniedException");
    assert_eq!(dead_letter(&aws, record("k")).await.0, "ObjectMissing");
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_event_tells_no_size_is_measured() {
    let unsized_ = || {
        record_of(|message| {
            message["data"].as_object_mut().expect("object").remove("size");
        })
    };
    let aws = Aws::new();
    uploads(&aws, "k", br#"{"a":1}"#);
    assert_eq!(input(&aws, unsized_()).await["data"]["content"], json!({ "a": 1 }));
    let aws = Aws::new();
    uploads(&aws, "k", " ".repeat(1_001).as_bytes());
    assert_eq!(input(&aws, unsized_()).await["data"].get("content"), None);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_json_is_poison_with_line_and_column() {
    let aws = Aws::new();
    uploads(&aws, "k", b"{\n  \"deviceId\": }");
    let (class, reason) = dead_letter(&aws, record("k")).await;
    assert_eq!(class, "NotJson");
    assert_eq!(reason, "the object is not JSON: expected value at line 2 column 15");

    for content in [&b""[..], b"{} {}", b"\xff", b"\xef\xbb\xbf{}", b"{\"a\":\"\xff\"}"] {
        let aws = Aws::new();
        uploads(&aws, "k", content);
        assert_eq!(dead_letter(&aws, record("k")).await.0, "NotJson", "{content:?}");
    }
}
