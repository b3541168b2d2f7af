use std::path::Path;

use local::{Project, Tools};
use messages::{Content, Event, ExecutionInput};
use serde_json::{Value, json};

use crate::script;

/// What the state machine makes of one device state.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The text that the table would hold.
    Written(String),
    Refused(String),
}

/// How a device state reaches the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the input, as the consumer makes it.
    Inline,
    /// The same, where there is no room for content and text.
    InlineWithoutRepetition,
    /// As a line of a file.
    ByReference,
}

pub(crate) async fn judge(objects: &[(Way, String)]) -> Vec<Answer> {
    let cases: Vec<Value> = objects.iter().map(|(way, object)| case(*way, object)).collect();
    ask(&cases).await.iter().map(answer).collect()
}

/// Asks for all at once, because Node takes its time to start.
pub(crate) async fn ask(cases: &[Value]) -> Vec<Value> {
    let project = Project::find().unwrap();
    let jsonata = Tools::install_jsonata(&project).await.unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("state_machine/evaluate.mjs");
    let mut node = jsonata.script(&script);
    node.arg(project.root.join("infra/state-machine.asl.json"));
    let answers: Vec<Value> = script::ask(&mut node, &cases);
    assert_eq!(answers.len(), cases.len());
    answers
}

fn case(way: Way, object: &str) -> Value {
    if way == Way::ByReference {
        return json!({ "line": object });
    }
    let content = Content::Inline(serde_json::from_str(object).unwrap());
    let event = event();
    let mut input = ExecutionInput::new(&event, &content);
    if way == Way::InlineWithoutRepetition {
        input = input.without_repetition().unwrap();
    }
    json!({ "input": input.to_json().unwrap() })
}

/// Some event; its content is what matters.
fn event() -> Event {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/s3-object-created-put.json");
    let sample = std::fs::read_to_string(path).unwrap();
    let [Ok(event)] = &messages::decode(&sample)[..] else { panic!("one event") };
    event.clone()
}

fn answer(answer: &Value) -> Answer {
    match (answer["write"]["Item"]["state"]["S"].as_str(), answer["refused"].as_str()) {
        (Some(text), None) => Answer::Written(text.to_owned()),
        (None, Some(reason)) => Answer::Refused(reason.to_owned()),
        _ => panic!("{answer}"),
    }
}
