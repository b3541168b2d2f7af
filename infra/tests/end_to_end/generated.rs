//! What `sam local generate-event` prints is what people try things out with.

use std::process::Command;

use local::{Project, Tools};
use serde_json::Value;

async fn generate(arguments: &[&str]) -> String {
    let tools = Tools::install(&Project::find().unwrap()).await.unwrap();
    let output = Command::new(tools.bin().join("sam"))
        .args(["local", "generate-event"])
        .args(arguments)
        .env("SAM_CLI_TELEMETRY", "0")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The types of the events that a body holds.
fn decoded(body: &str) -> Vec<String> {
    let events = messages::decode(body).into_iter();
    events.map(|event| event.unwrap().event_type).collect()
}

#[tokio::test]
async fn every_event_that_sam_generates_is_decoded() {
    const PUT: [&str; 1] = ["com.amazonaws.s3.ObjectCreated:Put"];
    let put = generate(&["s3", "put"]).await;
    assert_eq!(decoded(&put), PUT);
    let delete = generate(&["s3", "delete"]).await;
    assert_eq!(decoded(&delete), ["com.amazonaws.s3.ObjectRemoved:Delete"]);

    // sam puts a value into its template as it is, so a message with quotes has to be put in here.
    let mut sns: Value = serde_json::from_str(&generate(&["sns", "notification"]).await).unwrap();
    sns["Records"][0]["Sns"]["Message"] = put.clone().into();
    assert_eq!(decoded(&sns.to_string()), PUT);
    let mut sqs: Value =
        serde_json::from_str(&generate(&["sqs", "receive-message"]).await).unwrap();
    for body in [put, sns.to_string()] {
        sqs["Records"][0]["body"] = body.into();
        assert_eq!(decoded(&sqs.to_string()), PUT);
    }

    // An EventBridge event of something else is refused, and named.
    let scheduled = generate(&["cloudwatch", "scheduled-event"]).await;
    let error = messages::decode(&scheduled).remove(0).unwrap_err().to_string();
    assert!(error.contains("expected `aws.s3` or `aws.states`, found `aws.events`"), "{error}");
}
