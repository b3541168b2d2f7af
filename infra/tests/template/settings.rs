//! The page about settings has every parameter of the template, with its default and range.

use local::Project;
use serde_json::json;

use crate::template::{processed, text};

const PAGE: &str = "infra/docs/settings.md";

#[tokio::test]
async fn every_parameter_is_described_with_its_default_and_range() {
    let template = processed().await;
    let page = std::fs::read_to_string(Project::find().unwrap().root.join(PAGE)).unwrap();
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        let default = match text(&parameter["Default"]).as_str() {
            "" => "empty".to_owned(),
            default => format!("`{default}`"),
        };
        let range = match (&parameter["MinValue"], &parameter["MaxValue"]) {
            (min, max) if min.is_null() && max.is_null() => String::new(),
            (min, max) if max.is_null() => format!("{} or more |", text(min)),
            (min, max) => format!("{} to {} |", text(min), text(max)),
        };
        let row = format!("| `{name}` | {default} | {range}");
        assert!(page.lines().any(|line| line.starts_with(&row)), "{PAGE} has no row `{row}`");
    }
}

#[tokio::test]
async fn executions_that_cannot_be_listed_cannot_be_limited() {
    let rule = &processed().await["Rules"]["OnlyStandardExecutionsAreCounted"];
    let express = json!({ "Fn::Equals": [{ "Ref": "StateMachineType" }, "EXPRESS"] });
    let no_limit = json!({ "Fn::Equals": [{ "Ref": "MaxRunningExecutions" }, "0"] });
    assert_eq!((&rule["RuleCondition"], &rule["Assertions"][0]["Assert"]), (&express, &no_limit));
}
