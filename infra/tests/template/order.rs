//! A change of `Ingestion` updates the bucket's notification. Before that CloudFormation creates and
//! updates what the bucket refers to, and after it deletes what is not wanted any more. So the new way
//! has to be among what the bucket waits for, and the old one must not be shut before.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::template::{
    Break, Deployed, assert_each_is_found, deployments, list, processed, resource, resources,
    target,
};

const BUCKET: &str = "UploadBucket";
const WAYS: [&str; 4] = ["Direct", "Fanout", "EventBridge", "Queue"];

fn findings(template: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let all: Vec<Deployed> = WAYS.iter().map(|way| by(template, way)).collect();
    for (way, deployed) in WAYS.iter().zip(&all) {
        let awaited = awaited(deployed);
        for name in parts(deployed, &all) {
            if !awaited.contains(name) {
                found.insert(format!("the bucket does not wait for {name} with {way}"));
            }
        }
        for (other, before) in WAYS.iter().zip(&all) {
            // With the queue, there is no forwarder to let anything in.
            for gate in ["WorkQueuePolicy", "ForwarderPermission"] {
                let of = |deployed: &Deployed| deployed.template["Resources"][gate].clone();
                let goes_anyway = *way == "Queue" && gate == "ForwarderPermission";
                let was = of(before);
                if !was.is_null() && !goes_anyway && was != of(deployed) {
                    found.insert(format!("{gate} shuts {other} before the bucket is at {way}"));
                }
            }
        }
    }
    found
}

fn by(template: &Value, way: &str) -> Deployed {
    let is_default = template["Parameters"]["Ingestion"]["Default"] == way;
    let name = if is_default { "the defaults".into() } else { format!("Ingestion={way}") };
    deployments(template).into_iter().find(|deployed| deployed.parameters == name).unwrap()
}

/// What an upload needs on this way, and another way does not have: all but alarms and logs.
fn parts<'d>(deployed: &'d Deployed, all: &[Deployed]) -> Vec<&'d str> {
    let everywhere =
        |name: &str| all.iter().all(|other| !other.template["Resources"][name].is_null());
    let unneeded = |resource: &Value| resource["Type"] == "AWS::CloudWatch::Alarm";
    let parts = resources(&deployed.template).filter(|(name, resource)| {
        (!everywhere(name) && !unneeded(resource)) || *name == "WorkQueuePolicy"
    });
    // Let in by both, needed by one.
    let foreign = |name: &str| name == "ForwarderPermission" && !is_direct(deployed);
    parts.map(|(name, _)| name).filter(|name| !foreign(name)).collect()
}

fn is_direct(deployed: &Deployed) -> bool {
    let bucket = &deployed.template["Resources"][BUCKET]["Properties"];
    !bucket["NotificationConfiguration"]["LambdaConfigurations"].is_null()
}

/// What exists before the bucket is touched.
fn awaited(deployed: &Deployed) -> BTreeSet<String> {
    let mut awaited = BTreeSet::new();
    let mut next = vec![BUCKET.to_owned()];
    while let Some(name) = next.pop() {
        let mut names = BTreeSet::new();
        let resource = &deployed.template["Resources"][&name];
        mentioned(resource, &mut names);
        for depends in list(&resource["DependsOn"]) {
            names.insert(depends.as_str().unwrap().to_owned());
        }
        names.retain(|name| !deployed.template["Resources"][name].is_null());
        next.extend(names.into_iter().filter(|name| awaited.insert(name.clone())));
    }
    awaited
}

/// The names that a value refers to.
fn mentioned(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            names.extend(target(value).map(str::to_owned));
            if let Some(sub) = object.get("Fn::Sub") {
                let text = sub.as_str().or_else(|| sub[0].as_str()).unwrap_or_default();
                let variables = text.split("${").skip(1).filter_map(|part| part.split_once('}'));
                let names_of = variables.map(|(name, _)| name.split('.').next().unwrap());
                names.extend(names_of.map(str::to_owned));
            }
            object.values().for_each(|value| mentioned(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| mentioned(value, names)),
        _ => {}
    }
}

#[tokio::test]
async fn the_new_way_is_ready_before_the_bucket_takes_it() {
    let template = processed().await;
    let all: Vec<Deployed> = WAYS.iter().map(|way| by(&template, way)).collect();
    let parts: Vec<Vec<&str>> = all.iter().map(|way| parts(way, &all)).collect();
    for (way, needed) in [
        (0, "ForwarderPermission"),
        (1, "ForwarderSubscription"),
        (2, "ObjectCreatedRule"),
        (3, "WorkQueuePolicy"),
    ] {
        assert!(parts[way].contains(&needed), "{:?}", parts[way]);
    }
    assert_eq!(findings(&template), BTreeSet::new());
}

fn notifications(template: &mut Value) -> &mut Value {
    &mut resource(template, BUCKET)["NotificationConfiguration"]
}

const BREAKS: [Break; 6] = [
    (
        |t| {
            notifications(t)["LambdaConfigurations"]["Fn::If"][1][0]["Function"] =
                json!({ "Fn::GetAtt": ["ForwarderFunction", "Arn"] });
        },
        "the bucket does not wait for ForwarderPermission with Direct",
    ),
    (
        |t| {
            notifications(t)["TopicConfigurations"]["Fn::If"][1][0]["Topic"] =
                json!({ "Ref": "UploadTopic" });
        },
        "the bucket does not wait for ForwarderSubscription with Fanout",
    ),
    (
        |t| {
            notifications(t)["EventBridgeConfiguration"]["Fn::If"][1] =
                json!({ "EventBridgeEnabled": true });
        },
        "the bucket does not wait for ObjectCreatedRule with EventBridge",
    ),
    (
        |t| {
            t["Resources"][BUCKET].as_object_mut().unwrap().remove("DependsOn");
        },
        "the bucket does not wait for WorkQueuePolicy with Queue",
    ),
    (
        |t| {
            let statements = &mut resource(t, "WorkQueuePolicy")["PolicyDocument"]["Statement"];
            statements[2]["Fn::If"][0] = json!("ComesByQueue");
        },
        "WorkQueuePolicy shuts Queue before the bucket is at Direct",
    ),
    (
        |t| t["Resources"]["ForwarderPermission"]["Condition"] = json!("ComesDirectly"),
        "ForwarderPermission shuts Direct before the bucket is at EventBridge",
    ),
];

#[tokio::test]
async fn each_part_that_comes_too_late_is_found() {
    assert_each_is_found(&BREAKS, findings).await;
}

/// What CloudFormation would refuse: a circle of references.
#[tokio::test]
async fn nothing_on_the_way_refers_to_the_bucket() {
    for deployed in deployments(&processed().await) {
        assert!(!awaited(&deployed).contains(BUCKET), "with {}", deployed.parameters);
    }
}
