use super::*;

#[test]
fn an_error_names_the_envelope_the_place_and_what_was_expected() {
    let mut nested = sample_json("sns-to-lambda.json");
    let mut message = sample_json("s3-two-records.json");
    message["Records"][1]["s3"]["object"]["key"] = json!(7);
    nested["Records"][0]["Sns"]["Message"] = json!(message.to_string());
    let nested = json!({ "requestPayload": nested }).to_string();
    let results = decode(&nested);
    assert!(results[0].is_ok(), "the neighbour is decoded");
    let error = results[1].as_ref().expect_err("refused");
    assert_eq!(error.envelope, "an S3 notification");
    assert_eq!(error.path, "requestPayload.Records[0].Sns.Message.Records[1].s3.object.key");
    assert!(error.problem.starts_with("invalid type: integer `7`, expected"), "{error}");
}

#[test]
fn what_is_not_an_envelope_is_refused_with_a_reason() {
    let cases = [
        ("", "a message: EOF while parsing"),
        ("not json", "a message: expected ident"),
        ("null", "a message: invalid type: null"),
        ("[]", "a message: invalid"),
        ("{}", "a message: expected an S3 notification, an SNS notification"),
        (r#"{"Event": "something else"}"#, "a message: expected an S3 notification"),
        (r#"{"Records": 5}"#, "a message: invalid type: integer `5`, expected a sequence"),
        (r#"{"Records": [{}]}"#, "a record: missing field `eventSource`"),
        (
            r#"{"Records": [{"eventSource": "aws:kinesis"}]}"#,
            "found `aws:kinesis` at `Records[0].eventSource`",
        ),
        (r#"{"specversion": "1.0"}"#, "a CloudEvent: missing field `id`"),
        (r#"{"TopicArn": "t"}"#, "an SNS notification: missing field `Message`"),
        (
            r#"{"detail-type": "Scheduled Event", "source": "aws.events"}"#,
            "found `aws.events` at `source`",
        ),
        (r#"{"requestPayload": null}"#, "a message: expected an S3 notification"),
        (r#"{"failedExecution": {}}"#, "a failed execution: missing field `event`"),
    ];
    for (body, expected) in cases {
        let error = error(body);
        assert!(error.contains(expected), "{body} gives: {error}");
    }
}

#[test]
fn a_later_major_version_asks_for_a_newer_sluice() {
    let body = sample("s3-object-created-put.json").replace("\"2.1\"", "\"3.0\"");
    assert_eq!(
        error(&body),
        "cannot decode an S3 notification: expected version 2.x, found `3.0`: this needs a newer \
         Sluice at `Records[0].eventVersion`"
    );
}

#[test]
fn a_message_with_another_specversion_or_a_made_up_id_is_refused() {
    let message = event(&sample("s3-object-created-put.json")).to_json().expect("JSON");
    assert!(error(&message.replace(r#""1.0""#, r#""2.0""#)).contains("at `specversion`"));
    let id = event(&message).id.to_string();
    let error = error(&message.replace(&id, "order 66"));
    assert!(error.contains("expected an id of 40 lowercase hex digits"), "{error}");
}

#[test]
fn a_key_that_is_not_utf8_is_refused() {
    let body = notification("b", "devices/%FF.json", None, "01");
    assert_eq!(
        error(&body),
        "cannot decode an S3 notification: expected a form-encoded key in UTF-8 at \
         `Records[0].s3.object.key`"
    );
}

#[test]
fn a_part_that_would_make_the_id_ambiguous_is_refused() {
    assert!(error(&notification("a\0b", "k", None, "01")).contains("bucket name without NUL"));
    assert!(error(&notification("b", "k", Some("v\0w"), "01")).contains("version id without NUL"));
    assert!(error(&notification("b", "", None, "01")).contains("found an empty one"));
}

#[test]
fn nesting_without_end_is_refused() {
    let brackets = "[".repeat(200_000);
    assert!(error(&brackets).contains("cannot decode a message"));
    let inside = format!(r#"{{"Records": [{{"eventSource": "aws:s3", "x": {brackets}"#);
    assert!(error(&inside).contains("cannot decode a message"));
    let mut body = sample("s3-object-created-put.json");
    for _ in 0..16 {
        body = format!(r#"{{"requestPayload": {body}}}"#);
        event(&body);
    }
    for _ in 0..4 {
        body = format!(r#"{{"requestPayload": {body}}}"#);
        assert!(error(&body).contains("expected fewer envelopes in each other"));
    }
}
