//! Reading a template: the SAM transform, and what CloudFormation makes of conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use local::{Companion, Project, Tools};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

/// The processed template, with its conditions still in it.
pub(crate) async fn processed() -> Value {
    static PROCESSED: OnceCell<Value> = OnceCell::const_new();
    PROCESSED.get_or_init(async || transform("template.yaml").await).await.clone()
}

/// The same of a template that joins the main one.
pub(crate) async fn beside(companion: Companion) -> Value {
    static PROCESSED: [OnceCell<Value>; 3] = [const { OnceCell::const_new() }; 3];
    let of_this = Companion::ALL.iter().zip(&PROCESSED).find(|(it, _)| **it == companion);
    let (_, processed) = of_this.expect("one of all");
    processed.get_or_init(async || transform(&companion.template()).await).await.clone()
}

async fn transform(template: &str) -> Value {
    let project = Project::find().unwrap();
    let tools = Tools::install(&project).await.unwrap();
    let output = Command::new(tools.bin().join("python"))
        .arg(project.root.join("infra/tests/template/translate.py"))
        .arg(project.root.join(template))
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A template as one set of parameters makes it: resources and outputs whose condition does not hold
/// are gone, and so is every `Fn::If`.
#[derive(Debug)]
pub(crate) struct Deployed {
    /// The parameters, for messages.
    pub(crate) parameters: String,
    pub(crate) template: Value,
}

impl Deployed {
    pub(crate) fn of_type<'t>(
        &'t self,
        resource_type: &'t str,
    ) -> impl Iterator<Item = (&'t str, &'t Value)> {
        resources(&self.template)
            .filter(move |(_, resource)| resource["Type"] == resource_type)
            .map(|(name, resource)| (name, &resource["Properties"]))
    }

    /// The resource that a `Ref` or the ARN of a `Fn::GetAtt` names.
    pub(crate) fn follow<'t>(&'t self, reference: &'t Value) -> Option<(&'t str, &'t Value)> {
        let name = target(reference)?;
        let resource = self.template["Resources"].get(name)?;
        Some((name, &resource["Properties"]))
    }
}

pub(crate) fn resources(template: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let resources = template["Resources"].as_object().unwrap();
    resources.iter().map(|(name, resource)| (name.as_str(), resource))
}

/// The logical id that a `Ref` or `Fn::GetAtt` names.
pub(crate) fn target(reference: &Value) -> Option<&str> {
    let attribute = &reference["Fn::GetAtt"];
    let name = reference["Ref"].as_str().or_else(|| attribute[0].as_str());
    name.or_else(|| attribute.as_str().map(|path| path.split('.').next().unwrap_or(path)))
}

/// The template with its default parameters, and with each other value of each parameter that a
/// condition looks at. A parameter without a list of values is given one that is not empty.
pub(crate) fn deployments(template: &Value) -> Vec<Deployed> {
    let mut defaults = BTreeMap::new();
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        defaults.insert(name.clone(), text(&parameter["Default"]));
    }
    let conditions = template["Conditions"].to_string();
    let mut sets = vec![(String::from("the defaults"), defaults.clone())];
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        if !conditions.contains(&format!("{{\"Ref\":\"{name}\"}}")) {
            continue;
        }
        let values = match parameter["AllowedValues"].as_array() {
            Some(values) => values.iter().map(text).collect(),
            None => vec![String::new(), "given".to_owned()],
        };
        for value in values.into_iter().filter(|value| *value != defaults[name]) {
            let mut parameters = defaults.clone();
            parameters.insert(name.clone(), value.clone());
            sets.push((format!("{name}={value}"), parameters));
        }
    }
    sets.into_iter().map(|(name, set)| deploy(template, name, &set)).collect()
}

fn deploy(template: &Value, name: String, parameters: &BTreeMap<String, String>) -> Deployed {
    let holds = |condition: &str| {
        evaluate(&template["Conditions"][condition], &template["Conditions"], parameters)
    };
    let mut deployed = template.clone();
    for section in ["Resources", "Outputs"] {
        let entries = deployed[section].as_object_mut().unwrap();
        entries.retain(|_, entry| entry["Condition"].as_str().is_none_or(holds));
        for entry in entries.values_mut() {
            *entry = choose(entry, &holds).unwrap();
        }
    }
    Deployed { parameters: name, template: deployed }
}

fn evaluate(condition: &Value, conditions: &Value, parameters: &BTreeMap<String, String>) -> bool {
    let (operator, operands) = condition.as_object().unwrap().iter().next().unwrap();
    let each = |operand: &Value| evaluate(operand, conditions, parameters);
    let value = |operand: &Value| match operand["Ref"].as_str() {
        Some(name) => parameters.get(name).cloned().unwrap_or_else(|| name.to_owned()),
        None => text(operand),
    };
    match operator.as_str() {
        "Condition" => each(&conditions[operands.as_str().unwrap()]),
        "Fn::Equals" => value(&operands[0]) == value(&operands[1]),
        "Fn::Not" => !each(&operands[0]),
        "Fn::And" => operands.as_array().unwrap().iter().all(each),
        "Fn::Or" => operands.as_array().unwrap().iter().any(each),
        other => panic!("{other} in a condition"),
    }
}

/// The value without `Fn::If`; none if that leaves `AWS::NoValue`.
fn choose(value: &Value, holds: &impl Fn(&str) -> bool) -> Option<Value> {
    match value {
        Value::Object(object) => {
            if let Some(branches) = object.get("Fn::If") {
                let branch = if holds(branches[0].as_str().unwrap()) { 1 } else { 2 };
                return choose(&branches[branch], holds);
            }
            if object.get("Ref").is_some_and(|name| name == "AWS::NoValue") {
                return None;
            }
            let chosen =
                object.iter().filter_map(|(key, value)| Some((key.clone(), choose(value, holds)?)));
            Some(Value::Object(chosen.collect::<Map<_, _>>()))
        }
        Value::Array(values) => {
            Some(values.iter().filter_map(|value| choose(value, holds)).collect())
        }
        other => Some(other.clone()),
    }
}

/// A scalar of a template, where `5` and `"5"` are the same.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The elements of a list, or the one value that stands for a list of one.
pub(crate) fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// Breaks one rule, and says what must be found then.
pub(crate) type Break = (fn(&mut Value), &'static str);

/// That a checker finds each of these breaks.
pub(crate) async fn assert_each_is_found(
    breaks: &[Break],
    findings: fn(&Value) -> BTreeSet<String>,
) {
    let template = processed().await;
    for (break_it, finding) in breaks {
        let mut broken = template.clone();
        break_it(&mut broken);
        let found = findings(&broken);
        assert!(found.contains(*finding), "not found: {finding}\nfound: {found:#?}");
    }
}

/// The properties of a resource, to be broken.
pub(crate) fn resource<'t>(template: &'t mut Value, name: &str) -> &'t mut Value {
    template["Resources"].get_mut(name).expect("a resource").get_mut("Properties").unwrap()
}
