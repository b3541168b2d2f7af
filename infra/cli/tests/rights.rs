//! The policies for people, `infra/docs/rights`, against the calls that the tool makes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

const READER: &str = include_str!("../../docs/rights/reader.json");
const OPERATOR: &str = include_str!("../../docs/rights/operator.json");

/// What somebody may not do who only looks.
const ACTING: [&str; 6] = [
    "lambda:InvokeFunction",
    "lambda:UpdateEventSourceMapping",
    "s3:PutObject",
    "sqs:ChangeMessageVisibility",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
];

/// The clients of the tool, by the names that they have in the code, and what IAM calls the service.
const CLIENTS: [(&str, &str); 8] = [
    ("cloudformation", "cloudformation"),
    ("cloudwatch", "cloudwatch"),
    ("dynamodb", "dynamodb"),
    ("lambda", "lambda"),
    ("logs", "logs"),
    ("s3", "s3"),
    ("sfn", "states"),
    ("sqs", "sqs"),
];

/// Calls whose right has another name.
const RENAMED: [(&str, &str); 4] = [
    ("lambda:Invoke", "lambda:InvokeFunction"),
    ("s3:ListObjectVersions", "s3:ListBucketVersions"),
    ("s3:ListObjectsV2", "s3:ListBucket"),
    ("sqs:ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility"),
];

fn actions(policy: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(policy).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let mut all = BTreeSet::new();
    for statement in statements {
        assert_eq!(statement["Effect"], "Allow");
        let actions = match &statement["Action"] {
            Value::Array(actions) => actions.clone(),
            action => vec![action.clone()],
        };
        for action in actions {
            let action = action.as_str().unwrap().to_owned();
            assert!(!action.contains('*'), "{action}");
            assert!(all.insert(action.clone()), "{action} is granted twice");
        }
    }
    all
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The code, without white space between the links of a chain of calls.
fn code() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let texts = sources(&folder).into_iter().map(|path| fs::read_to_string(path).unwrap());
    texts
        .map(|text| text.lines().map(str::trim).collect::<Vec<_>>().join("\n").replace("\n.", "."))
        .collect()
}

/// Whether a character can be part of a name.
fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// `list_objects_v2` as `ListObjectsV2`.
fn camel_case(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
    });
    words.collect::<Vec<String>>().concat()
}

/// The rights for all calls on a client.
fn rights_of_calls() -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for code in code() {
        for (client, service) in CLIENTS {
            let marked = format!("{client}.");
            for (index, _) in code.match_indices(&marked) {
                let is_name = !code[..index].ends_with(is_of_name);
                let call = &code[index + marked.len()..];
                let name = &call[..call.find(|character| !is_of_name(character)).unwrap()];
                // A client that is being made, and not one that is called.
                if !is_name || name == "build" || !call[name.len()..].starts_with("()") {
                    continue;
                }
                let action = format!("{service}:{}", camel_case(name));
                let renamed = RENAMED.iter().find(|(call, _)| *call == action);
                rights.insert(renamed.map_or(action, |(_, right)| (*right).to_owned()));
            }
        }
    }
    rights
}

/// The rights that an error names if they are missing.
fn rights_in_errors() -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for code in code() {
        for marked in ["Failure::of(\"", "Self::of_call(\""] {
            for (index, _) in code.match_indices(marked) {
                let rest = &code[index + marked.len()..];
                rights.insert(rest[..rest.find('"').unwrap()].to_owned());
            }
        }
    }
    rights
}

#[test]
fn the_policies_grant_what_the_tool_calls_and_no_more() {
    let (reader, operator) = (actions(READER), actions(OPERATOR));
    let both: BTreeSet<String> = reader.union(&operator).cloned().collect();
    assert_eq!(both, rights_of_calls());
    assert_eq!(operator, ACTING.map(str::to_owned).into());
    assert!(reader.is_disjoint(&operator));
}

#[test]
fn a_policy_names_outputs_of_the_stack() {
    let template = include_str!("../../../template.yaml");
    let (_, outputs) = template.split_once("\nOutputs:\n").unwrap();
    for policy in [READER, OPERATOR] {
        let names = policy.split('<').skip(1).map(|rest| rest.split_once('>').unwrap().0);
        for name in names.filter(|name| name.starts_with(char::is_uppercase)) {
            assert!(outputs.contains(&format!("\n  {name}:\n")), "{name} is no output");
        }
    }
}

#[test]
fn an_error_names_the_right_that_is_missing() {
    assert_eq!(rights_in_errors(), rights_of_calls());
}
