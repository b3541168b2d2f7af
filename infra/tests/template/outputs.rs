//! Other stacks join this one by its outputs: whatever they may read from, send to or invoke is one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::template::{
    Break, Deployed, assert_each_is_found, deployments, processed, resources, target,
};

/// What a stack beside this one joins, and what its ARN is in a template. The ARN of a bucket follows
/// from its name.
const JOINED: [(&str, &str); 6] = [
    ("AWS::S3::Bucket", "Ref"),
    ("AWS::SQS::Queue", "Fn::GetAtt"),
    ("AWS::SNS::Topic", "Ref"),
    ("AWS::DynamoDB::Table", "Fn::GetAtt"),
    ("AWS::Lambda::Function", "Fn::GetAtt"),
    ("AWS::StepFunctions::StateMachine", "Ref"),
];

fn findings(template: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for deployed in deployments(template) {
        let values: Vec<&Value> = outputs(&deployed).map(|(_, output)| &output["Value"]).collect();
        for (name, resource) in resources(&deployed.template) {
            for (kind, arn) in JOINED {
                let is_given = || {
                    let mut these = values.iter().filter(|it| target(it) == Some(name));
                    these.any(|value| match arn {
                        "Ref" => !value["Ref"].is_null(),
                        _ => value["Fn::GetAtt"] == json!([name, "Arn"]),
                    })
                };
                if resource["Type"] == kind && !is_given() {
                    found.insert(format!("no stack can join {name} with {}", deployed.parameters));
                }
            }
        }
        for (output, properties) in outputs(&deployed) {
            let name = target(&properties["Value"]);
            let exists = |name: &str| {
                !deployed.template["Resources"][name].is_null()
                    || !deployed.template["Parameters"][name].is_null()
            };
            if name.is_some_and(|name| !exists(name)) {
                found.insert(format!("{output} names nothing with {}", deployed.parameters));
            }
        }
    }
    found
}

fn outputs(deployed: &Deployed) -> impl Iterator<Item = (&String, &Value)> {
    deployed.template["Outputs"].as_object().unwrap().iter()
}

#[tokio::test]
async fn whatever_another_stack_may_join_is_an_output() {
    assert_eq!(findings(&processed().await), BTreeSet::new());
}

const BREAKS: [Break; 3] = [
    (
        |t| t["Outputs"]["WorkQueueArn"]["Value"] = json!({ "Ref": "WorkQueue" }),
        "no stack can join WorkQueue with the defaults",
    ),
    (
        |t| {
            t["Outputs"].as_object_mut().unwrap().remove("AlarmTopicArn");
        },
        "no stack can join AlarmTopic with AlarmEmail=given",
    ),
    (
        |t| {
            t["Outputs"]["OrderedRedriveFunctionArn"].as_object_mut().unwrap().remove("Condition");
        },
        "OrderedRedriveFunctionArn names nothing with the defaults",
    ),
];

#[tokio::test]
async fn each_missing_output_is_found() {
    assert_each_is_found(&BREAKS, findings).await;
}
