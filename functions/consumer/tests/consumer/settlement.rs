use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What the services do about one record.
#[derive(Debug, Clone, Copy)]
struct Script {
    start: Option<&'static str>,
    read: Option<&'static str>,
    body: Option<&'static str>,
    panics: bool,
    work_rejects: bool,
    dead_rejects: bool,
}

fn script() -> impl Strategy<Value = Script> {
    let start = prop::sample::select(vec![
        None,
        None,
        Some("ExecutionAlreadyExists"),
        Some("ThrottlingException"),
        Some("InternalFailure"),
        Some("SomethingNew"),
        Some("InvalidExecutionInput"),
    ]);
    let read = prop::sample::select(vec![None, None, Some("NoSuchKey"), Some("AccessDenied")]);
    let body = prop::sample::select(vec![None, None, None, Some("poison"), Some("")]);
    (start, read, body, any::<[bool; 4]>()).prop_map(|(start, read, body, flags)| Script {
        start,
        read,
        body,
        panics: flags[0] && flags[1],
        work_rejects: flags[2],
        dead_rejects: flags[3],
    })
}

async fn run(scripts: Vec<Script>, fifo: bool) {
    let mut fake = if fifo { Fake::new().fifo() } else { Fake::new() };
    let mut records = Vec::new();
    for (n, script) in scripts.iter().enumerate() {
        let key = format!("key-{n:03}");
        let mut record = record(&key);
        record["attributes"]["MessageGroupId"] = json!(format!("group-{}", n % 3));
        if let Some(body) = script.body {
            record["body"] =
                json!(if body.is_empty() { String::new() } else { format!("{body} {key}") });
        }
        if let Some(code) = script.read {
            fake = fake.read_fails(&key, code);
        }
        if script.panics {
            fake = fake.start_panics(&key);
        } else if let Some(code) = script.start {
            fake = fake.start_fails(&key, code);
        }
        if script.work_rejects {
            fake = fake.queue_rejects("work", &key);
        }
        if script.dead_rejects {
            fake = fake.queue_rejects("dead", &key);
        }
        records.push(record);
    }
    let failures = consume(&fake, records).await;
    let failed: BTreeSet<&String> = failures.iter().collect();
    assert_eq!(failed.len(), failures.len(), "no message is named twice");

    let started: BTreeSet<String> = fake.started().into_iter().collect();
    let state = fake.state();
    let holds = |queue: &[aws_sdk_sqs::types::SendMessageBatchRequestEntry], key: &str| {
        queue.iter().filter(|entry| entry.message_body().contains(key)).count()
    };
    for (n, script) in scripts.iter().enumerate() {
        let key = format!("key-{n:03}");
        let places = usize::from(started.contains(&key))
            + usize::from(
                script.body.is_none()
                    && script.start == Some("ExecutionAlreadyExists")
                    && state.tries.contains(&key),
            )
            + holds(&state.work, &key)
            + holds(&state.dead, &key);
        // An empty body has no key to be found by.
        if script.body == Some("") {
            continue;
        }
        let places_if_acknowledged = usize::from(!failed.contains(&key));
        assert_eq!(places, places_if_acknowledged, "{key}: {script:?}, fifo: {fifo}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Acknowledged implies confirmed, in exactly one place; and what is confirmed nowhere is
    /// delivered again.
    #[test]
    fn every_record_is_in_exactly_one_place(
        scripts in proptest::collection::vec(script(), 1..25),
        fifo in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("runtime");
        runtime.block_on(run(scripts, fifo));
    }
}
