use proptest::prelude::*;

use super::*;

/// As S3 encodes a key in a notification: `application/x-www-form-urlencoded`.
fn form_encode(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn through_event_bridge(key: &str) -> String {
    let mut body = sample_json("eventbridge-object-created-key-not-encoded.json");
    body["detail"]["object"]["key"] = json!(key);
    event(&body.to_string()).data.key
}

#[test]
fn a_plus_a_space_and_a_percent_sign_are_told_apart() {
    let direct = |key| event(&notification("b", key, None, "01")).data.key;
    assert_eq!(direct("a+b"), "a b");
    assert_eq!(direct("a%2Bb"), "a+b");
    assert_eq!(direct("a%20b"), "a b");
    assert_eq!(direct("100%25+2%2B2"), "100% 2+2");
    assert_eq!(direct("%ED%95%9C%EA%B8%80"), "한글");
    // EventBridge encodes nothing, so nothing is decoded.
    assert_eq!(through_event_bridge("a+b%20c"), "a+b%20c");
}

proptest! {
    #[test]
    fn every_key_survives_every_route(key in "\\PC{1,40}|[\0-\u{10FFFF}]{1,40}") {
        let direct = event(&notification("b", &form_encode(&key), None, "01"));
        prop_assert_eq!(&direct.data.key, &key);
        prop_assert_eq!(&through_event_bridge(&key), &key);
        let message = direct.to_json().expect("JSON");
        prop_assert_eq!(&event(&message), &direct);
        // SQS refuses a message with any other character.
        let allowed = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
        prop_assert!(message.chars().all(allowed));
    }

    #[test]
    fn a_group_holds_what_sqs_allows_and_two_devices_never_share_one(
        a in "\\PC{1,12}", b in "\\PC{1,12}"
    ) {
        let group = |device: &str| {
            let key = format!("{}/state.json", device.replace('/', "-"));
            event(&notification("b", &form_encode(&key), None, "01")).group(1)
        };
        prop_assert!(group(&a).len() <= 128);
        prop_assert!(group(&a).bytes().all(|byte| byte.is_ascii_graphic()));
        if group(&a).len() < 128 {
            prop_assert_eq!(group(&a) == group(&b), a.replace('/', "-") == b.replace('/', "-"));
        }
    }
}

#[test]
fn the_group_is_the_device() {
    let group = |key, segments| event(&notification("b", key, None, "01")).group(segments);
    assert_eq!(group("devices/42/2026/state.json", 2), "devices/42");
    assert_eq!(group("devices/42", 2), "devices/42");
    assert_eq!(group("state.json", 2), "state.json");
    assert_eq!(group("devices/42/state.json", 1), "devices");
    assert_eq!(group("%EA%B8%B0/a+b/x", 2), "%EA%B8%B0/a%20b");
    // SQS refuses an empty group.
    assert_eq!(group("/devices/42.json", 1), "devices");
    assert_eq!(group("/devices/42.json", 2), "devices/42.json");
    assert_eq!(group("//42/state.json", 1), "42");
    assert_eq!(group("a//b", 2), "a/");
    assert_eq!([group("/", 1), group("///", 1)], ["/", "///"]);
    assert_eq!(group(&"%ED%95%9C".repeat(300), 2).len(), 128);
}
