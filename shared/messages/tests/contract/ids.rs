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
