use tokio::time::sleep;

use crate::{
    Seen, code,
    world::{EXECUTION, World},
};

pub(crate) async fn executions(world: &World, seen: &mut Seen) {
    let World { step_functions, state_machine_arn, .. } = world;
    let start = async |machine: &str, name: &str, input: &str| {
        let call = step_functions.start_execution().state_machine_arn(machine);
        match call.name(name).input(input).send().await {
            Ok(started) => Ok(started.execution_arn),
            Err(error) => Err(code(&error).to_owned()),
        }
    };
    let outcome =
        |answer: Result<String, String>| answer.map_or_else(|code| code, |_| "started".into());

    let first = start(state_machine_arn, "first", "{}").await;
    let arn = first.clone().expect("started");
    let suffix = ":execution:machine:first";
    seen.note("the ARN of an execution ends with its name", arn.ends_with(suffix).to_string());
    let again = start(state_machine_arn, "first", "{}").await;
    seen.note("the same name and input while it runs", outcome(again.clone()));
    seen.note("and it is the same execution", (again == first).to_string());
    let other = start(state_machine_arn, "first", "{\"a\": 1}").await;
    seen.note("the same name and another input while it runs", outcome(other));
    for (about, name, input) in [
        ("an input that is no JSON", "second", "{"),
        ("a name with a slash", "a/b", "{}"),
        ("a name with a space", "a b", "{}"),
        ("a name of 81 characters", &*"n".repeat(81), "{}"),
    ] {
        seen.note(about, outcome(start(state_machine_arn, name, input).await));
    }
    let too_large = format!("\"{}\"", "x".repeat(262_144));
    let large = start(state_machine_arn, "large", &too_large).await;
    seen.note("an input above 256 KiB", outcome(large));
    let unknown = state_machine_arn.replace(":stateMachine:machine", ":stateMachine:other");
    seen.note("a machine that does not exist", outcome(start(&unknown, "first", "{}").await));

    let describe =
        async |arn: &str| match step_functions.describe_execution().execution_arn(arn).send().await
        {
            Ok(described) => format!(
                "{}, {}, {}",
                described.status,
                described.input.unwrap_or_default(),
                if described.stop_date.is_some() { "stopped" } else { "not stopped" },
            ),
            Err(error) => code(&error).to_owned(),
        };
    seen.note("what runs is described", describe(&arn).await);
    let nobody = arn.replace(":machine:first", ":machine:nobody");
    seen.note("an execution that does not exist is described", describe(&nobody).await);

    sleep(EXECUTION * 2).await;
    seen.note("what has ended is described", describe(&arn).await);
    let after = start(state_machine_arn, "first", "{}").await;
    seen.note("the same name and input after it has ended", outcome(after));

    // The most recent first, page by page. Listed when all are over, because an emulator counts what
    // runs from its start and what is over from its end, and AWS leaves open of which it speaks.
    for name in ["third", "fourth"] {
        start(state_machine_arn, name, "{}").await.expect("started");
        sleep(EXECUTION / 2).await;
    }
    sleep(EXECUTION * 2).await;
    let mut names: Vec<String> = Vec::new();
    let mut token = None;
    loop {
        let call = step_functions.list_executions().state_machine_arn(state_machine_arn);
        let page = call.max_results(2).set_next_token(token).send().await.unwrap();
        names.extend(page.executions.iter().map(|execution| execution.name.clone()));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    let known = ["first", "third", "fourth"];
    names.retain(|name| known.contains(&name.as_str()));
    seen.note("a listing, two to a page", names.join(", "));
}
