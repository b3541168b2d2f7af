//! That a change of a parameter reaches the alias. SAM makes a version for new code and for new text
//! in the template; the value of a parameter is neither, so the version's description holds it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::template::{assert_each_is_found, processed, resource, resources, target};

/// The parameters that change a function and make no version of it, one sentence each.
fn findings(template: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, version) in resources(template).filter(|(_, it)| it["Type"] == "AWS::Lambda::Version") {
        let function = target(&version["Properties"]["FunctionName"]).expect("a function");
        let mut noticed = BTreeSet::new();
        collect(template, &version["Properties"]["Description"], &mut noticed);
        let mut used = BTreeSet::new();
        collect(template, &template["Resources"][function]["Properties"], &mut used);
        found
            .extend(used.difference(&noticed).map(|parameter| {
                format!("a change of {parameter} makes no version of {function}")
            }));
    }
    found
}

/// The parameters that a value depends on, by itself or by a condition.
fn collect<'t>(template: &'t Value, value: &'t Value, parameters: &mut BTreeSet<&'t str>) {
    let mut add = |name| {
        if !template["Parameters"][name].is_null() {
            parameters.insert(name);
        }
    };
    match value {
        Value::Object(object) => {
            if let Some(name) = object.get("Ref").and_then(Value::as_str) {
                add(name);
            }
            if let Some(sub) = object.get("Fn::Sub") {
                let text = sub.as_str().or_else(|| sub[0].as_str()).unwrap_or_default();
                text.split("${").filter_map(|part| part.split_once('}')).for_each(|it| add(it.0));
            }
            for (operator, operand) in object {
                let condition = match operator.as_str() {
                    "Condition" => operand.as_str(),
                    "Fn::If" => operand[0].as_str(),
                    _ => None,
                };
                if let Some(condition) = condition {
                    collect(template, &template["Conditions"][condition], parameters);
                }
                collect(template, operand, parameters);
            }
        }
        Value::Array(values) => {
            for value in values {
                collect(template, value, parameters);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_change_of_any_parameter_of_a_function_makes_a_version_of_it() {
    let template = processed().await;
    assert!(resources(&template).any(|(_, it)| it["Type"] == "AWS::Lambda::Version"));
    assert_eq!(findings(&template), BTreeSet::new());
}

#[tokio::test]
async fn each_parameter_that_makes_no_version_is_found() {
    assert_each_is_found(
        &[
            (
                |template| {
                    let variables = &mut resource(template, "ConsumerFunction")["Environment"];
                    variables["Variables"]["TIME_ZONE"] = json!({ "Ref": "TimeZone" });
                },
                "a change of TimeZone makes no version of ConsumerFunction",
            ),
            (
                |template| {
                    resource(template, "ConsumerFunction")["Description"] =
                        json!({ "Fn::If": ["HasOwnBucket", "own", "brought"] });
                },
                "a change of ExistingBucketName makes no version of ConsumerFunction",
            ),
        ],
        findings,
    )
    .await;
}
