//! Letters about failed executions.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_execution_that_somebody_started_under_another_name_is_no_failure_of_the_event() {
    let stack = Stack::with([failed("debug-by-hand", "k")]);
    let report = nightly(&stack).await;
    assert!(stack.work().messages().is_empty());
    assert_eq!(report.archived, [("NotCurrentAttempt".to_owned(), 1)].into());
    let document = stack.document();
    let message = document["message"].as_str().expect("a message");
    assert!(message.contains("`debug-by-hand` is not"), "{message}");
    assert!(message.contains(&id("k")), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_has_succeeded_since_is_not_started_again() {
    let stack = Stack::with([failed(&id("k"), "k")]);
    let execution = execution(&stack, "k").ended(now(), Status::Succeeded);
    stack.aws.step_functions().has(execution);
    let report = nightly(&stack).await;
    assert!(stack.work().messages().is_empty() && stack.left().is_empty());
    assert_eq!((report.succeeded, report.redriven, report.seen), (1, 0, 1));
    assert!(report.archived.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_runs_again_is_left_for_the_next_run() {
    let runs: fn(Execution) -> Execution = |execution| execution;
    for running in [runs, Execution::pending_redrive] {
        let stack = Stack::with([failed(&id("k"), "k")]);
        let machine = stack.aws.step_functions();
        let execution = execution(&stack, "k");
        machine.has(running(execution.clone()));
        let report = nightly(&stack).await;
        assert!(stack.work().messages().is_empty());
        assert_eq!((report.running, report.redriven, stack.dead().visible()), (1, 0, 1));

        machine.has(execution.ended(now(), Status::Aborted));
        assert_eq!(nightly(&stack).await.redriven, 1);
        assert_eq!(stack.work().messages()[0].json()["attempt"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_asked_for_now_leaves_the_letter() {
    let stack = Stack::with([failed(&id("k"), "k"), letter("other")]);
    stack.aws.when("DescribeExecution").fails("ThrottlingException");
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed), (1, 1));
    assert_eq!(stack.dead().visible(), 1);

    // A throttle is waited out.
    let stack = Stack::with([failed(&id("k"), "k")]);
    let throttle = stack.aws.when("DescribeExecution").times(20);
    throttle.fails("ThrottlingException");
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_express_machine_cannot_be_asked_and_its_letters_are_believed() {
    let stack = Stack::with([failed(&id("k"), "k")]);
    stack.aws.when("DescribeExecution").fails("AccessDeniedException");
    assert_eq!(nightly(&stack).await.redriven, 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_change_is_archived_with_its_error_and_cause() {
    let mut change = sample_json("step-functions-status-failed.json");
    let detail = &mut change["detail"];
    let mut input: Value =
        serde_json::from_str(detail["input"].as_str().expect("input")).expect("JSON");
    input["attempt"] = json!(5);
    detail["input"] = json!(input.to_string());
    for field in ["name", "executionArn"] {
        detail[field] = json!(format!("{}-r5", detail[field].as_str().expect("text")));
    }
    let stack = Stack::with([letter_of(&change.to_string())]);
    let report = nightly(&stack).await;
    let class = "DynamoDB.ProvisionedThroughputExceededException".to_owned();
    assert_eq!(report.archived, [(class, 1)].into());
    let document = stack.document();
    let message = document["message"].as_str().expect("a message");
    assert!(message.contains("provisioned throughput"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_json_lines_is_poison_and_one_that_s3_withheld_is_not() {
    let reader = |key: &str, cause: &str| {
        let execution = json!({ "name": id(key), "error": "States.ItemReaderFailed" });
        let body = json!({ "failedExecution": execution, "event": message(key) });
        letter_of(&body.to_string()).class("States.ItemReaderFailed").reason(cause)
    };
    let stack = Stack::with([
        reader("broken", "The file is not in the JSON Lines format: line 3"),
        reader("withheld", "Access Denied (Service: Amazon S3; Status Code: 403)"),
    ]);
    let report = nightly(&stack).await;
    assert_eq!(report.archived, [("States.ItemReaderFailed".to_owned(), 1)].into());
    assert_eq!(stack.keys(), ["withheld"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_execution_does_not_forget_the_redrives_that_its_message_had() {
    let failed = |redrives: u32, key: &str| {
        let mut event = message(key);
        event["redrives"] = json!(redrives);
        let body = json!({ "failedExecution": { "name": id(key) }, "event": event });
        letter_of(&body.to_string()).class("E")
    };
    let stack = Stack::with([failed(4, "four"), failed(5, "five")]);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.archived["E"]), (1, 1));
    assert_eq!(stack.keys(), ["four"]);
    assert_eq!(stack.work().messages()[0].text("redrives"), Some("5"));
}

/// Two letters of one failure, the first of which was redriven, or a native redrive.
#[tokio::test(start_paused = true)]
async fn what_was_redriven_too_often_is_not_archived_if_it_has_succeeded_since() {
    let failed = |key: &str| {
        let mut event = message(key);
        event["redrives"] = json!(5);
        let body = json!({ "failedExecution": { "name": id(key) }, "event": event });
        letter_of(&body.to_string()).class("E")
    };
    let keys = ["itself", "next", "runs", "replaced", "failed"];
    let stack = Stack::with(keys.map(failed));
    let machine = stack.aws.step_functions();
    let next = |key: &str| {
        Execution::new(&format!("{}-r1", id(key)), &message(key).to_string(), stack.aws.now())
    };
    machine.has(execution(&stack, "itself").ended(now(), Status::Succeeded));
    machine.has(next("next").ended(now(), Status::Succeeded));
    machine.has(next("runs"));
    machine.has(next("replaced").ended(now(), Status::Failed));
    let report = nightly(&stack).await;
    assert_eq!((report.succeeded, report.running, report.redriven), (2, 1, 0));
    let archived = [("E".to_owned(), 1), ("NotCurrentAttempt".to_owned(), 1)];
    assert_eq!(report.archived, archived.into());
    assert_eq!(stack.left(), ["message-2"]);
}
