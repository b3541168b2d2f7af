//! The templates of `infra/stacks`: as safe as the main one, joined to it by its outputs, and watched.

use std::collections::{BTreeMap, BTreeSet};

use local::{Companion, Project};
use serde_json::{Value, json};

use crate::alarms::silence;
use crate::template::{Deployed, beside, deployments, list, processed, resources, target, text};
use crate::{api, security};

const PAGE: &str = "infra/docs/companions.md";

/// What is wrong with a companion, one sentence each.
fn findings(template: &Value) -> BTreeSet<String> {
    let mut found = security::findings(template);
    for deployed in deployments(template) {
        let mut add = |finding: String| {
            found.insert(finding);
        };
        silence(&deployed, &mut add);
        undelivered(&deployed, &mut add);
        dead_letters(&deployed, &mut add);
        streams(&deployed, &mut add);
    }
    found
}

/// What a rule cannot deliver goes to a queue with an alarm, which says all that an alarm on the rule
/// would say, and holds what was lost.
fn undelivered(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (rule, properties) in deployed.of_type("AWS::Events::Rule") {
        for to in list(&properties["Targets"]) {
            let queue = target(&to["DeadLetterConfig"]["Arn"]);
            if !queue.is_some_and(|queue| rings_when_filled(deployed, queue)) {
                add(format!("nobody sees what {rule} could not deliver"));
            }
        }
    }
}

/// A dead-letter queue that no redrive empties needs somebody to look.
fn dead_letters(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, queue) in deployed.of_type("AWS::SQS::Queue") {
        let Some(dead) = target(&queue["RedrivePolicy"]["deadLetterTargetArn"]) else { continue };
        if !rings_when_filled(deployed, dead) {
            add(format!("nobody sees what {name} gives up"));
        }
    }
    for (name, queue) in deployed.of_type("AWS::SQS::Queue") {
        if queue["MessageRetentionPeriod"] != 1_209_600 {
            add(format!("{name} does not keep messages for 14 days"));
        }
    }
}

fn rings_when_filled(deployed: &Deployed, queue: &str) -> bool {
    deployed.of_type("AWS::CloudWatch::Alarm").any(|(_, alarm)| {
        alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
            && alarm["Threshold"] == 0
            && target(&alarm["Dimensions"][0]["Value"]) == Some(queue)
    })
}

/// Streams are encrypted, and what Firehose writes of its own failures is no upload.
fn streams(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, stream) in deployed.of_type("AWS::Kinesis::Stream") {
        if stream["StreamEncryption"]["EncryptionType"] != "KMS" {
            add(format!("{name} is not encrypted"));
        }
    }
    for (name, files) in deployed.of_type("AWS::KinesisFirehose::DeliveryStream") {
        let to = &files["ExtendedS3DestinationConfiguration"];
        if text(&to["FileExtension"]) != ".jsonl" {
            add(format!("{name} writes files that Sluice takes for one state each"));
        }
        let uploads = text(&to["Prefix"]["Fn::Sub"]);
        let errors = text(&to["ErrorOutputPrefix"]);
        let pattern = text(&deployed.template["Parameters"]["KeyPrefix"]["AllowedPattern"]);
        let kept_apart = uploads.starts_with("${KeyPrefix}")
            && errors.starts_with("str")
            && pattern.starts_with("^(?!str)")
            && pattern.ends_with("{3,}$");
        if !kept_apart {
            add(format!("what {name} could not write may be an upload"));
        }
    }
}

#[tokio::test]
async fn companions_are_as_safe_as_the_main_stack() {
    for companion in Companion::ALL {
        let found = findings(&beside(companion).await);
        assert!(found.is_empty(), "{companion}: {found:#?}");
    }
}

type Break = (Companion, fn(&mut Value), &'static str);

fn properties<'t>(template: &'t mut Value, name: &str) -> &'t mut Value {
    &mut template["Resources"][name]["Properties"]
}

const BREAKS: [Break; 9] = [
    (
        Companion::Guard,
        |t| properties(t, "TableDeletedRule")["Targets"][0]["DeadLetterConfig"] = json!(null),
        "nobody sees what TableDeletedRule could not deliver",
    ),
    (
        Companion::Guard,
        |t| properties(t, "GuardUndeliveredAlarm")["Threshold"] = json!(10),
        "nobody sees what PartChangedRule could not deliver",
    ),
    (
        Companion::Guard,
        |t| properties(t, "GuardTopic")["KmsMasterKeyId"] = json!(null),
        "GuardTopic is not encrypted",
    ),
    (
        Companion::Catalog,
        |t| {
            let statements =
                &mut properties(t, "CatalogQueuePolicy")["PolicyDocument"]["Statement"];
            statements[2]["Condition"] = json!({});
        },
        "CatalogQueue lets sns.amazonaws.com act for any account",
    ),
    (
        Companion::Catalog,
        |t| properties(t, "CatalogDeadLetterQueue")["MessageRetentionPeriod"] = json!(345_600),
        "CatalogDeadLetterQueue does not keep messages for 14 days",
    ),
    (
        Companion::Stream,
        |t| {
            let role = &mut properties(t, "FilesRole")["Policies"][0]["PolicyDocument"];
            role["Statement"][2]["Resource"] = json!("*");
        },
        "FilesRole may s3:PutObject on everything",
    ),
    (
        Companion::Stream,
        |t| properties(t, "StateStream")["StreamEncryption"] = json!(null),
        "StateStream is not encrypted",
    ),
    (
        Companion::Stream,
        |t| {
            let to = &mut properties(t, "StateFiles")["ExtendedS3DestinationConfiguration"];
            to["ErrorOutputPrefix"] = json!("devices/errors/");
        },
        "what StateFiles could not write may be an upload",
    ),
    (
        Companion::Stream,
        |t| properties(t, "FilesLateAlarm")["TreatMissingData"] = json!("breaching"),
        "FilesLateAlarm takes silence for breaching",
    ),
];

#[tokio::test]
async fn each_broken_companion_is_found() {
    for (companion, break_it, finding) in BREAKS {
        let mut broken = beside(companion).await;
        break_it(&mut broken);
        let found = findings(&broken);
        assert!(found.contains(finding), "not found: {finding}\nfound: {found:#?}");
    }
}

/// A deployment gives a companion all outputs of the main stack: whatever it cannot do without is one,
/// and has no other name there.
#[tokio::test]
async fn what_a_companion_needs_is_an_output_of_the_main_stack() {
    let main = processed().await;
    for companion in Companion::ALL {
        let template = beside(companion).await;
        let mut joins = 0;
        for (name, parameter) in template["Parameters"].as_object().unwrap() {
            let output = &main["Outputs"][name];
            joins += usize::from(!output.is_null());
            if parameter["Default"].is_null() {
                assert!(!output.is_null(), "{companion}: the main stack does not say {name}");
            } else if output.is_null() {
                continue;
            }
            // An output that not every main stack has is asked for, or done without.
            let asked = !companion.parameters_of_main().is_empty();
            let done_without = !parameter["Default"].is_null();
            assert!(output["Condition"].is_null() || asked || done_without, "{companion}: {name}");
        }
        assert!(joins > 1, "{companion}");
    }
}

/// Every part that holds or moves something, and every rule.
#[tokio::test]
async fn the_guard_watches_every_part() {
    const WATCHED: [&str; 5] = [
        "AWS::DynamoDB::Table",
        "AWS::Lambda::Function",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
        "AWS::StepFunctions::StateMachine",
    ];
    let main = processed().await;
    let guard = beside(Companion::Guard).await;
    let rules: Vec<String> = resources(&guard)
        .filter(|(_, it)| it["Type"] == "AWS::Events::Rule")
        .map(|(_, it)| it["Properties"]["EventPattern"].to_string())
        .collect();
    for (name, resource) in resources(&main) {
        let kind = text(&resource["Type"]);
        if kind == "AWS::Events::Rule" {
            let prefix = format!("${{MainStackName}}-{name}-");
            let all = rules.iter().filter(|pattern| pattern.contains(&prefix)).count();
            // To be disabled, and to lose its targets.
            assert_eq!(all, 2, "{name}");
        }
        if !WATCHED.contains(&kind.as_str()) {
            continue;
        }
        let outputs = main["Outputs"].as_object().unwrap().iter();
        let of_this = outputs.filter(|(_, output)| {
            let value = &output["Value"];
            let values =
                value["Fn::If"].as_array().map_or(std::slice::from_ref(value), |it| &it[1..]);
            values.iter().any(|value| target(value) == Some(name))
        });
        let names: Vec<&String> = of_this.map(|(output, _)| output).collect();
        let watched = names.iter().any(|output| {
            !guard["Parameters"][output.as_str()].is_null()
                && rules.iter().any(|pattern| pattern.contains(output.as_str()))
        });
        assert!(watched, "the guard does not know {name}, which is {names:?}");
    }
}

/// What the guard's message does to the stack is a command that exists, and names what it needs.
#[tokio::test]
async fn every_message_of_the_guard_says_who_what_when_from_where_and_what_undoes_it() {
    let guard = beside(Companion::Guard).await;
    for (name, rule) in resources(&guard) {
        if rule["Type"] != "AWS::Events::Rule" {
            continue;
        }
        let transformer = &rule["Properties"]["Targets"][0]["InputTransformer"];
        let template = text(&transformer["InputTemplate"]["Fn::Sub"]);
        for placeholder in ["<who>", "<what>", "<when>", "<from>"] {
            assert!(template.contains(placeholder), "{name} does not say {placeholder}");
        }
        for line in template.lines() {
            let inner = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
            // EventBridge refuses what is no JSON, and values are put in as they are.
            assert!(inner.is_some_and(|line| !line.contains('"')), "{name}: {line}");
        }
        let command = template.lines().skip(2).any(|line| {
            ["aws cloudformation ", "aws dynamodb ", "aws events ", "aws lambda ", "cargo sluice "]
                .iter()
                .any(|program| line.contains(program))
        });
        assert!(command, "{name} has no command: {template}");
        let paths = transformer["InputPathsMap"].as_object().unwrap();
        for placeholder in template.split('<').skip(1).filter_map(|part| part.split_once('>')) {
            assert!(paths.contains_key(placeholder.0), "{name}: {}", placeholder.0);
        }
    }
}

/// Bodies that a device may post, with its id. What they have in common is that somebody's code has
/// tripped over their like: line breaks, quotes, text of other alphabets, and what means something in
/// the language of the template.
const TAKEN: [(&str, &str); 8] = [
    ("42", r#"{"deviceId":"42","state":{"t":21.5},"sequence":"1"}"#),
    ("42", "\n{\r\n\t\"deviceId\": \"42\",\n\n  \"state\": {\n    \"t\": [\n1,\n2]\n  }\n}\n"),
    ("42", r#"{"deviceId":"42","state":{"text":"a \"quote\", a \\ and\ntwo\tlines\u2028"}}"#),
    ("42", r#"{"deviceId":"42","state":{"text":"상태 é 🌡","\ud83c\udf21":"\u00e9"}}"#),
    ("42", r#"{"deviceId":"42","state":{"none":null,"big":9007199254740993,"small":-1.5e-7}}"#),
    ("42", r#"{"deviceId":"42","state":{"text":"$input.body ${x} #set($x = 1) ## 'it'"}}"#),
    (r#"a "quoted" \ device"#, r#"{"deviceId":"a \"quoted\" \\ device","state":{}}"#),
    ("장치\n$1 #end", r#"{"state":{},"deviceId":"장치\n$1 #end"}"#),
];

/// Bodies that the state machine would refuse.
const REFUSED: [&str; 8] = [
    "",
    "not JSON",
    r#"["42"]"#,
    r#"{"state":{}}"#,
    r#"{"deviceId":"","state":{}}"#,
    r#"{"deviceId":42,"state":{}}"#,
    r#"{"deviceId":"42","state":1}"#,
    r#"{"deviceId":"42","state":{},"sequence":""}"#,
];

#[tokio::test]
async fn the_api_puts_what_was_posted_into_the_stream() {
    let answers = api::requests("the-stream", &TAKEN.map(|(_, body)| body)).await;
    for ((device, body), requests) in TAKEN.iter().zip(answers) {
        assert!(!requests.is_empty(), "refused: {body}");
        for request in requests {
            let wrong = |what: &str| format!("{what}: {body} became {request}");
            let fields: BTreeMap<String, String> = serde_json::from_str(&request)
                .unwrap_or_else(|error| panic!("{}", wrong(&error.to_string())));
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            assert_eq!(names, ["Data", "PartitionKey", "StreamName"]);
            assert_eq!(fields["StreamName"], "the-stream");
            assert_eq!(fields["PartitionKey"], *device);
            let data = aws_smithy_types::base64::decode(&fields["Data"]).unwrap();
            // Firehose puts records one after the other, each with a line break at its end.
            assert!(
                !data.iter().any(|byte| b"\r\n".contains(byte)),
                "{}",
                wrong("more than one line")
            );
            let posted: Value = serde_json::from_str(body).unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&data).unwrap(),
                posted,
                "{}",
                wrong("other JSON")
            );
        }
    }
}

#[tokio::test]
async fn the_api_refuses_what_the_machine_would_refuse() {
    for (body, requests) in REFUSED.iter().zip(api::requests("the-stream", &REFUSED).await) {
        assert!(requests.is_empty(), "{body} became {requests:?}");
    }
}

/// The model lets in what the state machine writes, and keeps out what it would refuse.
#[tokio::test]
async fn the_api_asks_for_what_the_machine_asks_for() {
    let template = beside(Companion::Stream).await;
    let schema = &template["Resources"]["StateModel"]["Properties"]["Schema"];
    let machine = Project::find().unwrap().root.join("infra/state-machine.asl.json");
    let machine = std::fs::read_to_string(machine).unwrap();
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["required"], json!(["deviceId", "state"]));
    let kinds: BTreeMap<&str, String> = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, property)| (name.as_str(), text(&property["type"])))
        .collect();
    let expected = [("deviceId", "string"), ("sequence", "string"), ("state", "object")];
    assert_eq!(kinds, expected.map(|(name, kind)| (name, kind.to_owned())).into());
    for name in ["deviceId", "sequence"] {
        let property = &schema["properties"][name];
        assert_eq!((&property["minLength"], &property["maxLength"]), (&json!(1), &json!(256)));
        let asked = format!("{name}: expected a non-empty string of at most 256 characters");
        assert!(machine.contains(&asked), "{asked}");
    }
}

#[tokio::test]
async fn every_parameter_of_a_companion_is_described() {
    let page = std::fs::read_to_string(Project::find().unwrap().root.join(PAGE)).unwrap();
    for companion in Companion::ALL {
        for (name, parameter) in beside(companion).await["Parameters"].as_object().unwrap() {
            let default = match &parameter["Default"] {
                Value::Null => "an output".to_owned(),
                default if ["", ":::::"].contains(&text(default).as_str()) => "empty".to_owned(),
                default => format!("`{}`", text(default)),
            };
            let row = format!("| `{name}` | {default} |");
            assert!(page.contains(&row), "{PAGE} has no row `{row}`");
        }
    }
}
