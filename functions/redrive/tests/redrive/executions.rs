//! Letters about failed executions.

use aws_sdk_sfn::types::ExecutionStatus;

use super::*;

fn id(key: &str) -> String {
    message(key)["id"].as_str().expect("id").to_owned()
}

/// What the state machine sends before the execution of this name fails.
fn failed(name: &str, key: &str) -> Letter {
    let execution = json!({ "name": name, "error": "E", "cause": "C" });
    let body = json!({ "failedExecution": execution, "event": message(key) });
    Letter::new(&body.to_string()).text("errorClass", "E")
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_somebody_started_under_another_name_is_no_failure_of_the_event() {
    let fake = Fake::with([failed("debug-by-hand", "k")]);
    let report = nightly(&fake).await;
    assert!(fake.work().is_empty());
    assert_eq!(report.archived, [("NotCurrentAttempt".to_owned(), 1)].into());
    let state = fake.state();
    let document = state.archive.values().next().expect("archived");
    let message = document["message"].as_str().expect("a message");
    assert!(message.contains("`debug-by-hand` is not"), "{message}");
    assert!(message.contains(&id("k")), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_has_succeeded_since_is_not_started_again() {
    let fake = Fake::with([failed(&id("k"), "k")]);
    fake.state().executions.insert(id("k"), ExecutionStatus::Succeeded);
    let report = nightly(&fake).await;
    assert!(fake.work().is_empty() && fake.left().is_empty());
    assert_eq!((report.succeeded, report.redriven, report.seen), (1, 0, 1));
    assert!(report.archived.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_runs_again_is_left_for_the_next_run() {
    for status in [ExecutionStatus::Running, ExecutionStatus::PendingRedrive] {
        let fake = Fake::with([failed(&id("k"), "k")]);
        fake.state().executions.insert(id("k"), status);
        let report = nightly(&fake).await;
        assert!(fake.work().is_empty());
        assert_eq!((report.running, report.redriven, fake.visible()), (1, 0, 1));

        fake.state().executions.insert(id("k"), ExecutionStatus::Aborted);
        assert_eq!(nightly(&fake).await.redriven, 1);
        assert_eq!(fake.work()[0]["attempt"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_asked_for_now_leaves_the_letter() {
    let fake = Fake::with([failed(&id("k"), "k"), letter("other")]);
    fake.state().describe_refused = Some("ThrottlingException");
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed), (1, 1));
    assert_eq!(fake.visible(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_express_machine_cannot_be_asked_and_its_letters_are_believed() {
    let fake = Fake::with([failed(&id("k"), "k")]);
    fake.state().describe_refused = Some("AccessDeniedException");
    assert_eq!(nightly(&fake).await.redriven, 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_change_is_archived_with_its_error_and_cause() {
    let change = sample("step-functions-status-failed.json");
    let mut change: Value = serde_json::from_str(&change).expect("JSON");
    let detail = &mut change["detail"];
    let mut input: Value =
        serde_json::from_str(detail["input"].as_str().expect("input")).expect("JSON");
    input["attempt"] = json!(5);
    detail["input"] = json!(input.to_string());
    for field in ["name", "executionArn"] {
        detail[field] = json!(format!("{}-r5", detail[field].as_str().expect("text")));
    }
    let fake = Fake::with([Letter::new(&change.to_string())]);
    let report = nightly(&fake).await;
    let class = "DynamoDB.ProvisionedThroughputExceededException".to_owned();
    assert_eq!(report.archived, [(class, 1)].into());
    let state = fake.state();
    let document = state.archive.values().next().expect("archived");
    let message = document["message"].as_str().expect("a message");
    assert!(message.contains("provisioned throughput"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_json_lines_is_poison_and_one_that_s3_withheld_is_not() {
    let reader = |key: &str, cause: &str| {
        let execution = json!({ "name": id(key), "error": "States.ItemReaderFailed" });
        let body = json!({ "failedExecution": execution, "event": message(key) });
        Letter::new(&body.to_string())
            .text("errorClass", "States.ItemReaderFailed")
            .text("errorMessage", cause)
    };
    let fake = Fake::with([
        reader("broken", "The file is not in the JSON Lines format: line 3"),
        reader("withheld", "Access Denied (Service: Amazon S3; Status Code: 403)"),
    ]);
    let report = nightly(&fake).await;
    assert_eq!(report.archived, [("States.ItemReaderFailed".to_owned(), 1)].into());
    assert_eq!(fake.keys(), ["withheld"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_execution_does_not_forget_the_redrives_that_its_message_had() {
    let failed = |redrives: u32, key: &str| {
        let mut event = message(key);
        event["redrives"] = json!(redrives);
        let body = json!({ "failedExecution": { "name": id(key) }, "event": event });
        Letter::new(&body.to_string()).text("errorClass", "E")
    };
    let fake = Fake::with([failed(4, "four"), failed(5, "five")]);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.archived["E"]), (1, 1));
    assert_eq!(fake.keys(), ["four"]);
    let state = fake.state();
    let attributes = state.work[0].message_attributes().expect("attributes");
    assert_eq!(attributes["redrives"].string_value(), Some("5"));
}
