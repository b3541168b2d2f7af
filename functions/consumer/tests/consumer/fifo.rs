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
