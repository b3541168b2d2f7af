use messages::{Content, ExecutionInput};
use serde_json::value::RawValue;

use super::*;

fn input(content: &Content) -> Value {
    let event = event(&sample("s3-object-created-versioned.json"));
    let input = ExecutionInput::new(&event, content).to_json().expect("JSON");
    serde_json::from_str(&input).expect("JSON")
}

fn message() -> Value {
    let message = event(&sample("s3-object-created-versioned.json")).to_json().expect("JSON");
    serde_json::from_str(&message).expect("JSON")
}

#[test]
fn an_execution_gets_the_message_and_nothing_else_by_reference() {
    assert_eq!(input(&Content::ByReference), message());
}

#[test]
fn inline_content_is_passed_on_as_it_is() {
    let text = r#"{"big":123456789012345000,"ü":[1.10,{"x":null}]}"#;
    let content: Box<RawValue> = serde_json::from_str(text).expect("JSON");
    let event = event(&sample("s3-object-created-versioned.json"));
    let input = ExecutionInput::new(&event, &Content::Inline(content)).to_json().expect("JSON");
    assert!(input.contains(text), "{input}");
    let mut input: Value = serde_json::from_str(&input).expect("JSON");
    input["data"].as_object_mut().expect("object").remove("content");
    assert_eq!(input, message());
}

#[test]
fn an_overwritten_object_is_said_to_be_so() {
    let mut expected = message();
    expected["data"]["overwritten"] = json!(true);
    assert_eq!(input(&Content::Overwritten), expected);
}

#[test]
fn the_input_of_an_execution_is_a_message_again() {
    let content: Box<RawValue> = serde_json::from_str("[1]").expect("JSON");
    for content in [Content::Inline(content), Content::ByReference, Content::Overwritten] {
        let event = event(&sample("s3-object-created-versioned.json"));
        let input = ExecutionInput::new(&event, &content).to_json().expect("JSON");
        assert_eq!(self::event(&input), event);
    }
}

#[test]
fn the_same_event_always_gives_the_same_bytes() {
    let bytes = || event(&sample("s3-object-created-put.json")).to_json().expect("JSON");
    assert_eq!(bytes(), bytes());
    assert_eq!(event(&bytes()).to_json().expect("JSON"), bytes());
}

#[test]
fn a_member_with_a_number_that_may_be_rounded_is_passed_as_text_too() {
    let text = r#"{"deviceId":"42","state":{"at": 1763672400123456},"t":1.50}"#;
    let content: Box<RawValue> = serde_json::from_str(text).expect("JSON");
    let input = input(&Content::Inline(content));
    let expected = json!({ "state": "{\"at\": 1763672400123456}" });
    assert_eq!(input["data"]["contentText"], expected);

    let exact: Box<RawValue> = serde_json::from_str(r#"{"state":{"at":1.5}}"#).expect("JSON");
    assert_eq!(self::input(&Content::Inline(exact))["data"].get("contentText"), None);
}

#[test]
fn what_is_passed_as_text_can_be_left_out_of_the_content() {
    let text = r#"{"deviceId":"42","state":{"at":1763672400123456},"t":1.50}"#;
    let content = Content::Inline(serde_json::from_str(text).expect("JSON"));
    let event = event(&sample("s3-object-created-versioned.json"));
    let input = ExecutionInput::new(&event, &content).without_repetition().expect("JSON");
    let input = input.to_json().expect("JSON");
    assert!(input.contains(r#""content":{"deviceId":"42","t":1.50}"#), "{input}");
    assert!(input.contains(r#""contentText":{"state":"{\"at\":1763672400123456}"}"#), "{input}");
}
