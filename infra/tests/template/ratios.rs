//! The numbers of the template that lose or duplicate messages if they do not fit together.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::template::{
    Break, Deployed, assert_each_is_found, deployments, processed, resource, text,
};

const SERVICE_RETENTION_MAXIMUM: u64 = 14 * 24 * 3600;
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const IN_FLIGHT_LIMIT: u64 = 120_000;

/// How long the redrive may take to come to a letter: what it would come to later, it archives
/// before (`functions/redrive/src/expiry.rs`).
const DAYS_UNTIL_REDRIVE: u64 = 3;

/// What is wrong with the numbers, one sentence each.
fn findings(template: &Value) -> BTreeSet<String> {
    let mut found = versions(template);
    for deployed in deployments(template) {
        let mut add = |finding: String| {
            found.insert(finding);
        };
        queues(&deployed, &mut add);
        let mut mappings = 0;
        for (_, mapping) in deployed.of_type("AWS::Lambda::EventSourceMapping") {
            mappings += 1;
            consumer(&deployed, mapping, &mut add);
        }
        if mappings == 0 {
            add(format!("nothing consumes a queue with {}", deployed.parameters));
        }
    }
    found
}

/// The versions of objects that are removed although an event about them may be on its way.
fn versions(template: &Value) -> BTreeSet<String> {
    let number = |value: &Value| text(value).parse::<u64>().unwrap();
    let parameters = &template["Parameters"];
    let deferral = number(&parameters["MaxDeferralHours"]["MaxValue"]).div_ceil(24);
    let mut found = BTreeSet::new();
    let allowed = parameters["OverwrittenVersionDays"]["AllowedValues"].as_array();
    for days in allowed.unwrap().iter().map(number).filter(|days| *days > 0) {
        let of_days = json!([{ "Ref": "OverwrittenVersionDays" }, days.to_string()]);
        let mut rules = template["Rules"].as_object().unwrap().values();
        let rule = rules.find(|rule| rule["RuleCondition"]["Fn::Equals"] == of_days);
        let contains = rule.map(|rule| &rule["Assertions"][0]["Assert"]["Fn::Contains"]);
        let Some(contains) = contains.filter(|it| it[1] == json!({ "Ref": "MaxRedrives" })) else {
            found.insert(format!("nothing bounds the redrives of versions that stay {days} days"));
            continue;
        };
        let redrives = contains[0].as_array().unwrap().iter().map(number).max().unwrap();
        let on_its_way = SERVICE_RETENTION_MAXIMUM / (24 * 3600)
            + (redrives + 1) * (deferral + DAYS_UNTIL_REDRIVE);
        if on_its_way > days {
            found
                .insert(format!("an event of {on_its_way} days outlives a version of {days} days"));
        }
    }
    found
}

fn queues(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, queue) in deployed.of_type("AWS::SQS::Queue") {
        let encrypted =
            text(&queue["SqsManagedSseEnabled"]) == "true" || !queue["KmsMasterKeyId"].is_null();
        if !encrypted {
            add(format!("{name} is not encrypted with {}", deployed.parameters));
        }
        let policy = &queue["RedrivePolicy"];
        if policy.is_null() {
            continue;
        }
        let Some((dead_name, dead)) = deployed.follow(&policy["deadLetterTargetArn"]) else {
            add(format!("{name} has no dead-letter queue of this template"));
            continue;
        };
        // Without the property, SQS keeps messages for four days.
        let retention = |queue: &Value| queue["MessageRetentionPeriod"].as_u64().unwrap_or(345_600);
        if retention(dead) < retention(queue) {
            add(format!("{dead_name} keeps messages for less time than {name}"));
        }
        if retention(dead) != SERVICE_RETENTION_MAXIMUM {
            add(format!("{dead_name} does not keep messages for 14 days"));
        }
        let receives = range(deployed, &policy["maxReceiveCount"]);
        if !queue["FifoQueue"].is_null() {
            // There, what has to wait is delivered again, and the consumer gives up by time.
            if receives.minimum < 1_000 {
                add(format!("{name} may give a message up after {} receives", receives.minimum));
            }
            continue;
        }
        if receives.minimum < 5 {
            add(format!("{name} may give a message up after {} receives", receives.minimum));
        }
        if receives.default != 10 {
            add(format!("{name} gives a message up after {} receives", receives.default));
        }
    }
}

fn consumer(deployed: &Deployed, mapping: &Value, add: &mut impl FnMut(String)) {
    let (queue_name, queue) = deployed.follow(&mapping["EventSourceArn"]).expect("a queue");
    let (mut name, mut function) = deployed.follow(&mapping["FunctionName"]).expect("a function");
    if !function["FunctionVersion"].is_null() {
        // An alias.
        (name, function) = deployed.follow(&function["FunctionName"]).expect("a function");
    }

    let window = &mapping["MaximumBatchingWindowInSeconds"];
    for timeout in values(deployed, &function["Timeout"]) {
        for window in values(deployed, window) {
            let visibility = visibility(deployed, &queue["VisibilityTimeout"], timeout, window);
            let Some(visibility) = visibility else {
                add(format!(
                    "{queue_name} has no visibility timeout for {timeout} s and {window} s"
                ));
                continue;
            };
            if visibility <= timeout {
                add(format!("{queue_name} shows messages again while {name} has them"));
            }
            if visibility < 6 * timeout + window {
                add(format!(
                    "{queue_name} hides for {visibility} s, less than 6 x {timeout} + {window}"
                ));
            }
        }
    }
    for (property, value) in [("timeout", &function["Timeout"]), ("batching window", window)] {
        let is_set = !value.is_null();
        if is_set && !values(deployed, value).contains(&range(deployed, value).default) {
            add(format!("the default {property} of {name} is not one of its values"));
        }
    }

    let batch = range(deployed, &mapping["BatchSize"]).maximum;
    let concurrency = range(deployed, &mapping["ScalingConfig"]["MaximumConcurrency"]).maximum;
    if batch.saturating_mul(concurrency) >= IN_FLIGHT_LIMIT {
        add(format!("{name} may hold {batch} x {concurrency} messages in flight"));
    }
    if !function["ReservedConcurrentExecutions"].is_null() {
        add(format!("{name} has reserved concurrency"));
    }
    let responses = &mapping["FunctionResponseTypes"];
    if !responses.as_array().is_some_and(|types| types.contains(&json!("ReportBatchItemFailures")))
    {
        add(format!("{name} does not report single failures"));
    }
}

/// The visibility timeout of a queue for one function timeout and one batching window. It looks
/// both up in a mapping; anything else would have to be a number that fits all of them.
pub(crate) fn visibility(
    deployed: &Deployed,
    property: &Value,
    timeout: u64,
    window: u64,
) -> Option<u64> {
    match &property["Fn::FindInMap"] {
        Value::Null => property.as_u64(),
        find => {
            let mapping = &deployed.template["Mappings"][find[0].as_str()?];
            let row = pick(deployed, &find[1], timeout, window)?;
            let column = pick(deployed, &find[2], timeout, window)?;
            mapping.get(row.to_string())?.get(column.to_string())?.as_u64()
        }
    }
}

/// The value of the key that a lookup uses: the one of the two that its parameter sets.
fn pick(deployed: &Deployed, key: &Value, timeout: u64, window: u64) -> Option<u64> {
    let (_, mapping) = deployed.of_type("AWS::Lambda::EventSourceMapping").next()?;
    let is_timeout =
        deployed.of_type("AWS::Lambda::Function").any(|(_, function)| function["Timeout"] == *key);
    let set = &mapping["MaximumBatchingWindowInSeconds"];
    if is_timeout {
        Some(timeout)
    } else if set == key {
        Some(window)
    } else {
        // Without a window the queue may follow the parameter's default.
        set.is_null().then(|| range(deployed, key).default)
    }
}

#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) minimum: u64,
    pub(crate) default: u64,
    pub(crate) maximum: u64,
}

/// What a property can be: a number, or whatever its parameter allows.
pub(crate) fn range(deployed: &Deployed, property: &Value) -> Range {
    if let Some(number) = property.as_u64() {
        return Range { minimum: number, default: number, maximum: number };
    }
    let Some(parameter) = property["Ref"].as_str() else {
        // Not set: nothing bounds it.
        return Range { minimum: 0, default: 0, maximum: u64::MAX };
    };
    let parameter = &deployed.template["Parameters"][parameter];
    // None if it is not set.
    let number =
        |value: &Value| (!value.is_null()).then(|| text(value).parse::<u64>().expect("a number"));
    let allowed = parameter["AllowedValues"].as_array();
    let allowed: Vec<u64> = allowed.into_iter().flatten().filter_map(number).collect();
    Range {
        minimum: number(&parameter["MinValue"]).or(allowed.iter().min().copied()).unwrap_or(0),
        default: number(&parameter["Default"]).unwrap_or(0),
        maximum: number(&parameter["MaxValue"])
            .or(allowed.iter().max().copied())
            .unwrap_or(u64::MAX),
    }
}

/// Every value that a number of seconds can have; for one whose parameter has no list, its bounds.
/// None set is zero.
pub(crate) fn values(deployed: &Deployed, property: &Value) -> Vec<u64> {
    if property.is_null() {
        return vec![0];
    }
    let parameter = property["Ref"].as_str().unwrap_or_default();
    let allowed = &deployed.template["Parameters"][parameter]["AllowedValues"];
    if let Some(values) = allowed.as_array() {
        return values.iter().map(|value| text(value).parse().expect("a number")).collect();
    }
    let range = range(deployed, property);
    vec![range.minimum, range.default, range.maximum]
}

#[tokio::test]
async fn the_numbers_of_the_template_fit_together() {
    let found = findings(&processed().await);
    assert!(found.is_empty(), "{found:#?}");
}

fn mapping(template: &mut Value) -> &mut Value {
    let resources = template["Resources"].as_object_mut().unwrap();
    let mapping = resources.values_mut().find(|r| r["Type"] == "AWS::Lambda::EventSourceMapping");
    mapping.expect("an event source mapping").get_mut("Properties").unwrap()
}

const BREAKS: [Break; 18] = [
    (
        |t| t["Parameters"]["OverwrittenVersionDays"]["AllowedValues"] = json!([0, 30]),
        "nothing bounds the redrives of versions that stay 30 days",
    ),
    (
        |t| {
            let rule = &mut t["Rules"]["VersionsOf120DaysAndRedrives"]["Assertions"][0];
            let allowed = rule["Assert"]["Fn::Contains"][0].as_array_mut().unwrap();
            allowed.push(json!("8"));
        },
        "an event of 131 days outlives a version of 120 days",
    ),
    (
        |t| t["Parameters"]["MaxDeferralHours"]["MaxValue"] = json!(336),
        "an event of 150 days outlives a version of 120 days",
    ),
    (
        |t| t["Mappings"]["VisibilityTimeout"]["120"]["5"] = json!(724),
        "WorkQueue hides for 724 s, less than 6 x 120 + 5",
    ),
    (
        |t| t["Mappings"]["VisibilityTimeout"]["30"]["0"] = json!(30),
        "WorkQueue shows messages again while ConsumerFunction has them",
    ),
    (
        |t| t["Parameters"]["ConsumerTimeoutSeconds"]["AllowedValues"] = json!([30, 90]),
        "WorkQueue has no visibility timeout for 90 s and 0 s",
    ),
    (
        |t| resource(t, "ConsumerFunction")["Timeout"] = json!(400),
        "WorkQueue has no visibility timeout for 400 s and 0 s",
    ),
    (
        |t| resource(t, "WorkQueue")["VisibilityTimeout"] = json!(200),
        "WorkQueue hides for 200 s, less than 6 x 300 + 300",
    ),
    (
        |t| t["Parameters"]["BatchingWindowSeconds"]["Default"] = json!(2),
        "the default batching window of ConsumerFunction is not one of its values",
    ),
    (
        |t| resource(t, "DeadLetterQueue")["MessageRetentionPeriod"] = json!(345_600),
        "DeadLetterQueue keeps messages for less time than WorkQueue",
    ),
    (
        |t| {
            for queue in ["WorkQueue", "DeadLetterQueue"] {
                resource(t, queue).as_object_mut().unwrap().remove("MessageRetentionPeriod");
            }
        },
        "DeadLetterQueue does not keep messages for 14 days",
    ),
    (
        |t| t["Parameters"]["MaxReceiveCount"]["MinValue"] = json!(4),
        "WorkQueue may give a message up after 4 receives",
    ),
    (
        |t| t["Parameters"]["MaxReceiveCount"]["Default"] = json!(5),
        "WorkQueue gives a message up after 5 receives",
    ),
    (
        |t| t["Parameters"]["BatchSize"]["MaxValue"] = json!(120),
        "ConsumerFunction may hold 120 x 1000 messages in flight",
    ),
    (
        |t| {
            mapping(t).as_object_mut().unwrap().remove("ScalingConfig");
        },
        "ConsumerFunction may hold 100 x 18446744073709551615 messages in flight",
    ),
    (
        |t| resource(t, "ConsumerFunction")["ReservedConcurrentExecutions"] = json!(50),
        "ConsumerFunction has reserved concurrency",
    ),
    (
        |t| mapping(t)["FunctionResponseTypes"] = json!([]),
        "ConsumerFunction does not report single failures",
    ),
    (
        |t| {
            let queue = resource(t, "DeadLetterQueue").as_object_mut().unwrap();
            queue.remove("SqsManagedSseEnabled");
            queue.remove("KmsMasterKeyId");
        },
        "DeadLetterQueue is not encrypted with the defaults",
    ),
];

#[tokio::test]
async fn each_broken_ratio_is_found() {
    assert_each_is_found(&BREAKS, findings).await;
}
