//! The redrive is killed, gets rejections, meets a second one: every dead letter still ends in one
//! place, and no event is started twice.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{Ended, Sluice, Write};
use crate::proxy::{Fault, Injection};
use crate::redrive::message;

/// Dead letters of which it is known where they belong.
struct Letters {
    /// To the work queue.
    healthy: Vec<Write>,
    /// Message ids of those that belong in the archive.
    given_up: HashSet<String>,
}

impl Letters {
    /// Puts letters in the dead-letter queue: four sixths healthy, the others over the cap or poison.
    async fn give_up(sluice: &Sluice, kind: &str, sixths: usize) -> Self {
        let store = async |name: &str, count: usize| {
            let mut writes = Vec::new();
            for number in 0..count {
                let device = sluice.device(&format!("{kind}-{name}-{number}"));
                writes.push(sluice.store(&device, &json!({ "number": number }), "01").await);
            }
            writes
        };
        let bodies = |writes: &[Write]| -> Vec<String> {
            writes.iter().map(|write| message(write).to_string()).collect()
        };
        let healthy = store("healthy", 4 * sixths).await;
        let hopeless = bodies(&store("hopeless", 2 * sixths).await);
        let mut given_up = HashSet::new();
        // Mixed, so that whatever is received together has some of each.
        for (healthy, hopeless) in bodies(&healthy).chunks(4).zip(hopeless.chunks(2)) {
            let (capped, poison) = hopeless.split_at(1);
            sluice.give_up_with(healthy, &[("redrives", "Number", "1")]).await;
            given_up.extend(sluice.give_up_with(capped, &[("redrives", "Number", "5")]).await);
            let class = ("errorClass", "String", "NotJson");
            given_up.extend(sluice.give_up_with(poison, &[class]).await);
        }
        Self { healthy, given_up }
    }

    fn count(&self) -> usize {
        self.healthy.len() + self.given_up.len()
    }
}

/// Every letter is where it belongs, and nowhere else.
async fn assert_settled(sluice: &Sluice, all: &[&Letters], what: &str) {
    let left = sluice.dead_letters().await;
    assert!(left.is_empty(), "{what}: left: {left:?}");
    let documents = sluice.archived().await;
    let ids = documents.iter().map(|document| document["messageId"].as_str().unwrap().to_owned());
    let ids: HashSet<String> = ids.collect();
    let given_up: HashSet<String> =
        all.iter().flat_map(|letters| letters.given_up.iter().cloned()).collect();
    assert_eq!(ids, given_up, "{what}: archived");
    assert_eq!(documents.len(), given_up.len(), "{what}: one document for each message");
    let healthy = || all.iter().flat_map(|letters| &letters.healthy);
    for write in healthy() {
        assert_eq!(sluice.ended(write).await, Ended::written(), "{what}: {}", write.key);
    }
    sluice.drained().await;
    let executions = sluice.executions().await;
    for write in healthy() {
        assert_eq!(executions.get(&write.event_id), Some(&1), "{what}: {}", write.key);
    }
}

/// How long a receive of a process that is gone may still wait for messages: a second, and some.
const LONGEST_POLL: Duration = Duration::from_secs(2);

fn now(canaries: u64) -> Value {
    json!({ "before": "now", "canaryMessages": canaries })
}

/// Runs the redrive until it makes a call that is held, and kills it there.
async fn kill_at(sluice: &Sluice, request: &Value, what: &str, held: Vec<Injection>) {
    let (answer, ()) = tokio::join!(sluice.redrive_as(request), async {
        sluice
            .eventually(&format!("{what}: the call is made"), async || {
                let calls = held.iter().map(Injection::held).sum::<usize>();
                if calls > 0 { Ok(()) } else { Err("it is not".to_owned()) }
            })
            .await;
        for process in sluice.redrive_processes() {
            let status = Command::new("kill").args(["-9", &process.to_string()]).status();
            assert!(status.unwrap().success());
        }
    });
    // What its last polls would still take, nobody would see.
    sleep(LONGEST_POLL).await;
    let error = answer.expect_err("a killed run has no report");
    assert_eq!(error["errorType"], "Runtime.ExitError", "{what}: {error}");
    drop(held);
}

type Hold<'a> = &'a dyn Fn(&Letters) -> Vec<Injection>;

#[tokio::test]
async fn killing_the_redrive_after_any_step_loses_and_doubles_nothing() {
    let sluice = Sluice::apart("killed-redrive").await;
    let _alone = sluice.only_redrive().await;
    let request =
        |operation| sluice.proxy().inject(operation, "", Fault::Held { forwarded: false });
    let answer = |operation| sluice.proxy().inject(operation, "", Fault::Held { forwarded: true });
    // After which step, with how many canaries, the calls at which the process stops, and whether
    // any letter is gone then.
    // Of letters that are to be given up, the redrive asks before it gives them up.
    let watched = |letters: &Letters| -> Vec<Injection> {
        let about = |write: &Write| {
            let held = Fault::Held { forwarded: false };
            sluice.proxy().inject("DescribeExecution", &write.event_id, held)
        };
        letters.healthy.iter().map(about).collect()
    };
    let steps: [(&str, u64, Hold<'_>, bool); 8] = [
        ("received-unseen", 0, &|_| vec![answer("ReceiveMessage")], false),
        ("received", 0, &|_| vec![request("SendMessageBatch"), request("PutObject")], false),
        ("sent-unconfirmed", 0, &|_| vec![answer("SendMessageBatch")], false),
        ("confirmed", 0, &|_| vec![request("PutObject")], false),
        ("archived-unconfirmed", 0, &|_| vec![answer("PutObject")], false),
        ("before-delete", 0, &|_| vec![request("DeleteMessageBatch")], false),
        ("deleted-unconfirmed", 0, &|_| vec![answer("DeleteMessageBatch")], true),
        ("canaries-watched", 3, &watched, true),
    ];
    let mut all = Vec::new();
    for (step, canaries, hold, some_gone) in steps {
        let letters = Letters::give_up(&sluice, step, 3).await;
        kill_at(&sluice, &now(canaries), step, hold(&letters)).await;
        let left = sluice.dead_letters().await.len();
        assert_eq!(left < letters.count(), some_gone, "{step}: {left} left");

        sluice.show_hidden().await;
        let report = sluice.redrive_as(&now(canaries)).await.expect("the redrive succeeds");
        assert_eq!(report["seen"], left, "{step}: {report}");
        assert_eq!(report["failed"], 0, "{step}: {report}");
        assert_eq!(report["left"], 0, "{step}: {report}");
        all.push(letters);
    }
    assert_settled(&sluice, &all.iter().collect::<Vec<_>>(), "killed").await;
}

#[tokio::test]
async fn one_in_ten_rejected_entries_lose_and_double_nothing() {
    let sluice = Sluice::apart("tenth").await;
    let _alone = sluice.only_redrive().await;
    let letters = Letters::give_up(&sluice, "letter", 35).await;
    let failing = ["SendMessageBatch", "DeleteMessageBatch"]
        .map(|operation| sluice.proxy().inject(operation, "", Fault::OneInTenFails));

    let report = sluice.redrive_as(&now(0)).await.expect("the redrive succeeds");
    assert_eq!(report["seen"], letters.count(), "{report}");
    let failed = usize::try_from(report["failed"].as_u64().unwrap()).unwrap();
    assert!(failed * 10 >= letters.count(), "{report}");
    let left = sluice.dead_letters().await.len();
    assert!(0 < left && left < failed, "half of the rejected were deleted: {left}, {report}");
    drop(failing);

    // What was rejected is visible again at once, so it needs no waiting.
    let report = sluice.redrive_as(&now(0)).await.expect("the redrive succeeds");
    assert_eq!(report["seen"], left, "{report}");
    assert_eq!((&report["failed"], &report["left"]), (&json!(0), &json!(0)), "{report}");
    assert_settled(&sluice, &[&letters], "rejected").await;
}

#[tokio::test]
async fn two_runs_at_once_lose_and_double_nothing() {
    let sluice = Sluice::apart("two-at-once").await;
    let _alone = sluice.only_redrive().await;
    let letters = Letters::give_up(&sluice, "letter", 40).await;
    // So that neither is done before the other begins.
    let slow = Fault::Slow(Duration::from_millis(500));
    let slow = sluice.proxy().inject("SendMessageBatch", "", slow);

    let request = now(0);
    let (one, other) = tokio::join!(sluice.redrive_as(&request), sluice.redrive_as(&request));
    drop(slow);

    let reports = [one.expect("the redrive succeeds"), other.expect("the redrive succeeds")];
    let count = |value: &Value| value.as_u64().unwrap();
    let archived = |report: &Value| -> u64 {
        report["archived"].as_object().unwrap().values().map(count).sum()
    };
    let (mut redriven, mut given_up) = (0, 0);
    for report in &reports {
        assert!(count(&report["seen"]) > 0, "both had some: {reports:?}");
        assert_eq!(report["seen"], report["selected"], "{report}");
        assert_eq!(report["failed"], 0, "{report}");
        let moved = count(&report["redriven"]) + archived(report);
        assert_eq!(count(&report["seen"]), moved, "{report}");
        redriven += count(&report["redriven"]);
        given_up += archived(report);
    }
    assert_eq!(redriven, letters.healthy.len() as u64, "{reports:?}");
    assert_eq!(given_up, letters.given_up.len() as u64, "{reports:?}");
    assert_settled(&sluice, &[&letters], "two runs").await;
}

#[tokio::test]
async fn a_cause_that_lasts_costs_a_few_letters_a_redrive_and_no_more() {
    const CANARIES: usize = 3;
    let sluice = Sluice::apart("lasting-cause").await;
    let _alone = sluice.only_redrive().await;
    let mut writes = Vec::new();
    for number in 0..40 {
        let device = sluice.device(&number.to_string());
        writes.push(sluice.store(&device, &json!({ "number": number }), "01").await);
    }
    let bodies: Vec<String> = writes.iter().map(|write| message(write).to_string()).collect();
    let ids = sluice.give_up_with(&bodies, &[("redrives", "Number", "1")]).await;

    sluice.drop_table().await;
    // As the nightly rule has it, but for the time.
    let report = sluice.redrive_as(&json!({ "before": "now" })).await.expect("a report");
    assert_eq!(report["stopped"], "canary", "{report}");
    assert_eq!(report["canary"]["failed"], CANARIES, "{report}");
    let error = report["canary"]["error"].as_str().unwrap();
    assert!(error.contains("ResourceNotFoundException"), "{report}");
    let (redriven, held_back) = (&report["redriven"], &report["heldBack"]);
    let others = writes.len() - CANARIES;
    assert_eq!((redriven, held_back), (&json!(CANARIES), &json!(others)), "{report}");
    // The canaries are back as failed executions, and the others are untouched.
    let (failed, untouched): (Vec<_>, Vec<_>) = sluice
        .dead_letters_reach(writes.len())
        .await
        .into_iter()
        .partition(|letter| letter.body.contains("failedExecution"));
    assert_eq!((failed.len(), untouched.len()), (CANARIES, writes.len() - CANARIES));
    assert_eq!(report["left"].as_u64().unwrap(), writes.len() as u64, "{report}");
    for letter in &untouched {
        assert!(ids.contains(&letter.message_id), "{letter:?}");
        assert_eq!(letter.redrives.as_deref(), Some("1"), "its redrives are not burnt");
    }

    sluice.create_table().await;
    let report = sluice.redrive_as(&json!({ "before": "now" })).await.expect("a report");
    // Those of the letters without a class, and those of what failed a moment ago.
    assert_eq!(report["canary"]["succeeded"], 2 * CANARIES, "{report}");
    assert_eq!(report["stopped"], "empty", "{report}");
    assert_eq!((&report["redriven"], &report["left"]), (&json!(writes.len()), &json!(0)));
    let mut second_attempts = 0;
    let executions = {
        sluice.drained().await;
        sluice.executions().await
    };
    for write in &writes {
        let attempts = executions.get(&write.event_id).copied().unwrap_or_default();
        let name = match attempts {
            1 => write.event_id.clone(),
            2 => format!("{}-r1", write.event_id),
            _ => panic!("{attempts} executions of {}", write.key),
        };
        second_attempts += attempts - 1;
        assert_eq!(sluice.ended_as(&name).await, Ended::written(), "{}", write.key);
    }
    assert_eq!(second_attempts, CANARIES, "only what failed had a second attempt");
    assert_eq!(sluice.dead_letters().await.len(), 0);
}
