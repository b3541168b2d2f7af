//! What the log says of the fate of a letter, and which failures there are.

use super::*;

/// Tells a simulated AWS what is to go wrong.
type GoesWrong<'a> = &'a dyn Fn(&Stack);

#[tokio::test(start_paused = true)]
async fn a_run_has_a_line_with_its_report() {
    let is_well: GoesWrong<'_> = &|_| {};
    let keeps_all: GoesWrong<'_> = &|stack| stack.dead().keeps_all();
    let fails: GoesWrong<'_> =
        &|stack| stack.aws.step_functions().executions_fail(Duration::ZERO, "E");
    for (letters, goes_wrong, message, level) in [
        (&["k"][..], is_well, "redrive done", "INFO"),
        (&[], is_well, "redrive moved nothing", "INFO"),
        (&["k"], keeps_all, "redrive left failures behind", "WARN"),
        (
            &["k", "l"],
            fails,
            "redrive held letters back, since their canaries came to nothing",
            "WARN",
        ),
    ] {
        let stack = Stack::with(letters.iter().map(|key| letter(key))).canaries(1);
        goes_wrong(&stack);
        let line = line_of(&stack, &json!({}), Duration::from_mins(15), message).await;
        assert_eq!(line["level"], level);
        let logged = line["report"].as_str().expect("a report");
        let logged: Value = serde_json::from_str(logged).expect("JSON");
        assert_eq!(logged["failed"], usize::from(message.contains("failures")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_deleted_has_a_line_that_says_why() {
    for (letter, message, level) in [
        (letter("k"), "redriven", "INFO"),
        (letter("k").class("NotJson").reason("line 1"), "archived", "WARN"),
        (failed(&id("k"), "k"), "succeeded since", "INFO"),
    ] {
        let stack = Stack::with([letter]);
        let execution = execution(&stack, "k").ended(now(), Status::Succeeded);
        stack.aws.step_functions().has(execution);
        let line = line_of(&stack, &json!({}), Duration::from_mins(1), message).await;
        assert_eq!(line["level"], level);
        assert_eq!(line["event.id"], id("k"));
        assert_eq!(line["object.key"], "k");
        assert_eq!(line["message.id"], "message-0");
        assert_eq!(line["message.receive_count"], 1);
        if message == "archived" {
            assert_eq!(
                (&line["error.class"], &line["error"]),
                (&json!("NotJson"), &json!("line 1"))
            );
        }
        assert!(stack.left().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_stays_because_something_did_not_work_has_a_line_that_says_what() {
    let without_input = letter_of(&sample("step-functions-status-timed-out-without-input.json"));
    let poison = || letter("k").class("NotJson");
    let broken = |operation: &'static str| {
        move |stack: &Stack| {
            stack.aws.when(operation).fails("Broken");
        }
    };
    let refuses = |stack: &Stack| stack.work().rejects_all();
    let is_silent = |stack: &Stack| stack.aws.when("PutObject").is_never_answered();
    let keeps = |stack: &Stack| {
        let execution = execution(stack, "k").ended(now(), Status::Succeeded);
        stack.aws.step_functions().has(execution);
        stack.dead().keeps_all();
    };
    let cases: [(Message, GoesWrong<'_>, &str); 8] = [
        (
            without_input,
            &broken("DescribeExecution"),
            "the execution's input was not read: Broken: as the test says",
        ),
        (
            failed(&id("k"), "k"),
            &broken("DescribeExecution"),
            "it is not known how the execution is doing: Broken: as the test says",
        ),
        (letter("k"), &refuses, "the queue rejected the message: InternalError: as the test says"),
        (poison(), &broken("PutObject"), "the archive refused dead-letters/date=2026-11-20/"),
        (poison(), &is_silent, "there was no time left"),
        (letter("k"), &keeps, "it is redriven, but was not deleted"),
        (poison(), &keeps, "it is archived, but was not deleted"),
        (failed(&id("k"), "k"), &keeps, "its execution has succeeded, but it was not deleted"),
    ];
    for (letter, goes_wrong, error) in cases {
        let stack = Stack::with([letter]);
        goes_wrong(&stack);
        // Too short for three attempts of the SDK that get no answer.
        let time = Duration::from_secs(12);
        let line = line_of(&stack, &json!({}), time, "not redriven").await;
        assert_eq!((&line["level"], &line["message.id"]), (&json!("ERROR"), &json!("message-0")));
        assert_eq!(line["message.receive_count"], 1);
        let told = line["error"].as_str().expect("an error");
        assert!(told.starts_with(error), "{told}");
        assert_eq!(stack.metrics.read()[0]["Failed"], 1, "{error}");
        // At once if there was time for that, else when the time is over for which it was hidden.
        sleep(Duration::from_mins(2)).await;
        assert_eq!((stack.left().len(), stack.dead().visible()), (1, 1), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_would_stay_and_expires_is_archived_with_the_reason_why_it_would() {
    let nothing = |_: &Stack| ();
    let runs = |stack: &Stack| stack.aws.step_functions().has(execution(stack, "k"));
    let refuses = |stack: &Stack| stack.work().rejects("k");
    let fails = |stack: &Stack| {
        stack.aws.step_functions().executions_fail(Duration::from_secs(1), "E");
    };
    let (letter, other) = (expiring_letter("k"), expiring_letter("other"));
    let failed = failed(&id("k"), "k").sent("2026-11-07T23:00:00Z");
    let cases: [(Vec<Message>, GoesWrong<'_>, Value, &str); 6] = [
        (
            vec![letter.clone()],
            &nothing,
            json!({ "before": "2026-11-01T00:00:00Z" }),
            "it was enqueued after the time that the run was asked for",
        ),
        (
            vec![letter.clone()],
            &nothing,
            json!({ "errorClass": "E" }),
            "it is none of those that the run was asked for",
        ),
        (vec![failed], &runs, json!({}), "its execution runs again"),
        (
            vec![letter.clone()],
            &refuses,
            json!({}),
            "tonight, the queue rejected the message: InternalError: as the test says",
        ),
        (
            vec![other.clone(), letter.clone()],
            &fails,
            json!({ "canaryMessages": 1 }),
            "others of its class were tried, and failed",
        ),
        (
            vec![other, letter],
            &nothing,
            json!({ "maxMessages": 1 }),
            "the run stopped before it was tried",
        ),
    ];
    for (letters, goes_wrong, request, why) in cases {
        let redriven = letters.len() as u64 - 1;
        let stack = Stack::with(letters).canaries(0);
        goes_wrong(&stack);
        let report = redrive(&stack, &request).await.expect("a report");
        assert_eq!((report.archived["Expiring"], report.redriven), (1, redriven), "{why}");
        let document = stack.document();
        let end = "SQS would delete it at 2026-11-21T23:00:00Z";
        assert_eq!(document["message"], format!("{end}; {why}"));
        assert_eq!(document["events"][0]["data"]["key"], "k");
        assert!(stack.left().is_empty(), "{why}");
    }
}
