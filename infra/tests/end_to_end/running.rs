//! `MaxRunningExecutions`, with a state machine that takes its time.

use std::{process::Command, time::Duration};

use aws_sdk_sfn::types::ExecutionStatus;
use serde_json::json;

use crate::faults::upload_some;
use crate::harness::{Ended, Sluice, create_state_machine};

const LIMIT: usize = 2;
const FILES: usize = 12;
const EXECUTION_SECONDS: u64 = 3;

/// One more by the other consumer, whose answer is from before the last start, and one more whose
/// start was on its way when its consumer was killed.
const MOST: usize = LIMIT + 2;

#[tokio::test]
async fn no_more_executions_run_than_may_and_all_come_to_their_turn() {
    let machine = make_state_machine().await;
    let (arn, limit) =
        (format!("StateMachineArn={machine}"), format!("MaxRunningExecutions={LIMIT}"));
    let parameters =
        [&*arn, &*limit, "MaximumConcurrency=2", "DeferralBaseSeconds=1", "DeferralCapSeconds=4"];
    let sluice = Sluice::deployed_with("running", &parameters).await;
    let writes = upload_some(&sluice, FILES).await;

    let deferred = || {
        let lines = sluice.log_of("RunningLimit");
        lines.iter().filter(|line| line.message() == "deferred").count()
    };
    let mut most = 0;
    let mut was_killed = false;
    loop {
        most = most.max(running(&sluice, &machine).await);
        assert!(most <= MOST, "{most} executions run");
        if !was_killed && deferred() > 0 {
            for process in sluice.consumer_processes() {
                let status = Command::new("kill").args(["-9", &process.to_string()]).status();
                assert!(status.unwrap().success());
                was_killed = true;
            }
        }
        let executions = sluice.executions().await;
        if writes.iter().all(|write| executions.contains_key(&write.event_id)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(most >= LIMIT, "never more than {most} of {LIMIT} executions run");
    assert!(was_killed && deferred() > 0);
    let done = Ended { status: ExecutionStatus::Succeeded, outcome: "done".to_owned() };
    assert!(sluice.all_ended(&writes).await.iter().all(|ended| *ended == done));
    let executions = sluice.executions().await;
    assert!(writes.iter().all(|write| executions[&write.event_id] == 1), "{executions:?}");
    sluice.drained().await;
    assert_eq!(sluice.dead_letters().await.len(), 0);
}

async fn running(sluice: &Sluice, machine: &str) -> usize {
    let call = sluice.clients().sfn.list_executions().state_machine_arn(machine);
    let answer = call.status_filter(ExecutionStatus::Running).send().await;
    answer.unwrap().executions.len()
}

async fn make_state_machine() -> String {
    let definition = json!({
        "QueryLanguage": "JSONata",
        "StartAt": "Work",
        "States": {
            "Work": { "Type": "Wait", "Seconds": EXECUTION_SECONDS, "Next": "Done" },
            "Done": { "Type": "Pass", "Output": { "outcome": "done" }, "End": true },
        },
    });
    create_state_machine("running-machine", "STANDARD", &definition).await
}
