use messages::EventId;
use proptest::prelude::*;

use super::*;

/// A key with every byte percent-encoded, so that none of them means anything.
fn encode_all(key: &str) -> String {
    key.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
}

fn id(bucket: &str, key: &str, version: Option<&str>, sequencer: &str) -> EventId {
    event(&notification(bucket, &encode_all(key), version, sequencer)).id
}

#[test]
fn an_overwrite_is_another_event() {
    assert_ne!(id("b", "k", None, "0055AED6DCD90281E5"), id("b", "k", None, "0055AED6DCD90281E6"));
    assert_ne!(id("b", "k", Some("v1"), "01"), id("b", "k", Some("v2"), "01"));
}

#[test]
fn the_version_decides_where_there_is_one() {
    // So that an id can be computed again from a bucket listing, which has no sequencer.
    assert_eq!(id("b", "k", Some("v1"), "01"), id("b", "k", Some("v1"), "02"));
    // The null version is none.
    assert_eq!(id("b", "k", Some("null"), "01"), id("b", "k", None, "01"));
}

#[test]
fn the_time_decides_where_nothing_else_does() {
    let at = |name: &str, version: Option<&str>, time: &str| {
        let body = notification("b", "k", version, "");
        let mut body: Value = serde_json::from_str(&body).expect("JSON");
        body["Records"][0]["eventName"] = json!(name);
        body["Records"][0]["eventTime"] = json!(format!("2026-11-20T21:00:{time}Z"));
        body["Records"][0]["s3"]["object"].as_object_mut().expect("object").remove("sequencer");
        event(&body.to_string()).id
    };
    // A version is written once, and restored from the archive as often as somebody asks for it.
    assert_eq!(
        at("ObjectCreated:Put", Some("v1"), "00.1"),
        at("ObjectCreated:Put", Some("v1"), "01.1")
    );
    let restored = "ObjectRestore:Completed";
    assert_ne!(at(restored, Some("v1"), "00.1"), at(restored, Some("v1"), "01.1"));
    // To the second, which is all that some routes tell.
    assert_eq!(at(restored, Some("v1"), "00.1"), at(restored, Some("v1"), "00.2"));
    assert_ne!(at("ObjectCreated:Put", None, "00.1"), at("ObjectCreated:Put", None, "01.1"));
}

#[test]
fn an_id_is_forty_lowercase_digits_and_stands_for_its_bytes() {
    let id = id("b", "k", None, "01");
    let text = id.to_string();
    assert_eq!((id.as_str(), text.len()), (text.as_str(), 40));
    let hex: Vec<String> = id.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.concat(), text);
    assert_eq!(EventId::try_from(text.clone()).expect("an id"), id);
    for other in [&text[1..], &text.to_uppercase(), &format!("g{}", &text[1..]), ""] {
        let error = EventId::try_from(other.to_owned()).expect_err("refused").to_string();
        assert!(error.contains(other), "{error}");
    }
}

#[test]
fn an_execution_name_tells_the_event_and_the_attempt() {
    let mut event = event(&notification("b", "k", None, "01"));
    for attempt in [0, 1, 12] {
        event.attempt = attempt;
        let read = Event::read_execution_name(&event.execution_name());
        assert_eq!(read, Some((event.id.clone(), attempt)));
    }
    let id = event.id;
    for other in [format!("{id}-r0"), format!("{id}-r"), format!("{id}-rx"), "other-r1".to_owned()]
    {
        assert_eq!(Event::read_execution_name(&other), None, "{other}");
    }
}

#[test]
fn what_is_forgiven_keeps_its_name_and_is_redriven_anew() {
    let mut failed = event(&notification("b", "k", None, "01")).next_attempt();
    failed.redrives = 5;
    let forgiven = failed.clone().forgiven();
    assert_eq!((forgiven.attempt, forgiven.restored, forgiven.redrives), (1, 1, 0));
    assert_eq!(forgiven.execution_name(), failed.execution_name());
}

#[test]
fn a_sequencer_is_compared_as_a_number() {
    let sequencer = |text| event(&notification("b", "k", None, text)).data.sequencer;
    assert_eq!(sequencer("55aed6"), Some("0000000000000000000000000055AED6".to_owned()));
    assert_eq!(id("b", "k", None, "55aed6"), id("b", "k", None, "0055AED6"));
    assert!(sequencer("FF") < sequencer("100"));
}

fn key() -> impl Strategy<Value = String> {
    // Few letters and the separators, so that splits can collide if they are able to.
    proptest::collection::vec(prop::sample::select(vec!["a", "b", "\0", "/", "@", "0"]), 1..6)
        .prop_map(|parts| parts.concat())
}

fn version() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[ab0]{1,3}")
}

proptest! {
    #[test]
    fn two_different_writes_never_share_an_execution_name(
        one in ("[ab]{1,3}", key(), version(), "[0-9A-F]{1,3}"),
        other in ("[ab]{1,3}", key(), version(), "[0-9A-F]{1,3}"),
    ) {
        let event = |(bucket, key, version, sequencer): &(String, String, Option<String>, String)| {
            event(&notification(bucket, &encode_all(key), version.as_deref(), sequencer))
        };
        let (one, other) = (event(&one), event(&other));
        let write = |event: &Event| {
            let data = event.data.clone();
            (data.bucket, data.key, data.version_id.clone().or(data.sequencer))
        };
        prop_assert_eq!(one.execution_name() == other.execution_name(), write(&one) == write(&other));
    }

    #[test]
    fn an_execution_name_is_one_that_step_functions_accepts(attempts in 0_u32..100_000) {
        let mut event = event(&notification("b", "k", None, "01"));
        event.attempt = attempts;
        let name = event.execution_name();
        prop_assert!(name.len() <= 80);
        prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    }
}
