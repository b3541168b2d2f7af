use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::Mutex;

use crate::harness::{Ended, Sluice, Write};
use crate::proxy::Fault;

const FILES: usize = 1_000;

/// Each may start a forwarder of its own: more of them than two cores can serve within the functions'
/// time limits would test the machine.
const UPLOADS_AT_ONCE: usize = 8;

/// One burst at a time, for the same reason.
static BURST: Mutex<()> = Mutex::const_new(());

async fn upload_burst(sluice: &Sluice) -> Vec<Write> {
    futures::stream::iter(0..FILES)
        .map(|number| async move {
            let device = sluice.device(&number.to_string());
            sluice.upload_state(&device, &json!({ "number": number })).await
        })
        .buffer_unordered(UPLOADS_AT_ONCE)
        .collect()
        .await
}

/// Every write has its execution, under its own name, and there are no others.
async fn assert_each_started_once(sluice: &Sluice, writes: &[Write]) {
    let names: HashSet<String> = writes.iter().map(|write| write.event_id.clone()).collect();
    assert_eq!(names.len(), FILES, "one name for each write");
    sluice
        .eventually("every file has its execution", async || {
            let executions = sluice.executions().await;
            match names.iter().filter(|name| !executions.contains_key(*name)).count() {
                0 => Ok(()),
                missing => Err(format!("{missing} of {FILES} are missing")),
            }
        })
        .await;
    sluice.drained().await;

    let executions = sluice.executions().await;
    let twice: Vec<_> = names.iter().filter(|name| executions[*name] != 1).collect();
    assert!(twice.is_empty(), "started more than once: {twice:?}");
    let tried = sluice.names_tried();
    let strange: Vec<_> = tried.symmetric_difference(&names).collect();
    assert!(strange.is_empty(), "started under another name, or never: {strange:?}");
    assert_eq!(sluice.dead_letters().await.len(), 0);
    for (number, ended) in sluice.all_ended(writes).await.into_iter().enumerate() {
        assert_eq!(ended, Ended::written(), "execution {}", writes[number].event_id);
    }
    for number in 0..FILES {
        let device = sluice.device(&number.to_string());
        assert!(sluice.item(&device).await.is_some(), "{device} has no item");
    }
}

#[tokio::test]
async fn a_thousand_files_at_once_become_a_thousand_executions() {
    let sluice = Sluice::for_test("thousand").await;
    let _alone = BURST.lock().await;
    let writes = upload_burst(&sluice).await;
    assert_each_started_once(&sluice, &writes).await;
}

#[tokio::test]
async fn killing_a_consumer_in_the_middle_of_a_burst_loses_and_doubles_nothing() {
    let sluice = Sluice::for_test("killed-burst").await;
    let _alone = BURST.lock().await;
    // Slow answers keep the consumers in the middle of their batches, with executions started and
    // messages not yet acknowledged.
    let slow = sluice.proxy().inject(
        "StartExecution",
        sluice.prefix,
        Fault::Slow(Duration::from_millis(300)),
    );
    let (writes, killed) = tokio::join!(upload_burst(&sluice), async {
        sluice
            .eventually("a hundred starts are under way", async || {
                match sluice.calls("StartExecution") {
                    100.. => Ok(()),
                    calls => Err(format!("{calls} calls")),
                }
            })
            .await;
        let processes = sluice.consumer_processes();
        for process in &processes {
            let status = Command::new("kill").args(["-9", &process.to_string()]).status();
            assert!(status.unwrap().success());
        }
        processes.len()
    });
    drop(slow);

    assert!(killed > 0, "no consumer was running");
    assert_each_started_once(&sluice, &writes).await;
    assert!(sluice.calls("StartExecution") > FILES, "no message came back: the kill hit nothing");
}
