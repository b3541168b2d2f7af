use super::*;

fn in_group(key: &str, group: &str) -> Value {
    let mut record = record(key);
    record["attributes"]["MessageGroupId"] = json!(group);
    record
}

fn two_groups() -> Vec<Value> {
    [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("a3", "a")]
        .map(|(key, group)| in_group(key, group))
        .to_vec()
}

/// The keys of group `a`, in the order they were started.
fn group_a(fake: &Fake) -> Vec<String> {
    fake.started().into_iter().filter(|key| key.starts_with('a')).collect()
}

#[tokio::test(start_paused = true)]
async fn a_group_keeps_its_order() {
    let fake = Fake::new().fifo();
    assert!(consume(&fake, two_groups()).await.is_empty());
    assert_eq!(group_a(&fake), ["a1", "a2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_fails_the_rest_of_its_group_and_no_other() {
    let fake = Fake::new().fifo().start_fails("a2", "InternalFailure");
    assert_eq!(consume(&fake, two_groups()).await, ["a2", "a3"]);
    assert_eq!(group_a(&fake), ["a1"]);
    assert_eq!(fake.started().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_group_is_delivered_again_and_not_deferred() {
    let fake = Fake::new().fifo().start_fails("a1", "ThrottlingException");
    let failures = consume(&fake, vec![in_group("a1", "a"), in_group("a2", "a")]).await;
    assert_eq!(failures, ["a1", "a2"]);
    assert!(fake.state().work.is_empty());
}

#[tokio::test(start_paused = true)]
async fn other_groups_are_tried_after_a_throttle_and_the_throttled_one_backs_off() {
    let fake = Fake::new().fifo().in_sequence().start_fails("a1", "ThrottlingException");
    assert_eq!(consume(&fake, two_groups()).await, ["a1", "a2", "a3"]);
    assert_eq!(fake.started(), ["b1", "b2"]);
    let state = fake.state();
    let receipts: Vec<&str> = state.visible_after.iter().map(|(r, _)| r.as_str()).collect();
    assert_eq!(receipts, ["receipt of a1", "receipt of a2", "receipt of a3"]);
    let seconds: Vec<i32> = state.visible_after.iter().map(|(_, seconds)| *seconds).collect();
    // Base 8 s, half of it jitter, and the whole group the same.
    assert!((4..=8).contains(&seconds[0]) && seconds.iter().all(|s| *s == seconds[0]));
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_fifo_queue_is_given_up_by_the_age_of_its_first_receive() {
    let received = |hours: i64| {
        let mut record = in_group("a1", "a");
        let since = now() - jiff::SignedDuration::from_hours(hours);
        record["attributes"]["ApproximateFirstReceiveTimestamp"] =
            json!(since.as_millisecond().to_string());
        record
    };
    for (hours, failures, dead) in [(71, 2, 0), (72, 0, 1)] {
        let fake = Fake::new().fifo().start_fails("a1", "ThrottlingException");
        let answer = consume(&fake, vec![received(hours), in_group("a2", "a")]).await;
        assert_eq!((answer.len(), fake.state().dead.len()), (failures, dead), "{hours} hours");
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_message_of_two_events_the_second_does_not_overtake_the_first() {
    let mut two = sample("s3-two-records.json");
    two["Records"][0]["s3"]["object"]["key"] = json!("first");
    two["Records"][1]["s3"]["object"]["key"] = json!("second");
    let mut record = in_group("two", "a");
    record["body"] = json!(two.to_string());
    let fake = Fake::new().fifo().start_fails("first", "InternalFailure");
    assert_eq!(consume(&fake, vec![record.clone()]).await, ["two"]);
    assert!(fake.started().is_empty());

    fake.start_succeeds("first");
    assert!(consume(&fake, vec![record]).await.is_empty());
    assert_eq!(fake.started(), ["first", "second"]);
    assert!(fake.state().work.is_empty(), "it is not split");
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_behind_poison_once_its_dead_letter_is_confirmed() {
    let fake = Fake::new().fifo().object("a2", b"hello");
    assert!(consume(&fake, two_groups()).await.is_empty());
    assert_eq!(group_a(&fake), ["a1", "a3"]);
    assert_eq!(fake.state().dead[0].message_group_id(), Some("a"));
    assert_eq!(fake.state().dead[0].message_deduplication_id(), Some("a2"));

    let fake = Fake::new().fifo().object("a2", b"hello").queue_rejects("dead", "a2");
    assert_eq!(consume(&fake, two_groups()).await, ["a2", "a3"]);
    assert_eq!(group_a(&fake), ["a1"]);
}
