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
    let aws = if fifo { Aws::with_fifo_queues() } else { Aws::new() };
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
            aws.s3().fails(&key, code);
        }
        if script.panics {
            aws.step_functions().panics(&key);
        } else if let Some(code) = script.start {
            aws.step_functions().fails(&key, code);
        }
        if script.work_rejects {
            aws.work_queue().rejects(&key);
        }
        if script.dead_rejects {
            aws.dead_letter_queue().rejects(&key);
        }
        records.push(record);
    }
    let failures = consume(&aws, records).await;
    let failed: BTreeSet<&String> = failures.iter().collect();
    assert_eq!(failed.len(), failures.len(), "no message is named twice");

    let started: BTreeSet<String> = aws.step_functions().started_keys().into_iter().collect();
    let duplicates = aws.step_functions().keys_answered("ExecutionAlreadyExists");
    let (work, dead) = (aws.work_queue().messages(), aws.dead_letter_queue().messages());
    let holds = |queue: &[testing::Message], key: &str| {
        queue.iter().filter(|message| message.body.contains(key)).count()
    };
    for (n, script) in scripts.iter().enumerate() {
        let key = format!("key-{n:03}");
        let places = usize::from(started.contains(&key))
            + usize::from(script.body.is_none() && duplicates.contains(&key))
            + holds(&work, &key)
            + holds(&dead, &key);
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
