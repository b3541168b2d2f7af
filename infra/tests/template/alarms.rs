//! That each alarm rings for what it is about, in time, and for nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ratios::{range, values, visibility};
use crate::template::{
    Break, Deployed, assert_each_is_found, deployments, list, processed, resource, target, text,
};

/// What is wrong with the alarms, one sentence each.
fn findings(template: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for deployed in deployments(template) {
        let mut add = |finding: String| {
            found.insert(finding);
        };
        rules(&deployed, &mut add);
        stuck_message(&deployed, &mut add);
        broken_canary(&deployed, &mut add);
        silence(&deployed, &mut add);
        polled(&deployed, &mut add);
        late(&deployed, &mut add);
        overdue_redrive(&deployed, &mut add);
        given_up(&deployed, &mut add);
    }
    found
}

/// Alarms with their names, as far as they look at this metric.
fn alarms<'d>(
    deployed: &'d Deployed,
    namespace: &'d str,
    metric: &'d str,
) -> impl Iterator<Item = (&'d str, &'d Value)> {
    let alarms = deployed.of_type("AWS::CloudWatch::Alarm");
    alarms
        .filter(move |(_, alarm)| alarm["Namespace"] == namespace && alarm["MetricName"] == metric)
}

fn alarm<'d>(deployed: &'d Deployed, name: &str) -> Option<&'d Value> {
    deployed.of_type("AWS::CloudWatch::Alarm").find(|(it, _)| *it == name).map(|(_, alarm)| alarm)
}

fn dimension<'a>(alarm: &'a Value, name: &str) -> Option<&'a str> {
    let dimension =
        list(&alarm["Dimensions"]).iter().find(|dimension| dimension["Name"] == name)?;
    target(&dimension["Value"])
}

/// EventBridge counts failures by rule. So a rule whose targets matter differently has an alarm that
/// does not know what it rings for, and a rule without an alarm fails unseen.
fn rules(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (rule, properties) in deployed.of_type("AWS::Events::Rule") {
        let mut watching = alarms(deployed, "AWS/Events", "FailedInvocations");
        if !watching.any(|(_, alarm)| dimension(alarm, "RuleName") == Some(rule)) {
            add(format!("nobody sees what {rule} could not deliver"));
        }
        let targets = list(&properties["Targets"]).iter();
        let kinds: BTreeSet<String> = targets
            .map(|target| match deployed.follow(&target["Arn"]) {
                Some((name, _)) => text(&deployed.template["Resources"][name]["Type"]),
                None => text(&target["Arn"]),
            })
            .collect();
        if kinds.len() > 1 {
            add(format!("the alarm about {rule} does not tell its targets apart"));
        }
    }
}

/// A message that fails whenever it is delivered fails once in each visibility timeout. The alarm has
/// to see that, before SQS gives the message up.
fn stuck_message(deployed: &Deployed, add: &mut impl FnMut(String)) {
    let Some(alarm) = alarm(deployed, "ConsumerFailuresAlarm") else {
        return add("there is no ConsumerFailuresAlarm".to_owned());
    };
    let (_, queue) = deployed.of_type("AWS::SQS::Queue").find(|it| it.0 == "WorkQueue").unwrap();
    let (_, mapping) = deployed.of_type("AWS::Lambda::EventSourceMapping").next().unwrap();
    let (_, function) =
        deployed.of_type("AWS::Lambda::Function").find(|it| it.0 == "ConsumerFunction").unwrap();
    let number = |name: &str| alarm[name].as_u64().unwrap();
    let failures = alarm["DatapointsToAlarm"].as_u64().unwrap_or(number("EvaluationPeriods"));
    for timeout in values(deployed, &function["Timeout"]) {
        for window in values(deployed, &mapping["MaximumBatchingWindowInSeconds"]) {
            let hidden =
                visibility(deployed, &queue["VisibilityTimeout"], timeout, window).unwrap();
            // Hidden, gathered into a batch, handled to the last second.
            let between = hidden + window + timeout;
            if (failures - 1) * between > (number("EvaluationPeriods") - 1) * number("Period") {
                add(format!("nobody sees a message that fails every {between} s"));
            }
        }
    }
    let receives = range(deployed, &queue["RedrivePolicy"]["maxReceiveCount"]).minimum;
    if failures >= receives {
        add(format!("a message is given up after {receives} failures, before anybody sees it"));
    }
}

/// `CodeDeploy` gives a new version a share of the messages at first. If it fails with all of these,
/// the alarm has to ring while it has no more, however few they are.
fn broken_canary(deployed: &Deployed, add: &mut impl FnMut(String)) {
    let Some(alarm) = alarm(deployed, "NewConsumerFailuresAlarm") else { return };
    let metrics = list(&alarm["Metrics"]);
    let of = |id: &str| metrics.iter().find(|metric| metric["Id"] == id);
    let name = |id: &str| of(id).map(|metric| text(&metric["MetricStat"]["Metric"]["MetricName"]));
    let is_share = metrics.iter().any(|it| it["Expression"] == "100 * failed / received")
        && name("failed").as_deref() == Some("Failed")
        && name("received").as_deref() == Some("Received");
    if !is_share {
        return add("NewConsumerFailuresAlarm counts messages, however few there are".to_owned());
    }
    let period = of("failed").unwrap()["MetricStat"]["Period"].as_u64().unwrap();
    let took = period * alarm["DatapointsToAlarm"].as_u64().unwrap();
    let threshold = alarm["Threshold"].as_u64().unwrap();
    let ways = &deployed.template["Parameters"]["GradualDeployment"]["AllowedValues"];
    for way in list(ways).iter().map(text) {
        // Such as Canary10Percent5Minutes.
        let Some((share, time)) = way.split_once("Percent") else { continue };
        let number = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let share: u64 = number(share).parse().unwrap();
        if share <= threshold {
            add(format!("NewConsumerFailuresAlarm does not see {share} % of failures"));
        }
        // Linear ways take a tenth more each time, which the alarm sees as well.
        let minutes: u64 = number(time).parse().unwrap();
        if way.starts_with("Canary") && took >= minutes * 60 {
            add(format!("{way} is over before NewConsumerFailuresAlarm rings"));
        }
    }
}

/// Alarms on a share of what was done: where nothing is done, there is none.
const SHARES: [&str; 1] = ["DeliveryToS3.Success"];

/// Where too little is the bad news, nothing at all is worse. Everywhere else, metrics that say
/// nothing when nothing happens must not ring.
pub(crate) fn silence(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, alarm) in deployed.of_type("AWS::CloudWatch::Alarm") {
        let waits = text(&alarm["ComparisonOperator"]).starts_with("LessThan")
            && !SHARES.contains(&text(&alarm["MetricName"]).as_str());
        let missing = text(&alarm["TreatMissingData"]);
        if missing != if waits { "breaching" } else { "notBreaching" } {
            add(format!("{name} takes silence for {missing}"));
        }
    }
}

fn polled(deployed: &Deployed, add: &mut impl FnMut(String)) {
    let (_, mapping) = deployed.of_type("AWS::Lambda::EventSourceMapping").next().unwrap();
    let counts = list(&mapping["MetricsConfig"]["Metrics"]).contains(&json!("EventCount"));
    if alarms(deployed, "AWS/Lambda", "PolledEventCount").next().is_some() && !counts {
        add("Lambda does not publish PolledEventCount".to_owned());
    }
}

/// Within the hour: how late something is, and how long the alarm takes to believe it.
const HOUR: u64 = 3600;

fn late(deployed: &Deployed, add: &mut impl FnMut(String)) {
    let number = |alarm: &Value, name: &str| alarm[name].as_u64();
    let Some(waits) = alarm(deployed, "WorkQueueAgeAlarm") else {
        return add("there is no WorkQueueAgeAlarm".to_owned());
    };
    let threshold = range(deployed, &waits["Threshold"]);
    let believed = number(waits, "Period").unwrap() * number(waits, "EvaluationPeriods").unwrap();
    if threshold.default + believed > HOUR {
        add("a message that nobody receives shows after more than an hour".to_owned());
    }
    // The copy of a deferred message is that old before anybody may receive it.
    let deferral = range(deployed, &json!({ "Ref": "DeferralCapSeconds" })).maximum;
    if threshold.minimum <= deferral {
        add("a deferred message rings WorkQueueAgeAlarm".to_owned());
    }

    let Some(starts) = alarm(deployed, "LateStartsAlarm") else {
        return add("there is no LateStartsAlarm".to_owned());
    };
    // Milliseconds.
    if text(&starts["Threshold"]["Fn::Sub"]) != "${LateAfterSeconds}000" {
        add("LateStartsAlarm does not ring after LateAfterSeconds".to_owned());
    }
    let period = number(starts, "Period").unwrap();
    let run = range(deployed, &json!({ "Ref": "RedriveTimeoutSeconds" })).maximum;
    if number(starts, "DatapointsToAlarm").unwrap() <= run.div_ceil(period) + 1 {
        add("a nightly redrive rings LateStartsAlarm".to_owned());
    }
}

/// How long before its deletion by SQS the redrive archives a letter that would stay
/// (`functions/redrive/src/expiry.rs`), in hours. A run that is late by as much is too late.
const EXPIRY_MARGIN: u64 = 72;

fn overdue_redrive(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (function, _) in deployed.of_type("AWS::Lambda::Function") {
        if !function.ends_with("RedriveFunction") {
            continue;
        }
        let mut nightly = alarms(deployed, "Sluice", "NightlyRun");
        let of_function = nightly.find(|(_, it)| dimension(it, "FunctionName") == Some(function));
        let Some((name, alarm)) = of_function else {
            add(format!("nobody sees that {function} does not run"));
            continue;
        };
        if alarm["Period"] != 3600 {
            add(format!("{name} does not count hours"));
        }
        let hours = range(deployed, &alarm["EvaluationPeriods"]);
        if hours.default <= 24 {
            add(format!("{name} rings between two daily runs"));
        }
        if hours.maximum < EXPIRY_MARGIN {
            add(format!("{name} rings between two runs of a rarer schedule"));
        }
        if hours.maximum > EXPIRY_MARGIN + 2 {
            add(format!("{name} may ring when SQS has deleted letters"));
        }
    }
}

/// What an alarm has to look at, of each function that is invoked asynchronously: that Lambda gave an
/// event up. And where Lambda keeps that event: not in the queue that the function itself empties.
fn given_up(deployed: &Deployed, add: &mut impl FnMut(String)) {
    let configs = || deployed.of_type("AWS::Lambda::EventInvokeConfig");
    for (name, function) in deployed.of_type("AWS::Lambda::Function") {
        if name == "ConsumerFunction" {
            continue;
        }
        let mut dropped = alarms(deployed, "AWS/Lambda", "AsyncEventsDropped");
        if !dropped.any(|(_, alarm)| dimension(alarm, "FunctionName") == Some(name)) {
            add(format!("nobody sees that Lambda gives events of {name} up"));
        }
        let config = configs().find(|(_, it)| target(&it["FunctionName"]) == Some(name));
        let on_failure = config.map(|(_, it)| &it["DestinationConfig"]["OnFailure"]["Destination"]);
        let Some(destination) = on_failure.and_then(target) else {
            add(format!("what Lambda gives up of {name} is gone"));
            continue;
        };
        let variables = &function["Environment"]["Variables"];
        let empties = name.ends_with("RedriveFunction")
            && target(&variables["DEAD_LETTER_QUEUE_URL"]) == Some(destination);
        if empties {
            add(format!("{name} empties the queue of its own failures"));
        }
        let role = deployed.follow(&function["Role"]).expect("a role").1;
        let policies = list(&role["Policies"]).iter();
        let mut granted = policies.flat_map(|it| list(&it["PolicyDocument"]["Statement"]));
        let may_write = |statement: &Value| {
            let actions: BTreeSet<String> = list(&statement["Action"]).iter().map(text).collect();
            let resources = list(&statement["Resource"]);
            if deployed.template["Resources"][destination]["Type"] == "AWS::S3::Bucket" {
                // Lambda refuses a role that may write less.
                let everywhere = format!("${{{destination}.Arn}}/*");
                actions.contains("s3:PutObject")
                    && resources.iter().any(|it| it["Fn::Sub"] == everywhere.as_str())
            } else {
                actions.contains("sqs:SendMessage")
                    && resources.iter().any(|it| target(it) == Some(destination))
            }
        };
        if !granted.any(may_write) {
            add(format!("Lambda may not keep what it gives up of {name}"));
        }
    }
}

/// The alarms about a redrive, and those about the redrive of ordered dead letters. One of the two
/// functions makes the ledger for both.
#[tokio::test]
async fn every_redrive_is_watched_alike() {
    let template = processed().await;
    let ordered = deployments(&template).into_iter().find(|it| it.parameters == "Ordered=true");
    let ordered = ordered.unwrap();
    let watched = |function: &str| -> BTreeSet<String> {
        let alarms = ordered.of_type("AWS::CloudWatch::Alarm").map(|(_, alarm)| alarm);
        let of_it = alarms.filter(|alarm| dimension(alarm, "FunctionName") == Some(function));
        of_it.map(|alarm| text(&alarm["MetricName"])).collect()
    };
    assert!(watched("RedriveFunction").len() > 4, "{:?}", watched("RedriveFunction"));
    let of_the_ledger = ["Missing", "NightlyLedger"].map(str::to_owned);
    let with_the_ledger: BTreeSet<String> =
        watched("OrderedRedriveFunction").into_iter().chain(of_the_ledger).collect();
    assert_eq!(with_the_ledger, watched("RedriveFunction"));
}

#[tokio::test]
async fn every_alarm_rings_for_what_it_is_about() {
    let found = findings(&processed().await);
    assert!(found.is_empty(), "{found:#?}");
}

const BREAKS: [Break; 22] = [
    (
        |t| {
            t["Resources"].as_object_mut().unwrap().remove("RedriveDroppedAlarm");
        },
        "nobody sees that Lambda gives events of RedriveFunction up",
    ),
    (
        |t| {
            let redrive = "OrderedRedriveFunctionEventInvokeConfig";
            t["Resources"].as_object_mut().unwrap().remove(redrive);
        },
        "what Lambda gives up of OrderedRedriveFunction is gone",
    ),
    (
        |t| {
            let config = &mut resource(t, "RedriveFunctionEventInvokeConfig")["DestinationConfig"];
            config["OnFailure"]["Destination"] = json!({"Fn::GetAtt": ["DeadLetterQueue", "Arn"]});
        },
        "RedriveFunction empties the queue of its own failures",
    ),
    (
        |t| {
            let policies = &mut resource(t, "RedriveRole")["Policies"];
            let narrowed = policies.to_string().replace("Bucket.Arn}/*", "Bucket.Arn}/elsewhere/*");
            *policies = serde_json::from_str(&narrowed).unwrap();
        },
        "Lambda may not keep what it gives up of RedriveFunction",
    ),
    (
        |t| resource(t, "NoRedriveAlarm")["TreatMissingData"] = json!("notBreaching"),
        "NoRedriveAlarm takes silence for notBreaching",
    ),
    (
        |t| resource(t, "DeferralsAlarm")["TreatMissingData"] = json!("breaching"),
        "DeferralsAlarm takes silence for breaching",
    ),
    (
        |t| {
            let mapping = resource(t, "ConsumerFunctionWorkQueue").as_object_mut().unwrap();
            mapping.remove("MetricsConfig");
        },
        "Lambda does not publish PolledEventCount",
    ),
    (
        |t| resource(t, "WorkQueueAgeAlarm")["Threshold"] = json!(60_480),
        "a message that nobody receives shows after more than an hour",
    ),
    (
        |t| t["Parameters"]["LateAfterSeconds"]["MinValue"] = json!(900),
        "a deferred message rings WorkQueueAgeAlarm",
    ),
    (
        |t| resource(t, "LateStartsAlarm")["Threshold"] = json!({ "Ref": "LateAfterSeconds" }),
        "LateStartsAlarm does not ring after LateAfterSeconds",
    ),
    (
        |t| resource(t, "LateStartsAlarm")["Period"] = json!(300),
        "a nightly redrive rings LateStartsAlarm",
    ),
    (
        |t| resource(t, "NoRedriveAlarm")["EvaluationPeriods"] = json!(26),
        "NoRedriveAlarm rings between two runs of a rarer schedule",
    ),
    (
        |t| t["Parameters"]["RedriveOverdueHours"]["MaxValue"] = json!(168),
        "NoOrderedRedriveAlarm may ring when SQS has deleted letters",
    ),
    (
        |t| {
            t["Resources"].as_object_mut().unwrap().remove("NoOrderedRedriveAlarm");
        },
        "nobody sees that OrderedRedriveFunction does not run",
    ),
    (
        |t| {
            let log = resource(t, "EventLogRule")["Targets"][0].take();
            resource(t, "ObjectCreatedRule")["Targets"].as_array_mut().unwrap().push(log);
        },
        "the alarm about ObjectCreatedRule does not tell its targets apart",
    ),
    (
        |t| {
            t["Resources"].as_object_mut().unwrap().remove("EventsNotLoggedAlarm");
        },
        "nobody sees what EventLogRule could not deliver",
    ),
    (
        |t| resource(t, "ConsumerFailuresAlarm")["EvaluationPeriods"] = json!(18),
        "nobody sees a message that fails every 2700 s",
    ),
    (
        |t| {
            let alarm = resource(t, "ConsumerFailuresAlarm").as_object_mut().unwrap();
            alarm.remove("DatapointsToAlarm");
            alarm["EvaluationPeriods"] = json!(3);
        },
        "nobody sees a message that fails every 840 s",
    ),
    (
        |t| resource(t, "ConsumerFailuresAlarm")["DatapointsToAlarm"] = json!(5),
        "a message is given up after 5 failures, before anybody sees it",
    ),
    (
        |t| {
            let share = &mut resource(t, "NewConsumerFailuresAlarm")["Metrics"][0];
            share["Expression"] = json!("failed");
        },
        "NewConsumerFailuresAlarm counts messages, however few there are",
    ),
    (
        |t| resource(t, "NewConsumerFailuresAlarm")["Threshold"] = json!(10),
        "NewConsumerFailuresAlarm does not see 10 % of failures",
    ),
    (
        |t| resource(t, "NewConsumerFailuresAlarm")["DatapointsToAlarm"] = json!(5),
        "Canary10Percent5Minutes is over before NewConsumerFailuresAlarm rings",
    ),
];

#[tokio::test]
async fn each_alarm_that_misses_its_matter_is_found() {
    assert_each_is_found(&BREAKS, findings).await;
}
