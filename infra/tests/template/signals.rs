//! Alarms, dashboard and saved queries name only what the functions really write.

use std::collections::BTreeSet;

use local::{Companion, Project};
use serde_json::{Value, json};

use crate::functions::{self, Written};
use crate::ratios::range;
use crate::template::{Deployed, beside, deployments, processed, resources, target, text};

const NAMESPACE: &str = "Sluice";

/// What the dashboard has for a function that a deployment does not have.
const NOBODY: &str = "none";

/// A function of the template, and the one whose code it runs.
const SAME_CODE: [(&str, &str); 1] = [("OrderedRedriveFunction", "RedriveFunction")];

/// A metric of ours that something in the template looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    by: String,
    metric: String,
    dimensions: BTreeSet<String>,
    /// Logical id behind the dimension `FunctionName`.
    function: String,
}

fn references(template: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for deployed in deployments(template) {
        for (name, alarm) in deployed.of_type("AWS::CloudWatch::Alarm") {
            let several = alarm["Metrics"].as_array().into_iter().flatten();
            let several = several.map(|metric| &metric["MetricStat"]["Metric"]);
            let metrics = several.chain([alarm]);
            found.extend(metrics.filter_map(|metric| alarm_reference(name, metric)));
        }
        found.extend(dashboard_references(&deployed));
    }
    found
}

fn alarm_reference(by: &str, metric: &Value) -> Option<Reference> {
    if metric["Namespace"] != NAMESPACE {
        return None;
    }
    let dimensions = metric["Dimensions"].as_array().unwrap();
    let name = |dimension: &Value| dimension["Name"].as_str().unwrap().to_owned();
    let function = dimensions.iter().find(|dimension| dimension["Name"] == "FunctionName");
    Some(Reference {
        by: by.to_owned(),
        metric: metric["MetricName"].as_str().unwrap().to_owned(),
        dimensions: dimensions.iter().map(name).collect(),
        function: target(&function.unwrap()["Value"]).unwrap().to_owned(),
    })
}

/// The dashboard of one deployment, with the name of each resource in place of what it will be.
fn dashboard(deployed: &Deployed) -> Value {
    let (_, dashboard) = deployed.of_type("AWS::CloudWatch::Dashboard").next().unwrap();
    let body = substitute(&dashboard["DashboardBody"]);
    serde_json::from_str(&body)
        .unwrap_or_else(|error| panic!("with {}: {error}\n{body}", deployed.parameters))
}

/// What `Fn::Sub` makes of its text.
fn substitute(value: &Value) -> String {
    let sub = &value["Fn::Sub"];
    let Some(body) = sub.as_str().or_else(|| sub[0].as_str()) else {
        return target(value).map_or_else(|| text(value), str::to_owned);
    };
    let mut parts = body.split("${");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap();
        match sub.get(1).and_then(|variables| variables.get(name)) {
            Some(variable) => result.push_str(&substitute(variable)),
            None => result.push_str(name),
        }
        result.push_str(rest);
    }
    result
}

fn dashboard_references(deployed: &Deployed) -> Vec<Reference> {
    let mut found = Vec::new();
    for widget in dashboard(deployed)["widgets"].as_array().unwrap() {
        let mut previous: Vec<String> = Vec::new();
        for metric in widget["properties"]["metrics"].as_array().into_iter().flatten() {
            // Namespace, name, dimensions; `.` is what the line above has there.
            let parts = metric.as_array().unwrap().iter().filter_map(Value::as_str).enumerate();
            let parts: Vec<String> = parts
                .map(|(n, part)| if part == "." { previous[n].clone() } else { part.to_owned() })
                .collect();
            let dimensions = parts[2..].chunks(2);
            let function = dimensions.clone().find(|dimension| dimension[0] == "FunctionName");
            if parts[0] == NAMESPACE && function.unwrap()[1] != NOBODY {
                found.push(Reference {
                    by: "Dashboard".to_owned(),
                    metric: parts[1].clone(),
                    dimensions: dimensions.map(|dimension| dimension[0].clone()).collect(),
                    function: function.unwrap()[1].clone(),
                });
            }
            previous = parts;
        }
    }
    found
}

/// The references to metrics that nothing publishes.
fn unpublished(template: &Value, written: &Written) -> Vec<Reference> {
    let mut found = Vec::from_iter(references(template));
    found.retain(|reference| {
        let same = SAME_CODE.iter().find(|(function, _)| *function == reference.function);
        let function = same.map_or(reference.function.as_str(), |(_, code)| *code);
        let key = (function.to_owned(), reference.dimensions.clone());
        !written.metrics.get(&key).is_some_and(|names| names.contains(&reference.metric))
    });
    found
}

#[tokio::test]
async fn every_metric_that_is_looked_at_is_published() {
    let template = processed().await;
    let written = functions::run().await;
    let all = references(&template);
    for function in ["ForwarderFunction", "ConsumerFunction", "RedriveFunction"] {
        assert!(all.iter().any(|reference| reference.function == function), "{all:#?}");
    }
    assert!(all.iter().any(|reference| reference.by == "NoRedriveAlarm"), "{all:#?}");
    let unpublished = unpublished(&template, &written);
    assert!(unpublished.is_empty(), "{unpublished:#?}\npublished: {:#?}", written.metrics);
}

/// Breaks the properties of one resource.
type Break = (&'static str, fn(&mut Value));

#[tokio::test]
async fn each_reference_to_a_metric_that_nobody_publishes_is_found() {
    let template = processed().await;
    let written = functions::run().await;
    let breaks: [Break; 5] = [
        ("DeferralsAlarm", |alarm| alarm["MetricName"] = json!("Defered")),
        ("DeferralsAlarm", |alarm| {
            alarm["Dimensions"][0]["Value"] = json!({ "Ref": "ForwarderFunction" });
        }),
        ("NoRedriveAlarm", |alarm| {
            let class = json!({ "Name": "ErrorClass", "Value": "ObjectMissing" });
            alarm["Dimensions"].as_array_mut().unwrap().push(class);
        }),
        ("ExecutionStormAlarm", |alarm| {
            alarm["Metrics"][1]["MetricStat"]["Metric"]["MetricName"] = json!("Forwarded");
        }),
        ("Dashboard", |dashboard| {
            let body = dashboard["DashboardBody"]["Fn::Sub"][0].as_str().unwrap();
            dashboard["DashboardBody"]["Fn::Sub"][0] =
                body.replace("EventAgeAtStart", "Age").into();
        }),
    ];
    for (name, break_it) in breaks {
        let mut broken = template.clone();
        break_it(&mut broken["Resources"][name]["Properties"]);
        let found = unpublished(&broken, &written);
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        assert_eq!(found[0].by, name);
    }
}

#[tokio::test]
async fn the_dashboard_fits_on_its_grid() {
    const COLUMNS: u64 = 24;
    for deployed in deployments(&processed().await) {
        let mut taken = BTreeSet::new();
        for widget in dashboard(&deployed)["widgets"].as_array().unwrap() {
            let number = |name: &str| widget[name].as_u64().unwrap();
            assert!(number("x") + number("width") <= COLUMNS, "{widget:#}");
            for x in number("x")..number("x") + number("width") {
                for y in number("y")..number("y") + number("height") {
                    assert!(taken.insert((x, y)), "two widgets at {x}, {y}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_dashboard_shows_the_alarms_that_exist_and_no_others() {
    for deployed in deployments(&processed().await) {
        let dashboard = dashboard(&deployed);
        let widgets = dashboard["widgets"].as_array().unwrap().iter();
        let shown = widgets.filter_map(|widget| widget["properties"]["alarms"].as_array());
        let shown: BTreeSet<&str> = shown.flatten().map(|arn| arn.as_str().unwrap()).collect();
        let exist = deployed.of_type("AWS::CloudWatch::Alarm");
        let exist: Vec<String> = exist.map(|(name, _)| format!("{name}.Arn")).collect();
        let exist: BTreeSet<&str> = exist.iter().map(String::as_str).collect();
        assert_eq!(shown, exist, "with {}", deployed.parameters);
    }
}

/// What alarms point to: a section for each, under its logical id.
const RUNBOOK: &str = "infra/docs/operations.md";

#[tokio::test]
async fn every_alarm_has_its_section_and_decides_about_missing_data() {
    let mut templates = vec![processed().await];
    for companion in Companion::ALL {
        templates.push(beside(companion).await);
    }
    let runbook = std::fs::read_to_string(Project::find().unwrap().root.join(RUNBOOK)).unwrap();
    let sections: Vec<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut alarms = 0;
    let all = templates.iter().flat_map(|template| {
        resources(template).map(move |(name, resource)| (template, name, resource))
    });
    for (template, name, resource) in all {
        if resource["Type"] != "AWS::CloudWatch::Alarm" {
            continue;
        }
        let everything = Deployed { parameters: String::new(), template: template.clone() };
        alarms += 1;
        let alarm = &resource["Properties"];
        let description = alarm["AlarmDescription"].as_str().unwrap();
        let anchor = format!(" Runbook: {RUNBOOK}#{}", name.to_lowercase());
        assert!(
            description.ends_with(&anchor),
            "{name}: {description:?} does not end in {anchor:?}"
        );
        assert!(sections.contains(&name), "{RUNBOOK} has no section {name}");
        assert!(alarm["TreatMissingData"].is_string(), "{name}");
        let parts = alarm["Metrics"].as_array().into_iter().flatten();
        let periods = parts.map(|metric| &metric["MetricStat"]).chain([alarm]);
        let seconds = periods.filter_map(|it| it["Period"].as_u64()).max().unwrap();
        let whole = seconds * range(&everything, &alarm["EvaluationPeriods"]).maximum;
        assert!(whole <= if seconds < 3600 { 86_400 } else { 604_800 }, "{name}: {whole} s");
    }
    assert!(alarms > 10, "{alarms} alarms");
    let described = sections.iter().filter(|section| section.ends_with("Alarm")).count();
    assert_eq!(described, alarms, "{RUNBOOK} describes an alarm that does not exist");
}

/// The log fields that a query of Logs Insights reads. The language has few words; what is none of
/// them, no alias and no field of CloudWatch's own (`@`) is a field.
fn fields(query: &str) -> BTreeSet<String> {
    const WORDS: [&str; 20] = [
        "fields", "filter", "sort", "limit", "stats", "display", "by", "as", "in", "like", "and",
        "or", "not", "asc", "desc", "count", "latest", "min", "max", "coalesce",
    ];
    let outside_strings: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let is_name = |c: char| c.is_alphanumeric() || "_.@`".contains(c);
    let names: Vec<&str> =
        outside_strings.split(|c| !is_name(c)).filter(|n| !n.is_empty()).collect();
    let aliases: BTreeSet<&str> =
        names.windows(2).filter(|pair| pair[0] == "as").map(|pair| pair[1]).collect();
    let is_field = |name: &&str| {
        !WORDS.contains(name)
            && *name != "ispresent"
            && !name.starts_with('@')
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && (name.contains('`') || !aliases.contains(name))
    };
    names.into_iter().filter(is_field).map(|name| name.replace('`', "")).collect()
}

#[tokio::test]
async fn every_field_in_a_saved_query_is_logged() {
    let template = processed().await;
    let written = functions::run().await;
    let mut queries = 0;
    for (name, resource) in resources(&template) {
        if resource["Type"] != "AWS::Logs::QueryDefinition" {
            continue;
        }
        queries += 1;
        let used = fields(resource["Properties"]["QueryString"].as_str().unwrap());
        assert!(!used.is_empty(), "{name}");
        let unknown: Vec<_> = used.difference(&written.fields).collect();
        assert!(
            unknown.is_empty(),
            "{name}: {unknown:?} of {used:?}\nlogged: {:?}",
            written.fields
        );
    }
    assert_eq!(queries, 4);
}

#[test]
fn the_fields_of_a_query_are_told_from_its_words() {
    let query = "fields @timestamp, `event.id`, cause\n| filter level in [\"WARN\", \"a.b\"]\n\
                 | stats count(*) as lines, latest(error) as newest by coalesce(`error.class`, cause) as class\n\
                 | sort lines desc | limit 20";
    let expected = ["cause", "error", "error.class", "event.id", "level"];
    assert_eq!(Vec::from_iter(fields(query)), expected);
}
