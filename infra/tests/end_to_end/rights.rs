//! Least privilege: each action that the template grants is needed. One after the other is denied,
//! and something must stop working, and work again afterwards.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sfn::types::ExecutionStatus;
use local::{Clients, Stack};
use serde_json::{Value, json};

use crate::harness::{
    deploy_beside, device_state, execution_arn, invoke, key_of, look_into, post, send,
};
use crate::proxy::{Fault, Proxy};

/// What is denied must not happen within this. (What is granted may take its time.)
const DENIED: Duration = Duration::from_secs(3);
const GRANTED: Duration = Duration::from_mins(2);
/// What the state machine takes at most to give up sending a letter, and some more.
const RETRIES: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(200);

/// Short times: a redrive that may not receive tries again until its time is up. The limit is one that
/// nothing here reaches.
const PARAMETERS: [&str; 4] = [
    "DeferralBaseSeconds=1",
    "RedriveTimeoutSeconds=60",
    "MaxRunningExecutions=1000",
    "MaximumConcurrency=2",
];

/// For so long two consumers share what they know of the executions that run.
const SHARED: Duration = Duration::from_secs(2);

/// What AWS does with these grants happens inside AWS: the emulator does not do it.
const NOT_OBSERVABLE: [(&str, &str, &str); 14] = [
    (
        "ConsumerRole",
        "s3:ListBucket",
        "makes a missing object a 404 and not a 403; here it always is",
    ),
    ("RedriveRole", "sqs:StartMessageMoveTask", "the emulator knows no move tasks"),
    ("RedriveRole", "sqs:ListMessageMoveTasks", "the emulator knows no move tasks"),
    ("RedriveRole", "sqs:CancelMessageMoveTask", "the emulator knows no move tasks"),
    ("DeviceStateMachineRole", "states:DescribeExecution", "how a Map Run watches its children"),
    ("DeviceStateMachineRole", "states:StopExecution", "how a Map Run stops its children"),
    ("DeviceStateMachineRole", "logs:CreateLogDelivery", "delivery of execution logs"),
    ("DeviceStateMachineRole", "logs:DeleteLogDelivery", "delivery of execution logs"),
    ("DeviceStateMachineRole", "logs:DescribeLogGroups", "delivery of execution logs"),
    ("DeviceStateMachineRole", "logs:DescribeResourcePolicies", "delivery of execution logs"),
    ("DeviceStateMachineRole", "logs:GetLogDelivery", "delivery of execution logs"),
    ("DeviceStateMachineRole", "logs:ListLogDeliveries", "delivery of execution logs"),
    ("DeviceStateMachineRole", "logs:PutResourcePolicy", "delivery of execution logs"),
    ("DeviceStateMachineRole", "logs:UpdateLogDelivery", "delivery of execution logs"),
];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    /// Logical id in the template.
    role: String,
    role_name: String,
    action: String,
    resource: String,
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the list is a result of its own")]
async fn every_granted_action_is_needed() {
    let (stack, proxy) = deploy_beside("sluice-rights", &PARAMETERS).await;
    let rights = Rights { clients: stack.clients(), stack, proxy };
    let grants = rights.grants().await;
    assert!(grants.len() > 30, "the roles were read: {grants:?}");
    for (role, action, _) in NOT_OBSERVABLE {
        let is_granted = grants.iter().any(|grant| grant.key() == (role, action));
        assert!(is_granted, "{action} of {role} is not granted any more");
    }

    let mut needless = Vec::new();
    for (number, grant) in grants.iter().enumerate() {
        if NOT_OBSERVABLE.iter().any(|(role, action, _)| (*role, *action) == grant.key()) {
            continue;
        }
        rights.deny(grant).await;
        if rights.works(grant, &format!("denied-{number}"), DENIED).await {
            needless.push(grant);
        }
        rights.grant_again(grant).await;
        let works = rights.works(grant, &format!("granted-{number}"), GRANTED).await;
        assert!(works, "nothing shows what this is for: {grant:?}");
        println!("needed: {} {} {}", grant.role, grant.action, grant.resource);
    }
    assert!(needless.is_empty(), "works without: {needless:#?}");
}

/// With its way to the dead-letter queue down, a failed execution still leaves a letter: a rule of
/// `EventBridge` makes it.
#[tokio::test]
async fn an_execution_that_may_not_send_its_letter_leaves_one_all_the_same() {
    let (stack, proxy) = deploy_beside("sluice-outage", &[]).await;
    let rights = Rights { clients: stack.clients(), stack, proxy };
    let grants = rights.grants().await;
    let key = ("DeviceStateMachineRole", "sqs:SendMessage");
    rights.deny(grants.iter().find(|grant| grant.key() == key).unwrap()).await;

    let event = rights.uploaded(&key_of("nameless"), "{}").await;
    let id = event_id(&event);
    // While the machine still tries, a letter about the execution has to wait.
    let running = async || rights.status(&id).await == Some(ExecutionStatus::Running);
    assert!(rights.becomes(GRANTED, running).await, "{:?}", rights.status(&id).await);
    let letter = json!({ "failedExecution": { "name": id, "error": "E" }, "event": event });
    rights.dead_letter(&letter.to_string()).await;
    let report = rights.redrive_now().await;
    assert_eq!((&report["running"], &report["redriven"]), (&json!(1), &json!(0)), "{report}");
    let purge = rights.clients.sqs.purge_queue();
    purge.queue_url(&rights.stack.outputs.dead_letter_queue_url).send().await.unwrap();

    let failed = async || rights.status(&id).await == Some(ExecutionStatus::Failed);
    assert!(rights.becomes(RETRIES, failed).await, "{:?}", rights.status(&id).await);
    let has_letter = async || rights.has_dead_letter(&id).await;
    assert!(rights.becomes(GRANTED, has_letter).await, "no letter about {id}");

    // It is one that the redrive understands: the event gets its next attempt.
    let report = rights.redrive_now().await;
    assert_eq!(report["redriven"], 1, "{report}");
    let next = format!("{id}-r1");
    let started = async || rights.status(&next).await.is_some();
    assert!(rights.becomes(GRANTED, started).await, "{next} was not started");
}

impl Grant {
    fn key(&self) -> (&str, &str) {
        (&self.role, &self.action)
    }
}

#[derive(Debug)]
struct Rights {
    stack: Stack,
    clients: Clients,
    proxy: Arc<Proxy>,
}

impl Rights {
    /// Every action on every resource in the policies of the stack's roles.
    async fn grants(&self) -> BTreeSet<Grant> {
        let mut grants = BTreeSet::new();
        for (role, role_name) in self.roles().await {
            let request = [("Action", "ListRolePolicies"), ("RoleName", role_name.as_str())];
            let listed = self.iam(&request).await;
            for policy in elements(&listed, "member") {
                let request = [
                    ("Action", "GetRolePolicy"),
                    ("RoleName", &role_name),
                    ("PolicyName", &policy),
                ];
                let answer = self.iam(&request).await;
                let document = elements(&answer, "PolicyDocument").remove(0);
                let document =
                    percent_encoding::percent_decode_str(&document).decode_utf8().unwrap();
                let document: Value = serde_json::from_str(&document).unwrap();
                for statement in document["Statement"].as_array().unwrap() {
                    assert_eq!(statement["Effect"], "Allow");
                    for action in texts(&statement["Action"]) {
                        for resource in texts(&statement["Resource"]) {
                            grants.insert(Grant {
                                role: role.clone(),
                                role_name: role_name.clone(),
                                action: action.clone(),
                                resource,
                            });
                        }
                    }
                }
            }
        }
        grants
    }

    /// Logical ids and names.
    async fn roles(&self) -> Vec<(String, String)> {
        let request = self.clients.cloudformation.describe_stack_resources();
        let answer = request.stack_name(&self.stack.name).send().await.unwrap();
        let roles = answer.stack_resources.unwrap_or_default().into_iter();
        roles
            .filter(|resource| resource.resource_type() == Some("AWS::IAM::Role"))
            .map(|role| (role.logical_resource_id.unwrap(), role.physical_resource_id.unwrap()))
            .collect()
    }

    async fn deny(&self, grant: &Grant) {
        let document = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Deny", "Action": grant.action, "Resource": grant.resource,
        }] });
        self.iam(&[
            ("Action", "PutRolePolicy"),
            ("RoleName", &grant.role_name),
            ("PolicyName", "TakenAway"),
            ("PolicyDocument", &document.to_string()),
        ])
        .await;
    }

    async fn grant_again(&self, grant: &Grant) {
        self.iam(&[
            ("Action", "DeleteRolePolicy"),
            ("RoleName", &grant.role_name),
            ("PolicyName", "TakenAway"),
        ])
        .await;
    }

    /// A call of IAM, whose SDK is not worth its build time here.
    async fn iam(&self, form: &[(&str, &str)]) -> String {
        let mut body = "Version=2010-05-08".to_owned();
        for (name, value) in form {
            let value =
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
            write!(body, "&{name}={value}").unwrap();
        }
        let (status, answer) =
            post(&self.stack.endpoint, "iam", "application/x-www-form-urlencoded", None, body)
                .await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Whether that for which the action is granted happens. `name` is new with each question.
    async fn works(&self, grant: &Grant, name: &str, patience: Duration) -> bool {
        let on_work_queue = grant.resource.ends_with("-work");
        if grant.role == "RedriveRole" {
            let dead_letters = &self.stack.outputs.dead_letter_queue_url;
            self.clients.sqs.purge_queue().queue_url(dead_letters).send().await.unwrap();
        }
        match grant.key() {
            (role, "logs:CreateLogStream" | "logs:PutLogEvents") => self.logs(role).await,

            ("ForwarderRole", "sqs:SendMessage") if on_work_queue => {
                let event = self.notification(&key_of(name));
                self.invoke(self.forwarder(), &event).await.is_ok()
            }
            // Too large for a message, so a dead letter at once.
            ("ForwarderRole", "sqs:SendMessage") => {
                let event = self.notification(&key_of(&name.repeat(200_000)));
                self.invoke(self.forwarder(), &event).await.is_ok()
            }

            ("ConsumerRole", "sqs:SendMessage") if on_work_queue => {
                let _throttled = self.proxy.inject("StartExecution", name, Fault::Throttled);
                self.put(&key_of(name), &device_state(name, &json!({}))).await;
                self.consume(name, &self.notification(&key_of(name)).to_string()).await
            }
            ("ConsumerRole", "sqs:SendMessage") => {
                self.consume(name, "neither JSON nor an event").await
            }
            ("ConsumerRole", "states:DescribeExecution") => self.spares_what_ran(name).await,
            ("ConsumerRole", "states:ListExecutions") => {
                tokio::time::sleep(SHARED).await;
                let id = self.upload(&key_of(name), &device_state(name, &json!({}))).await;
                self.becomes(patience, async || self.status(&id).await.is_some()).await
            }
            ("ConsumerRole", "s3:GetObject") => {
                self.put(&key_of(name), &device_state(name, &json!({}))).await;
                let event = self.notification(&key_of(name));
                self.consume(name, &event.to_string()).await;
                self.status(&event_id(&event)).await.is_some()
            }
            ("ConsumerRole", _) => {
                let id = self.upload(&key_of(name), &device_state(name, &json!({}))).await;
                self.becomes(patience, async || self.status(&id).await.is_some()).await
            }

            ("RedriveRole", "sqs:ReceiveMessage") => self.redrive(json!({})).await.is_ok(),
            ("RedriveRole", "sqs:DeleteMessage") => {
                self.give_up(name).await;
                self.redrive_now().await;
                !self.has_dead_letter(name).await
            }
            ("RedriveRole", "sqs:SendMessage") => {
                self.give_up(name).await;
                self.redrive_now().await["redriven"] != 0
            }
            ("RedriveRole", "sqs:ChangeMessageVisibility") => {
                self.give_up(name).await;
                self.redrive(json!({})).await.unwrap()["released"] != 0
            }
            // Only where a write has no execution yet, the ledger asks how full the queue is.
            ("RedriveRole", "sqs:GetQueueAttributes") if on_work_queue => {
                let _throttled = self.proxy.inject("StartExecution", name, Fault::Throttled);
                self.put(&key_of(name), &device_state(name, &json!({}))).await;
                self.reconcile(json!({})).await
            }
            ("RedriveRole", "s3:ListBucketVersions" | "states:ListExecutions") => {
                self.put(&key_of(name), &device_state(name, &json!({}))).await;
                self.reconcile(json!({})).await
            }
            ("RedriveRole", "s3:GetObject") if grant.resource.ends_with("/ledger/*") => {
                self.reconcile(json!({ "nightly": true })).await
            }
            ("RedriveRole", "sqs:GetQueueAttributes") => {
                !self.redrive(json!({})).await.unwrap()["left"].is_null()
            }
            ("RedriveRole", "states:DescribeExecution") => {
                self.give_up(name).await;
                let report = self.redrive(json!({ "before": "now", "canaryMessages": 1 })).await;
                report.unwrap()["canary"]["succeeded"] == 1
            }
            ("RedriveRole", "s3:PutObject") => {
                self.dead_letter(&format!("poison {name}")).await;
                self.redrive_now().await["archived"] != json!({})
            }
            ("RedriveRole", "s3:GetObject") => {
                let key = self.archive_one(name).await;
                let answer = self.redrive(json!({ "mode": "restore", "keys": [key] })).await;
                answer.unwrap()["restored"] == 1
            }
            ("RedriveRole", "s3:ListBucket") => {
                self.archive_one(name).await;
                let request = json!({ "mode": "restore", "prefix": "dead-letters/" });
                self.redrive(request).await.is_ok()
            }

            ("DeviceStateMachineRole", "dynamodb:PutItem") => {
                let id = self.upload(&key_of(name), &device_state(name, &json!({}))).await;
                self.succeeds(&id, patience).await
            }
            ("DeviceStateMachineRole", "sqs:SendMessage") => {
                self.upload(&key_of(name), "{}").await;
                self.becomes(patience, async || self.has_dead_letter(name).await).await
            }
            ("DeviceStateMachineRole", "s3:GetObject") => {
                let key = format!("devices/{name}/states.jsonl");
                self.put(&key, &device_state(name, &json!({}))).await;
                let event = self.notification(&key);
                self.invoke(self.forwarder(), &event).await.unwrap();
                self.succeeds(&event_id(&event), patience).await
            }
            ("DeviceStateMachineRole", "s3:GetObjectVersion" | "states:StartExecution") => {
                let key = format!("devices/{name}/states.jsonl");
                let id = self.upload(&key, &device_state(name, &json!({}))).await;
                self.succeeds(&id, patience).await
            }
            _ => panic!("say here what shows that this is needed: {grant:?}"),
        }
    }

    /// Whether an event that has its execution is not given up, although its object is gone.
    async fn spares_what_ran(&self, name: &str) -> bool {
        let event = self.notification(&key_of(name));
        let machine = &self.stack.outputs.state_machine_arn;
        let start = self.clients.sfn.start_execution().state_machine_arn(machine);
        start.name(event_id(&event)).input("{}").send().await.unwrap();
        self.consume(name, &event.to_string()).await;
        !self.has_dead_letter(name).await
    }

    fn forwarder(&self) -> &str {
        self.stack.outputs.forwarder_function_name.as_deref().unwrap()
    }

    async fn becomes(&self, patience: Duration, ask: impl AsyncFn() -> bool) -> bool {
        let since = std::time::Instant::now();
        while !ask().await {
            if since.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    async fn succeeds(&self, id: &str, patience: Duration) -> bool {
        let succeeded = || async { self.status(id).await == Some(ExecutionStatus::Succeeded) };
        self.becomes(patience, succeeded).await
    }

    async fn status(&self, name: &str) -> Option<ExecutionStatus> {
        let arn = execution_arn(&self.stack, name);
        let described = self.clients.sfn.describe_execution().execution_arn(arn).send().await;
        described.ok().map(|execution| execution.status)
    }

    /// Uploads, which the bucket's notification then passes on. Returns the id of the event.
    async fn upload(&self, key: &str, body: &str) -> String {
        event_id(&self.uploaded(key, body).await)
    }

    /// Uploads, and returns the notification.
    async fn uploaded(&self, key: &str, body: &str) -> Value {
        let version = self.put(key, body).await;
        let mut event = self.notification(key);
        event["Records"][0]["s3"]["object"]["versionId"] = version.into();
        event
    }

    async fn put(&self, key: &str, body: &str) -> String {
        let bucket = &self.stack.outputs.upload_bucket_name;
        let body = body.as_bytes().to_vec().into();
        let put = self.clients.s3.put_object().bucket(bucket).key(key).body(body).send().await;
        put.unwrap().version_id.unwrap()
    }

    /// A notification that knows no version, as of a bucket without versions: another event than
    /// that of the upload.
    fn notification(&self, key: &str) -> Value {
        json!({ "Records": [{
            "eventVersion": "2.3",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": jiff::Timestamp::now().to_string(),
            "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": { "name": self.stack.outputs.upload_bucket_name },
                "object": { "key": key, "sequencer": "0055AED6DCD90281E5" },
            },
        }] })
    }

    /// Hands one message to the consumer. Whether it acknowledged it.
    async fn consume(&self, message_id: &str, body: &str) -> bool {
        let event = json!({ "Records": [{
            "messageId": message_id,
            "receiptHandle": message_id,
            "body": body,
            "attributes": { "ApproximateReceiveCount": "1", "SentTimestamp": "1795208400000" },
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:work",
            "awsRegion": "us-east-1",
        }] });
        let function = &self.stack.outputs.consumer_function_name;
        let answer = self.invoke(function, &event).await.unwrap();
        answer["batchItemFailures"] == json!([])
    }

    async fn invoke(&self, function: &str, event: &Value) -> Result<Value, Value> {
        invoke(&self.clients, function, event).await
    }

    async fn redrive(&self, request: Value) -> Result<Value, Value> {
        self.invoke(&self.stack.outputs.redrive_function_name, &request).await
    }

    /// Whether a ledger of all that was written until now is made.
    async fn reconcile(&self, mut request: Value) -> bool {
        request["mode"] = json!("reconcile");
        request["until"] = json!(jiff::Timestamp::now());
        self.redrive(request).await.is_ok_and(|ledger| ledger["complete"] == true)
    }

    async fn redrive_now(&self) -> Value {
        self.redrive(json!({ "before": "now", "canaryMessages": 0 })).await.unwrap()
    }

    /// Puts the event of a device into the dead-letter queue.
    async fn give_up(&self, name: &str) {
        self.put(&key_of(name), &device_state(name, &json!({}))).await;
        self.dead_letter(&self.notification(&key_of(name)).to_string()).await;
    }

    /// Has a dead letter archived that no redrive can help, and returns its key.
    async fn archive_one(&self, name: &str) -> String {
        self.dead_letter(&format!("poison {name}")).await;
        self.redrive_now().await;
        let bucket = &self.stack.outputs.archive_bucket_name;
        let listed = self.clients.s3.list_objects_v2().bucket(bucket).send().await.unwrap();
        for object in listed.contents.unwrap_or_default() {
            let key = object.key.unwrap();
            let got = self.clients.s3.get_object().bucket(bucket).key(&key).send().await.unwrap();
            let bytes = got.body.collect().await.unwrap().into_bytes();
            if String::from_utf8_lossy(&bytes).contains(name) {
                return key;
            }
        }
        panic!("{name} was not archived");
    }

    async fn dead_letter(&self, body: &str) {
        send(&self.clients, &self.stack.outputs.dead_letter_queue_url, body).await;
    }

    async fn has_dead_letter(&self, name: &str) -> bool {
        let letters =
            look_into(&self.stack.endpoint, &self.stack.outputs.dead_letter_queue_url).await;
        letters.iter().any(|letter| letter["Body"].as_str().unwrap_or_default().contains(name))
    }

    /// Whether an invocation of the role's function leaves a log.
    async fn logs(&self, role: &str) -> bool {
        let (function, event) = match role {
            "ForwarderRole" => (self.forwarder(), self.notification("logged")),
            "ConsumerRole" => {
                (self.stack.outputs.consumer_function_name.as_str(), json!({ "Records": [] }))
            }
            "RedriveRole" => {
                (self.stack.outputs.redrive_function_name.as_str(), json!({ "dryRun": true }))
            }
            _ => panic!("{role} logs nothing"),
        };
        let before = self.log_streams(role).await;
        self.invoke(function, &event).await.unwrap();
        self.log_streams(role).await > before
    }

    async fn log_streams(&self, role: &str) -> usize {
        let function = role.trim_end_matches("Role").to_lowercase();
        let group = format!("/aws/lambda/{}-{function}", self.stack.name);
        let request = json!({ "logGroupName": group, "limit": 50 }).to_string();
        let target = Some("Logs_20140328.DescribeLogStreams");
        let (status, answer) =
            post(&self.stack.endpoint, "logs", "application/x-amz-json-1.1", target, request).await;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["logStreams"].as_array().unwrap().len()
    }
}

fn event_id(notification: &Value) -> String {
    let events = messages::decode(&notification.to_string());
    events.into_iter().next().unwrap().unwrap().id.to_string()
}

/// A JSON text, or an array of them.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts.iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        other => panic!("{other}"),
    }
}

/// What stands between the tags of this name.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = xml.split(open.as_str()).skip(1);
    rest.filter_map(|rest| rest.split_once(close.as_str()))
        .map(|(text, _)| text.to_owned())
        .collect()
}
