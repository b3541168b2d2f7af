//! Thousands of dead letters: what they cost in calls and memory, and that they fit in the time.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Sluice;
use crate::proxy::Fault;

/// How many letters, unless the variable `LETTERS` says. The emulator looks through the whole queue
/// for each call, so 20,000 take minutes where these take seconds.
const LETTERS: usize = 3_000;

/// What a run may keep of each letter, the digest of its id, and by how much the peaks of two runs
/// differ anyway. A letter itself is more than a kilobyte.
const BYTES_FOR_EACH: usize = 256;
const BYTES_FOR_NOTHING: usize = 1_024 * 1_024;

/// Dead letters about objects that nobody will read; the ids of their events.
async fn give_up_many(sluice: &Sluice, kind: &str, count: usize) -> HashSet<String> {
    let notification = sluice.sample_event("s3-object-created-versioned.json");
    let (mut bodies, mut ids) = (Vec::new(), HashSet::new());
    for number in 0..count {
        let mut notification = notification.clone();
        let key = format!("devices/{}/state.json", sluice.device(&format!("{kind}-{number}")));
        notification["Records"][0]["s3"]["object"]["key"] = key.into();
        let event = messages::decode(&notification.to_string()).remove(0).unwrap();
        bodies.push(event.to_json().unwrap());
        ids.insert(event.id.to_string());
    }
    sluice.give_up_with(&bodies, &[("redrives", "Number", "1")]).await;
    assert_eq!(ids.len(), count);
    ids
}

/// The most bytes that a process of the redrive ever held.
fn peak(sluice: &Sluice) -> usize {
    let peak = |process: u32| -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1_024)
    };
    sluice.redrive_processes().into_iter().filter_map(peak).max().expect("an environment")
}

fn count(report: &Value, field: &str) -> usize {
    usize::try_from(report[field].as_u64().unwrap()).unwrap()
}

async fn redrive_all(sluice: &Sluice) -> Value {
    let request = json!({ "before": "now", "canaryMessages": 0 });
    sluice.redrive_as(&request).await.expect("the redrive succeeds")
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "for whoever sets LETTERS")]
async fn thousands_of_dead_letters_cost_few_calls_and_no_more_memory_than_hundreds() {
    let all = std::env::var("LETTERS").map_or(LETTERS, |letters| letters.parse().unwrap());
    let few = all / 10;
    let sluice = Sluice::apart("many-letters").await;
    let _alone = sluice.only_redrive().await;
    // Executions are not what this is about.
    sluice.set_consumer(false).await;
    sluice.set_redrive_timeout(900).await;
    let mut ids = give_up_many(&sluice, "few", few).await;
    let report = redrive_all(&sluice).await;
    assert_eq!((count(&report, "redriven"), count(&report, "left")), (few, 0), "{report}");
    let peak_for_few = peak(&sluice);

    ids.extend(give_up_many(&sluice, "all", all).await);
    let calls_before = sluice.proxy().count();

    // A run with 30 seconds, against a queue too slow to be done by then.
    sluice.set_redrive_timeout(30).await;
    let slow = Fault::Slow(Duration::from_secs(1));
    let slow = sluice.proxy().inject("SendMessageBatch", "", slow);
    let report = redrive_all(&sluice).await;
    drop(slow);
    assert_eq!(report["stopped"], "deadline", "{report}");
    let first = count(&report, "redriven");
    assert!(first > 0, "{report}");
    let calls_in_short = sluice.proxy().count() - calls_before;
    assert_eq!(count(&report, "failed"), 0, "{report}");
    assert_eq!(count(&report, "left"), all - first, "{report}");

    // The next one, with enough time, has the rest.
    let calls_before = sluice.proxy().count();
    sluice.set_redrive_timeout(900).await;
    let report = redrive_all(&sluice).await;
    assert_eq!(report["stopped"], "empty", "{report}");
    let rest = count(&report, "redriven");
    assert_eq!((first + rest, count(&report, "left")), (all, 0), "{report}");
    let peak_for_all = peak(&sluice);
    let calls = sluice.proxy().count() - calls_before;
    println!(
        "{calls} calls for {rest} letters, {calls_in_short} in the 30 s run; peak {peak_for_few} bytes after {few} letters, \
         {peak_for_all} bytes after {rest}; {first} in the 30 s run; {report}"
    );

    assert!(rest > all / 2, "the second run is the large one: {rest}");
    assert!(calls * 100 <= rest * 35, "{calls} calls for {rest} letters");
    // A run that is cut short still looks at what it did not come to, lest one of them expires: a
    // receive and a release for each ten.
    let most = first * 35 + rest * 25;
    assert!(calls_in_short * 100 <= most, "{calls_in_short} calls: {first} redriven, {rest} seen");
    let more = (rest - few) * BYTES_FOR_EACH + BYTES_FOR_NOTHING;
    assert!(
        peak_for_all <= peak_for_few + more,
        "{peak_for_few} bytes for {few} letters, {peak_for_all} for {rest}"
    );

    // All of them, each once.
    assert_eq!(sluice.dead_letters().await.len(), 0);
    let bodies = sluice.queued_bodies().await;
    assert_eq!(bodies.len(), few + all);
    let queued = bodies.iter().map(|body| {
        let event: Value = serde_json::from_str(body).unwrap();
        event["id"].as_str().unwrap().to_owned()
    });
    assert_eq!(queued.collect::<HashSet<_>>(), ids);
    sluice.purge_work_queue().await;
    sluice.set_redrive_timeout(60).await;
    sluice.set_consumer(true).await;
}
