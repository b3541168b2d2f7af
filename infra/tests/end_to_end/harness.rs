//! What the tests say: upload, deliver, expect. One stack for all of them, one prefix for each.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_cloudformation::types::Capability;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use aws_sdk_sfn::types::ExecutionStatus;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use local::{
    Build, Clients, Companion, Emulator, EmulatorOptions, Project, Reach, RunFolder, Stack, Tools,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell, Semaphore};
use tokio::time::sleep;

use crate::proxy::Proxy;

/// The most that a test waits for anything: far more than it ever takes, so that only a thing that
/// never happens meets it.
pub(crate) const CEILING: Duration = Duration::from_mins(5);

const POLL: Duration = Duration::from_millis(200);

/// The stack that all tests share. It ends with this process: the emulator sees its standard input
/// close.
#[derive(Debug)]
struct Shared {
    stack: Stack,
    proxy: Arc<Proxy>,
    project: Project,
    emulator: Arc<Emulator>,
    /// Held by the one test that redrives.
    redrive: Mutex<()>,
    run: Arc<RunFolder>,
}

/// If this variable is set, the stacks that tests share have had all companions, which were deleted
/// before the first test.
const AFTER_COMPANIONS: &str = "AFTER_COMPANIONS";

/// A bucket without notifications, so that a test delivers the events itself.
const QUIET_BUCKET: &str = "end-to-end-quiet";

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Result<Shared, String>> = OnceCell::const_new();
    started(&SHARED, "tests").await
}

/// The same in an emulator of its own: its dead-letter queue holds what the tests of the redrive put
/// there and nothing else, and no other test waits for its tens of thousands of letters.
async fn apart() -> &'static Shared {
    static APART: OnceCell<Result<Shared, String>> = OnceCell::const_new();
    started(&APART, "redrive-tests").await
}

async fn started(
    cell: &'static OnceCell<Result<Shared, String>>,
    run: &'static str,
) -> &'static Shared {
    match cell.get_or_init(async || start(run).await.map_err(|error| error.to_string())).await {
        Ok(shared) => shared,
        Err(error) => panic!("the stack did not start: {error}"),
    }
}

/// What all stacks are made of.
async fn built() -> Result<&'static (Project, Tools, Build), local::Error> {
    static BUILT: OnceCell<(Project, Tools, Build)> = OnceCell::const_new();
    BUILT
        .get_or_try_init(async || {
            let project = Project::find()?;
            let tools = Tools::install(&project).await?;
            let build = local::build(&project, &tools).await?;
            Ok((project, tools, build))
        })
        .await
}

/// Clients for what is in the emulator beside the stacks.
pub(crate) async fn clients() -> Clients {
    shared().await.stack.clients()
}

/// A further stack beside the shared one, with parameters of its own.
async fn start_beside(
    shared: &Shared,
    name: &str,
    parameters: &[&str],
) -> Result<Shared, local::Error> {
    let (project, tools, build) = built().await?;
    let stack =
        local::deploy(project, tools, &shared.run, build, &shared.emulator, name, parameters)
            .await?;
    Ok(Shared {
        stack,
        proxy: Arc::clone(&shared.proxy),
        project: project.clone(),
        emulator: Arc::clone(&shared.emulator),
        redrive: Mutex::default(),
        run: Arc::clone(&shared.run),
    })
}

/// The same as a bare stack, with the proxy of its functions.
pub(crate) async fn deploy_beside(name: &str, parameters: &[&str]) -> (Stack, Arc<Proxy>) {
    match start_beside(shared().await, name, parameters).await {
        Ok(beside) => (beside.stack, beside.proxy),
        Err(error) => panic!("{name} was not deployed: {error}"),
    }
}

/// Deploys a template of the user's own. Returns its output.
async fn create_stack(name: &str, template: &Value) -> String {
    let cloudformation = clients().await.cloudformation;
    let create =
        cloudformation.create_stack().stack_name(name).capabilities(Capability::CapabilityIam);
    create.template_body(template.to_string()).send().await.unwrap();
    eventually(&format!("{name} is created"), async || {
        let described = cloudformation.describe_stacks().stack_name(name).send().await.unwrap();
        let stack = described.stacks.unwrap_or_default().remove(0);
        match stack.outputs() {
            [output] => Ok(output.output_value.clone().unwrap()),
            _ => Err(format!("{:?}: {:?}", stack.stack_status, stack.stack_status_reason)),
        }
    })
    .await
}

/// Deploys a state machine of somebody else. Returns its ARN.
pub(crate) async fn create_state_machine(name: &str, kind: &str, definition: &Value) -> String {
    let template = json!({
        "Resources": {
            "Role": { "Type": "AWS::IAM::Role", "Properties": {
                "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow",
                    "Principal": { "Service": "states.amazonaws.com" },
                    "Action": "sts:AssumeRole",
                }] },
            } },
            "Machine": { "Type": "AWS::StepFunctions::StateMachine", "Properties": {
                "StateMachineType": kind,
                "RoleArn": { "Fn::GetAtt": ["Role", "Arn"] },
                "DefinitionString": definition.to_string(),
            } },
        },
        "Outputs": { "Arn": { "Value": { "Ref": "Machine" } } },
    });
    create_stack(name, &template).await
}

/// Deploys a queue that hears all that a topic says, in an envelope of SNS or raw. Returns its URL.
pub(crate) async fn subscribe_queue(name: &str, topic: &str, is_raw: bool) -> String {
    let template = json!({
        "Resources": {
            "Queue": { "Type": "AWS::SQS::Queue" },
            "Policy": { "Type": "AWS::SQS::QueuePolicy", "Properties": {
                "Queues": [{ "Ref": "Queue" }],
                "PolicyDocument": { "Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow",
                    "Principal": { "Service": "sns.amazonaws.com" },
                    "Action": "sqs:SendMessage",
                    "Resource": { "Fn::GetAtt": ["Queue", "Arn"] },
                    "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
                }] },
            } },
            "Subscription": { "Type": "AWS::SNS::Subscription", "DependsOn": "Policy", "Properties": {
                "TopicArn": topic, "Protocol": "sqs", "RawMessageDelivery": is_raw,
                "Endpoint": { "Fn::GetAtt": ["Queue", "Arn"] },
            } },
        },
        "Outputs": { "QueueUrl": { "Value": { "Ref": "Queue" } } },
    });
    create_stack(name, &template).await
}

async fn start(run: &str) -> Result<Shared, local::Error> {
    let (project, tools, build) = built().await?;
    let run = RunFolder::take(project, run)?;
    let proxy = Proxy::start();
    let options = EmulatorOptions { port: None, functions_endpoint: Some(proxy.endpoint()) };
    let emulator = Emulator::start(project, tools, &run, &options).await?;
    proxy.forward_to(&emulator.endpoint());
    let time_zone = format!("TimeZone={}", zone_where_it_is_midday());
    // Short times, so that what has to come back after one comes back soon.
    let mut parameters = vec![
        time_zone.as_str(),
        "ConsumerTimeoutSeconds=10",
        "RedriveTimeoutSeconds=60",
        "DeferralBaseSeconds=1",
    ];
    let companions: &[Companion] =
        if std::env::var_os(AFTER_COMPANIONS).is_some() { &Companion::ALL } else { &[] };
    parameters.extend(companions.iter().flat_map(|it| it.parameters_of_main()));
    let stack =
        local::deploy(project, tools, &run, build, &emulator, "sluice-test", &parameters).await?;
    for companion in companions {
        local::deploy_beside(project, tools, &run, &emulator, &stack, *companion).await?;
    }
    for companion in companions {
        remove_beside(&stack, *companion).await;
    }

    let s3 = stack.clients().s3;
    s3.create_bucket().bucket(QUIET_BUCKET).send().await.unwrap();
    let versioned =
        VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    s3.put_bucket_versioning()
        .bucket(QUIET_BUCKET)
        .versioning_configuration(versioned)
        .send()
        .await
        .unwrap();
    // The roles of the template name the template's bucket only.
    let clients = stack.clients();
    let consumer = &stack.outputs.consumer_function_name;
    let consumer = clients.lambda.get_function_configuration().function_name(consumer).send();
    let machine = &stack.outputs.state_machine_arn;
    let machine = clients.sfn.describe_state_machine().state_machine_arn(machine).send();
    let readers = [consumer.await.unwrap().role.unwrap(), machine.await.unwrap().role_arn];
    let bucket = format!("arn:aws:s3:::{QUIET_BUCKET}");
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": readers },
        "Action": ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"],
        "Resource": [bucket, format!("{bucket}/*")],
    }] });
    s3.put_bucket_policy().bucket(QUIET_BUCKET).policy(policy.to_string()).send().await.unwrap();
    Ok(Shared {
        stack,
        proxy: Arc::new(proxy),
        project: project.clone(),
        emulator: Arc::new(emulator),
        redrive: Mutex::default(),
        run: Arc::new(run),
    })
}

async fn remove_beside(stack: &Stack, companion: Companion) {
    let cloudformation = stack.clients().cloudformation;
    let name = format!("{}-{companion}", stack.name);
    cloudformation.delete_stack().stack_name(&name).send().await.unwrap();
    eventually(
        &format!("{name} is gone (log of the emulator: {})", stack.log.display()),
        async || match cloudformation.describe_stacks().stack_name(&name).send().await {
            Ok(described) => Err(format!("{described:?}")),
            Err(_) => Ok(()),
        },
    )
    .await;
}

/// A time zone whose midnight is hours away, so that no test meets the start of a day.
fn zone_where_it_is_midday() -> String {
    let now = std::time::SystemTime::now();
    let seconds = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let hour = i64::try_from(seconds / 3600 % 24).unwrap();
    // POSIX counts these zones westward: Etc/GMT+3 is three hours behind UTC.
    format!("Etc/GMT{:+}", hour - 12)
}

impl Shared {
    /// The emulator's log, in which the lines of the functions are.
    fn log_of(&self, text: &str) -> Vec<LogLine> {
        let log = std::fs::read_to_string(&self.stack.log).unwrap_or_default();
        let of_functions = log.lines().filter(|line| line.starts_with('{') && line.contains(text));
        let lines = of_functions.map(|line| LogLine {
            text: line.to_owned(),
            json: serde_json::from_str(line).unwrap_or_default(),
        });
        // Metrics are lines as well, and name no object.
        lines.filter(|line| line.json.get("_aws").is_none()).collect()
    }
}

/// A line that a function wrote.
#[derive(Debug)]
pub(crate) struct LogLine {
    text: String,
    json: Value,
}

impl LogLine {
    /// The outcome, in the lines that tell one.
    pub(crate) fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }
}

/// A test that fails tells its story: what all functions wrote about its objects, and what is still
/// queued.
impl Drop for Sluice {
    #[expect(clippy::print_stdout, reason = "what a failed test has to go by")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let (shared, prefix) = (self.shared, self.prefix);
        // The runtime of the test is unwinding, so this needs one of its own.
        let story = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(story(shared, prefix))
        });
        println!("{}", story.join().unwrap_or_else(|_| "the story cannot be told".to_owned()));
    }
}

async fn story(shared: &Shared, prefix: &str) -> String {
    /// The last of them, since a burst writes thousands.
    const MOST: usize = 300;
    let lines = shared.log_of(prefix);
    let left_out = lines.len().saturating_sub(MOST);
    let mut story = format!("the story of {prefix} ({left_out} earlier lines left out):\n");
    for line in lines.iter().skip(left_out) {
        writeln!(story, "  {}", line.text).unwrap();
    }
    let outputs = &shared.stack.outputs;
    let queues =
        [("work queue", &outputs.work_queue_url), ("dead letters", &outputs.dead_letter_queue_url)];
    for (name, url) in queues {
        let messages = look_into(&shared.emulator.endpoint(), url).await;
        for message in messages {
            let text = message.to_string();
            if text.contains(prefix) {
                writeln!(story, "  {name}: {text}").unwrap();
            }
        }
    }
    story
}

/// One test's view of the stack.
#[derive(Debug)]
pub(crate) struct Sluice {
    /// In the key, the device and thereby in each message of this test and no other.
    pub(crate) prefix: &'static str,
    clients: Clients,
    shared: &'static Shared,
}

/// One version of an object, and what names its event.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) event_id: String,
    notification: Value,
}

/// How an execution ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: ExecutionStatus,
    pub(crate) outcome: String,
}

#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) message_id: String,
    pub(crate) body: String,
    pub(crate) error_class: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) redrives: Option<String>,
}

impl Sluice {
    pub(crate) async fn for_test(prefix: &'static str) -> Self {
        Self::on(shared().await, prefix)
    }

    /// On a stack of its own, with these parameters beside a short time-out. The prefix names the
    /// stack.
    pub(crate) async fn deployed_with(prefix: &'static str, parameters: &[&str]) -> Self {
        /// `sam deploy` works the processor for seconds.
        static DEPLOYMENTS: Semaphore = Semaphore::const_new(2);
        let shared = shared().await;
        let permit = DEPLOYMENTS.acquire().await.unwrap();
        let time_zone = format!("TimeZone={}", zone_where_it_is_midday());
        let mut all =
            vec![time_zone.as_str(), "ConsumerTimeoutSeconds=10", "RedriveTimeoutSeconds=60"];
        all.extend_from_slice(parameters);
        let started = start_beside(shared, prefix, &all).await;
        drop(permit);
        // As long as the shared one: until the process ends.
        Self::on(Box::leak(Box::new(started.unwrap_or_else(|error| panic!("{error}")))), prefix)
    }

    /// On the stack that the companions join.
    pub(crate) async fn joined(prefix: &'static str) -> Self {
        static JOINED: OnceCell<Shared> = OnceCell::const_new();
        let joined = JOINED
            .get_or_init(async || {
                let time_zone = format!("TimeZone={}", zone_where_it_is_midday());
                let mut all = vec![time_zone.as_str(), "ConsumerTimeoutSeconds=10"];
                all.extend(Companion::ALL.iter().flat_map(|it| it.parameters_of_main()));
                let started = start_beside(shared().await, "joined", &all).await;
                started.unwrap_or_else(|error| panic!("{error}"))
            })
            .await;
        Self::on(joined, prefix)
    }

    /// Deploys a companion beside the stack. Returns its outputs.
    pub(crate) async fn deploy_beside(&self, companion: Companion) -> HashMap<String, String> {
        let (project, tools, _) = built().await.unwrap();
        let Shared { run, emulator, stack, .. } = self.shared;
        let deployed = local::deploy_beside(project, tools, run, emulator, stack, companion).await;
        deployed.unwrap_or_else(|error| panic!("{companion} was not deployed: {error}"))
    }

    /// Deletes the stack of a companion.
    pub(crate) async fn remove_beside(&self, companion: Companion) {
        remove_beside(&self.shared.stack, companion).await;
    }

    /// Runs a command as it is pasted, in a shell where `aws` and `cargo sluice` reach this stack.
    pub(crate) async fn paste(&self, command: &str) -> Result<(), local::Error> {
        let (project, tools, _) = built().await?;
        let Shared { run, stack, .. } = self.shared;
        let aws = Tools::install_aws(project).await?;
        Reach::prepare(run, stack, &aws)?.paste(project, tools, run, command).await
    }

    /// Tells `EventBridge` of a call, as `CloudTrail` does.
    pub(crate) async fn tell_of(&self, call: &Value) {
        let source = call["eventSource"].as_str().unwrap().replace(".amazonaws.com", "");
        let entry = json!({
            "Source": format!("aws.{source}"),
            "DetailType": "AWS API Call via CloudTrail",
            "Detail": call.to_string(),
        });
        let answer = self.events("PutEvents", &json!({ "Entries": [entry] })).await;
        assert_eq!(answer["FailedEntryCount"], 0, "{answer}");
    }

    /// A call of a service that speaks JSON and whose SDK the tests do without.
    pub(crate) async fn post(&self, service: &str, target: &str, request: &Value) -> Value {
        let content_type = "application/x-amz-json-1.1";
        let endpoint = &self.shared.stack.endpoint;
        let (status, answer) =
            post(endpoint, service, content_type, Some(target), request.to_string()).await;
        assert_eq!(status, 200, "{target}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// On the stack for tests of the redrive.
    pub(crate) async fn apart(prefix: &'static str) -> Self {
        Self::on(apart().await, prefix)
    }

    fn on(shared: &'static Shared, prefix: &'static str) -> Self {
        static TAKEN: std::sync::Mutex<Vec<&str>> = std::sync::Mutex::new(Vec::new());
        {
            let mut taken = TAKEN.lock().unwrap();
            let clash =
                taken.iter().find(|other| other.contains(prefix) || prefix.contains(**other));
            assert!(clash.is_none(), "{prefix} and {clash:?} cannot be told apart");
            taken.push(prefix);
        }
        // Connections belong to the runtime of the test.
        Self { prefix, clients: shared.stack.clients(), shared }
    }

    pub(crate) fn stack(&self) -> &Stack {
        &self.shared.stack
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        &self.shared.proxy
    }

    /// AWS calls of the functions about this test so far, those with a fault included.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.calls_with(operation, "")
    }

    /// Of these calls, those with `text` in them.
    pub(crate) fn calls_with(&self, operation: &str, text: &str) -> usize {
        self.shared.proxy.calls(operation, &[self.prefix, text]).len()
    }

    /// Names under which executions of this test were started, or tried to.
    pub(crate) fn names_tried(&self) -> HashSet<String> {
        self.names_tried_in_order(self.prefix).into_iter().collect()
    }

    /// The names in the calls to start an execution with `text` in them, in the order of the calls.
    pub(crate) fn names_tried_in_order(&self, text: &str) -> Vec<String> {
        let calls = self.shared.proxy.calls("StartExecution", &[text]);
        calls
            .iter()
            .map(|call| {
                let (_path, body) = call.split_once(' ').unwrap();
                let request: Value = serde_json::from_str(body).unwrap();
                request["name"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// A device of this test.
    pub(crate) fn device(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Uploads to the bucket that the template made: the event takes its real way.
    pub(crate) async fn upload(&self, key: &str, body: &str) -> Write {
        let bucket = &self.shared.stack.outputs.upload_bucket_name;
        self.put(bucket, key, body, "0").await
    }

    /// Uploads the state of a device under its usual key.
    pub(crate) async fn upload_state(&self, device: &str, state: &Value) -> Write {
        self.upload(&key_of(device), &device_state(device, state)).await
    }

    /// Stores an object of which no event goes out by itself; see [`Self::deliver`].
    pub(crate) async fn store(&self, device: &str, state: &Value, sequencer: &str) -> Write {
        self.store_file(&key_of(device), &device_state(device, state), sequencer).await
    }

    pub(crate) async fn store_file(&self, key: &str, body: &str, sequencer: &str) -> Write {
        self.put(QUIET_BUCKET, key, body, sequencer).await
    }

    async fn put(&self, bucket: &str, key: &str, body: &str, sequencer: &str) -> Write {
        let body = body.as_bytes().to_vec();
        let size = body.len();
        let answer = self
            .clients
            .s3
            .put_object()
            .bucket(bucket)
            .key(key)
            .body(body.into())
            .send()
            .await
            .unwrap_or_else(|error| panic!("upload of {key}: {error:?}"));
        let version_id = answer.version_id().expect("the buckets are versioned");
        let e_tag = answer.e_tag().unwrap_or_default();
        self.write(bucket, key, version_id, e_tag, size, sequencer)
    }

    /// The write of an object that is in the bucket already, whoever has uploaded it.
    pub(crate) async fn found(&self, key: &str) -> Write {
        let bucket = &self.shared.stack.outputs.upload_bucket_name;
        let head = self.clients.s3.head_object().bucket(bucket).key(key).send().await.unwrap();
        let version_id = head.version_id().expect("the bucket is versioned");
        let size = usize::try_from(head.content_length().unwrap()).unwrap();
        self.write(bucket, key, version_id, head.e_tag().unwrap_or_default(), size, "0")
    }

    /// The write of this object, with the sample event about it.
    fn write(
        &self,
        bucket: &str,
        key: &str,
        version_id: &str,
        e_tag: &str,
        size: usize,
        sequencer: &str,
    ) -> Write {
        let mut event = self.sample_event("s3-object-created-versioned.json");
        event["Records"][0]["eventTime"] = jiff::Timestamp::now().to_string().into();
        let s3 = &mut event["Records"][0]["s3"];
        s3["bucket"]["name"] = bucket.into();
        s3["bucket"]["arn"] = format!("arn:aws:s3:::{bucket}").into();
        s3["object"] = json!({
            "key": form_encoded(key),
            "size": size,
            "eTag": e_tag.trim_matches('"'),
            "versionId": version_id,
            "sequencer": sequencer,
        });
        let id = messages::decode(&event.to_string()).remove(0).unwrap().id;
        Write { key: key.to_owned(), event_id: id.to_string(), notification: event }
    }

    pub(crate) fn sample_event(&self, name: &str) -> Value {
        let path: PathBuf = self.shared.project.root.join("events").join(name);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// Hands the event to the forwarder as S3 does, and waits for its answer.
    pub(crate) async fn deliver(&self, write: &Write) {
        self.forward(&write.notification).await;
    }

    /// Hands an event in any envelope to the forwarder.
    pub(crate) async fn forward(&self, event: &Value) {
        let function = self.shared.stack.outputs.forwarder_function_name.as_deref();
        self.invoke(function.expect("a forwarder"), event).await.expect("the forwarder succeeds");
    }

    /// Takes the stored object away, this version of it for good.
    pub(crate) async fn remove(&self, write: &Write) {
        let version = &write.notification["Records"][0]["s3"]["object"]["versionId"];
        self.clients
            .s3
            .delete_object()
            .bucket(QUIET_BUCKET)
            .key(&write.key)
            .version_id(version.as_str().unwrap())
            .send()
            .await
            .unwrap();
    }

    /// Puts the event on the work queue as S3 does without a forwarder.
    pub(crate) async fn enqueue(&self, write: &Write) {
        let queue = &self.shared.stack.outputs.work_queue_url;
        self.send(queue, &write.notification.to_string()).await;
    }

    /// Puts messages on the work queue in one batch call, so that one consumer is likely to get
    /// them together.
    pub(crate) async fn enqueue_together(&self, bodies: &[String]) {
        use aws_sdk_sqs::types::SendMessageBatchRequestEntry as Entry;
        let entry = |(number, body): (usize, &String)| {
            Entry::builder().id(number.to_string()).message_body(body).build().unwrap()
        };
        let answer = self
            .clients
            .sqs
            .send_message_batch()
            .queue_url(&self.shared.stack.outputs.work_queue_url)
            .set_entries(Some(bodies.iter().enumerate().map(entry).collect()))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.successful().len(), bodies.len());
    }

    /// Puts the event in the dead-letter queue, as a message that SQS gave up on.
    pub(crate) async fn give_up(&self, write: &Write) {
        let queue = &self.shared.stack.outputs.dead_letter_queue_url;
        self.send(queue, &write.notification.to_string()).await;
    }

    async fn send(&self, queue_url: &str, body: &str) {
        send(&self.clients, queue_url, body).await;
    }

    /// Puts messages in the dead-letter queue, with the attributes that Sluice gives them. Returns
    /// their message ids.
    pub(crate) async fn give_up_with(
        &self,
        bodies: &[String],
        attributes: &[(&str, &str, &str)],
    ) -> HashSet<String> {
        use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry as Entry};
        let attribute = |data_type: &str, value: &str| {
            let attribute = MessageAttributeValue::builder().data_type(data_type);
            attribute.string_value(value).build().unwrap()
        };
        let mut ids = HashSet::new();
        for ten in bodies.chunks(10) {
            let entry = |(number, body): (usize, &String)| {
                let mut entry = Entry::builder().id(number.to_string()).message_body(body);
                for (name, data_type, value) in attributes {
                    entry = entry.message_attributes(*name, attribute(data_type, value));
                }
                entry.build().unwrap()
            };
            let answer = self
                .clients
                .sqs
                .send_message_batch()
                .queue_url(&self.shared.stack.outputs.dead_letter_queue_url)
                .set_entries(Some(ten.iter().enumerate().map(entry).collect()))
                .send()
                .await
                .unwrap();
            ids.extend(answer.successful.into_iter().map(|entry| entry.message_id));
        }
        assert_eq!(ids.len(), bodies.len());
        ids
    }

    /// The documents of this test in the archive.
    pub(crate) async fn archived(&self) -> Vec<Value> {
        let bucket = &self.shared.stack.outputs.archive_bucket_name;
        let mut pages = self.clients.s3.list_objects_v2().bucket(bucket).into_paginator().send();
        let mut documents = Vec::new();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents.unwrap_or_default() {
                let key = object.key.unwrap();
                let answer = self.clients.s3.get_object().bucket(bucket).key(&key).send().await;
                let bytes = answer.unwrap().body.collect().await.unwrap().into_bytes();
                let document: Value = serde_json::from_slice(&bytes).unwrap();
                if document["body"].as_str().unwrap().contains(self.prefix) {
                    documents.push(document);
                }
            }
        }
        documents
    }

    /// Waits until no other test redrives: a run sees, and for a while hides, the dead letters of
    /// all tests.
    pub(crate) async fn only_redrive(&self) -> MutexGuard<'static, ()> {
        self.shared.redrive.lock().await
    }

    /// Runs the redrive as its nightly rule does. Returns its report.
    pub(crate) async fn redrive(&self) -> Value {
        let event = self.sample_event("scheduled-event.json");
        self.redrive_as(&event).await.expect("the redrive succeeds")
    }

    /// The same for the dead letters of a FIFO queue.
    pub(crate) async fn redrive_ordered(&self) -> Value {
        let function = self.shared.stack.outputs.ordered_redrive_function_name.as_deref();
        let event = self.sample_event("scheduled-event.json");
        let report = self.report_of(function.expect("an ordered stack"), &event).await;
        report.expect("the redrive succeeds")
    }

    /// Runs the redrive as a person does. Returns its report, or its error.
    pub(crate) async fn redrive_as(&self, request: &Value) -> Result<Value, Value> {
        self.report_of(&self.shared.stack.outputs.redrive_function_name, request).await
    }

    #[expect(clippy::print_stdout, reason = "what a test that fails later had to go by")]
    async fn report_of(&self, redrive: &str, request: &Value) -> Result<Value, Value> {
        let report = self.invoke(redrive, request).await;
        println!("{redrive} answered {report:?}");
        report
    }

    /// Lets all time pass for which the redrive has hidden dead letters.
    pub(crate) async fn show_hidden(&self) {
        use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry as Entry;
        for ten in self.proxy().take_receipts().chunks(10) {
            let entry = |(number, receipt): (usize, &String)| {
                let entry = Entry::builder().id(number.to_string()).receipt_handle(receipt);
                entry.visibility_timeout(0).build().unwrap()
            };
            // The receipts of messages that are gone are refused.
            self.clients
                .sqs
                .change_message_visibility_batch()
                .queue_url(&self.shared.stack.outputs.dead_letter_queue_url)
                .set_entries(Some(ten.iter().enumerate().map(entry).collect()))
                .send()
                .await
                .unwrap();
        }
    }

    /// Gives the redrive another time box. Its next run has a process of its own.
    pub(crate) async fn set_redrive_timeout(&self, seconds: i32) {
        self.clients
            .lambda
            .update_function_configuration()
            .function_name(&self.shared.stack.outputs.redrive_function_name)
            .timeout(seconds)
            .send()
            .await
            .unwrap();
    }

    /// Stops or starts the receiving of messages from the work queue.
    pub(crate) async fn set_consumer(&self, enabled: bool) {
        let queue = self.shared.stack.outputs.work_queue_url.rsplit('/').next().unwrap();
        let queue = format!("arn:aws:sqs:us-east-1:000000000000:{queue}");
        let lambda = &self.clients.lambda;
        let mappings = lambda.list_event_source_mappings().event_source_arn(queue).send().await;
        let mappings = mappings.unwrap().event_source_mappings.unwrap_or_default();
        assert_eq!(mappings.len(), 1);
        for mapping in mappings {
            let update = lambda.update_event_source_mapping().uuid(mapping.uuid.unwrap());
            update.enabled(enabled).send().await.unwrap();
        }
    }

    /// Takes away what is on the work queue.
    pub(crate) async fn purge_work_queue(&self) {
        let queue = &self.shared.stack.outputs.work_queue_url;
        self.clients.sqs.purge_queue().queue_url(queue).send().await.unwrap();
    }

    pub(crate) async fn drop_table(&self) {
        let table = self.shared.stack.outputs.device_state_table_name.clone();
        self.clients.dynamodb.delete_table().set_table_name(table).send().await.unwrap();
    }

    /// Makes the table again as the template does.
    pub(crate) async fn create_table(&self) {
        use aws_sdk_dynamodb::types::{
            AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        };
        const KEY: &str = "deviceId";
        let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash);
        let attribute = AttributeDefinition::builder().attribute_name(KEY);
        self.clients
            .dynamodb
            .create_table()
            .set_table_name(self.shared.stack.outputs.device_state_table_name.clone())
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key.build().unwrap())
            .attribute_definitions(
                attribute.attribute_type(ScalarAttributeType::S).build().unwrap(),
            )
            .send()
            .await
            .unwrap();
    }

    async fn invoke(&self, function: &str, event: &Value) -> Result<Value, Value> {
        invoke(&self.clients, function, event).await
    }

    /// Waits until the event's execution has ended.
    pub(crate) async fn ended(&self, write: &Write) -> Ended {
        self.ended_as(&write.event_id).await
    }

    /// Waits until the execution of this name has ended.
    pub(crate) async fn ended_as(&self, name: &str) -> Ended {
        let arn = execution_arn(&self.shared.stack, name);
        self.eventually(&format!("the execution {name} ends"), async || {
            let described = self.clients.sfn.describe_execution().execution_arn(&arn).send().await;
            match described {
                Ok(found) if *found.status() == ExecutionStatus::Running => {
                    Err("it is running".to_owned())
                }
                Ok(found) => {
                    let output: Value =
                        serde_json::from_str(found.output().unwrap_or("null")).unwrap();
                    Ok(Ended {
                        status: found.status().clone(),
                        outcome: output["outcome"].as_str().unwrap_or_default().to_owned(),
                    })
                }
                Err(error) => {
                    let error = error.into_service_error();
                    assert!(error.is_execution_does_not_exist(), "{error:?}");
                    Err("there is none".to_owned())
                }
            }
        })
        .await
    }

    /// The error name with which the event's execution failed.
    pub(crate) async fn error_of(&self, write: &Write) -> Option<String> {
        let arn = execution_arn(&self.shared.stack, &write.event_id);
        let described = self.clients.sfn.describe_execution().execution_arn(arn).send().await;
        described.unwrap().error
    }

    /// The event pattern of a rule, by its logical id in the template.
    pub(crate) async fn pattern_of(&self, rule: &str) -> String {
        let resources = self.clients.cloudformation.describe_stack_resource();
        let stack = &self.shared.stack.name;
        let answer = resources.stack_name(stack).logical_resource_id(rule).send().await.unwrap();
        let name = answer.stack_resource_detail.unwrap().physical_resource_id.unwrap();
        let name = name.rsplit('/').next().unwrap();
        let answer = self.events("DescribeRule", &json!({ "Name": name })).await;
        answer["EventPattern"].as_str().unwrap().to_owned()
    }

    /// Whether `EventBridge` would hand the event to a rule with this pattern.
    pub(crate) async fn meets(&self, pattern: &str, event: &Value) -> bool {
        let request = json!({ "EventPattern": pattern, "Event": event.to_string() });
        let answer = self.events("TestEventPattern", &request).await;
        answer["Result"].as_bool().unwrap()
    }

    pub(crate) async fn events(&self, operation: &str, request: &Value) -> Value {
        self.post("events", &format!("AWSEvents.{operation}"), request).await
    }

    /// Waits until all executions have ended, and says how each did, in order.
    pub(crate) async fn all_ended(&self, writes: &[Write]) -> Vec<Ended> {
        let mut all = Vec::new();
        for write in writes {
            all.push(self.ended(write).await);
        }
        all
    }

    /// How many executions there are under each name that the test's events can have. The name of
    /// a second attempt counts for the event.
    pub(crate) async fn executions(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        let mut pages = self
            .clients
            .sfn
            .list_executions()
            .state_machine_arn(&self.shared.stack.outputs.state_machine_arn)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            for execution in page.unwrap().executions {
                let event_id = execution.name.split('-').next().unwrap_or_default().to_owned();
                *counts.entry(event_id).or_default() += 1;
            }
        }
        counts
    }

    /// The newest state of the device.
    pub(crate) async fn item(&self, device: &str) -> Option<Item> {
        let answer = self
            .clients
            .dynamodb
            .get_item()
            .set_table_name(self.shared.stack.outputs.device_state_table_name.clone())
            .key("deviceId", AttributeValue::S(device.to_owned()))
            .send()
            .await
            .unwrap();
        answer.item.map(Item)
    }

    /// How many devices of this test have a state.
    pub(crate) async fn items(&self) -> usize {
        let scan = self.clients.dynamodb.scan();
        let mut pages = scan
            .set_table_name(self.shared.stack.outputs.device_state_table_name.clone())
            .filter_expression("begins_with(deviceId, :prefix)")
            .expression_attribute_values(":prefix", AttributeValue::S(self.prefix.to_owned()))
            .into_paginator()
            .send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            count += page.unwrap().items().len();
        }
        count
    }

    /// The dead letters of this test, seen without receiving them: a receive would hide them from
    /// the tests that run beside this one. (`MiniStack`'s own endpoint; AWS has no such thing.)
    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let queue = &self.shared.stack.outputs.dead_letter_queue_url;
        let text = self.look_into(queue).await;
        text.into_iter()
            .map(|message| {
                let attribute = |name: &str| {
                    let value = message["MessageAttributes"][name]["StringValue"].as_str();
                    value.map(str::to_owned)
                };
                DeadLetter {
                    message_id: message["MessageId"].as_str().unwrap_or_default().to_owned(),
                    body: message["Body"].as_str().unwrap_or_default().to_owned(),
                    error_class: attribute("errorClass"),
                    error_message: attribute("errorMessage"),
                    redrives: attribute("redrives"),
                }
            })
            .filter(|letter| letter.body.contains(self.prefix))
            .collect()
    }

    /// Waits until this test has so many dead letters.
    pub(crate) async fn dead_letters_reach(&self, count: usize) -> Vec<DeadLetter> {
        self.eventually(&format!("{count} dead letters of {}", self.prefix), async || {
            let letters = self.dead_letters().await;
            if letters.len() >= count { Ok(letters) } else { Err(format!("{letters:?}")) }
        })
        .await
    }

    /// Messages of this test on the work queue, hidden and delayed ones included.
    pub(crate) async fn queued(&self) -> usize {
        self.work_queue().await.len()
    }

    pub(crate) async fn queued_bodies(&self) -> Vec<String> {
        let messages = self.work_queue().await.into_iter();
        messages.map(|message| message["Body"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Messages of this test that consumers have received and not yet settled. (A copy that is
    /// delayed was never received.)
    pub(crate) async fn in_flight(&self) -> usize {
        let received = |message: &&Value| {
            message["IsVisible"] == json!(false) && message["ReceiveCount"] != json!(0)
        };
        self.work_queue().await.iter().filter(received).count()
    }

    async fn work_queue(&self) -> Vec<Value> {
        let queue = &self.shared.stack.outputs.work_queue_url;
        let mut messages = self.look_into(queue).await;
        messages
            .retain(|message| message["Body"].as_str().unwrap_or_default().contains(self.prefix));
        messages
    }

    /// Waits until every message of this test has been acknowledged.
    pub(crate) async fn drained(&self) {
        self.eventually(&format!("no message of {} is queued", self.prefix), async || {
            match self.queued().await {
                0 => Ok(()),
                left => Err(format!("{left} are")),
            }
        })
        .await;
    }

    /// The log lines of all functions with this text in them, an event id or a key for instance, in
    /// the order in which they were written.
    pub(crate) fn log_of(&self, text: &str) -> Vec<LogLine> {
        self.shared.log_of(text)
    }

    pub(crate) async fn look_into(&self, queue_url: &str) -> Vec<Value> {
        look_into(&self.shared.emulator.endpoint(), queue_url).await
    }

    /// Process ids of the running environments of the consumer.
    pub(crate) fn consumer_processes(&self) -> Vec<u32> {
        self.processes(&self.shared.stack.outputs.consumer_function_name)
    }

    /// Process ids of the running environments of the redrive.
    pub(crate) fn redrive_processes(&self) -> Vec<u32> {
        self.processes(&self.shared.stack.outputs.redrive_function_name)
    }

    /// Environments of a function, among the descendants of the emulator that this process started.
    fn processes(&self, function: &str) -> Vec<u32> {
        let variable = format!("AWS_LAMBDA_FUNCTION_NAME={function}");
        let mut found = Vec::new();
        let mut descendants = vec![self.shared.emulator.ancestor_process_id()];
        while let Some(process) = descendants.pop() {
            descendants.extend(children_of(process));
            let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()) {
                found.push(process);
            }
        }
        found
    }

    /// Asks until the answer is `Ok`. If it never is, the panic tells what was seen last.
    pub(crate) async fn eventually<T, F>(&self, what: &str, ask: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, String>>,
    {
        let log = self.shared.stack.log.display();
        eventually(&format!("{what} (log of the emulator: {log})"), ask).await
    }
}

/// Asks until the answer is `Ok`. If it never is, the panic tells what was seen last.
pub(crate) async fn eventually<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let since = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) if since.elapsed() > CEILING => {
                panic!("{what}: not within {} s, last seen: {seen}", CEILING.as_secs())
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// An item of the table.
#[derive(Debug)]
pub(crate) struct Item(HashMap<String, AttributeValue>);

impl Item {
    pub(crate) fn text(&self, attribute: &str) -> &str {
        self.0.get(attribute).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, attribute: &str) -> u64 {
        let value = self.0.get(attribute).and_then(|value| value.as_n().ok());
        value.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{attribute}: {self:?}"))
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(self.text("state")).unwrap()
    }
}

impl Ended {
    pub(crate) fn written() -> Self {
        Self { status: ExecutionStatus::Succeeded, outcome: "written".to_owned() }
    }

    pub(crate) fn superseded() -> Self {
        Self { status: ExecutionStatus::Succeeded, outcome: "superseded".to_owned() }
    }
}

impl Write {
    /// The same write, a year ago by its event.
    pub(crate) fn of_last_year(mut self) -> Self {
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 365);
        self.notification["Records"][0]["eventTime"] = then.to_string().into();
        self
    }

    /// The S3 notification of this write.
    pub(crate) fn notification(&self) -> String {
        self.notification.to_string()
    }
}

pub(crate) fn key_of(device: &str) -> String {
    format!("devices/{device}/state.json")
}

pub(crate) fn device_state(device: &str, state: &Value) -> String {
    json!({ "deviceId": device, "state": state }).to_string()
}

/// As S3 encodes keys in notifications: a space is `+`.
fn form_encoded(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b' ')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'*')
        .remove(b'/');
    utf8_percent_encode(text, KEPT).to_string().replace(' ', "+")
}

fn children_of(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|children| {
            let ids = children.split_whitespace().filter_map(|id| id.parse().ok());
            ids.collect::<Vec<u32>>()
        })
        .collect()
}

/// All messages of a queue, hidden and delayed ones included. (`MiniStack`'s own endpoint.)
pub(crate) async fn look_into(endpoint: &str, queue_url: &str) -> Vec<Value> {
    let path = format!("/_ministack/sqs/messages?QueueUrl={}", form_encoded(queue_url));
    let answer = get(endpoint, &path).await;
    // {"messages": {account: {region: {queue: [message]}}}}
    let accounts = answer["messages"].as_object().cloned().unwrap_or_default();
    let regions = accounts.values().flat_map(|account| account.as_object().into_iter().flatten());
    let queues = regions.flat_map(|(_, region)| region.as_object().into_iter().flatten());
    queues.flat_map(|(_, queue)| queue.as_array().cloned().unwrap_or_default()).collect()
}

/// The function's answer, or its error.
pub(crate) async fn invoke(
    clients: &Clients,
    function: &str,
    event: &Value,
) -> Result<Value, Value> {
    let payload = Blob::new(event.to_string());
    let call = clients.lambda.invoke().function_name(function).payload(payload);
    let answer = call.send().await.unwrap();
    let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
    let value = serde_json::from_slice(payload).unwrap_or(Value::Null);
    if answer.function_error().is_some() { Err(value) } else { Ok(value) }
}

pub(crate) async fn send(clients: &Clients, queue_url: &str, body: &str) {
    clients.sqs.send_message().queue_url(queue_url).message_body(body).send().await.unwrap();
}

/// The ARN of the execution of this name.
pub(crate) fn execution_arn(stack: &Stack, name: &str) -> String {
    let machine = &stack.outputs.state_machine_arn;
    format!("{}:{name}", machine.replace(":stateMachine:", ":execution:"))
}

/// A call of a service whose SDK the tests do without. Returns the status and the body.
pub(crate) async fn post(
    endpoint: &str,
    service: &str,
    content_type: &str,
    target: Option<&str>,
    body: String,
) -> (u16, String) {
    let credential = format!("test/20260101/us-east-1/{service}/aws4_request");
    let mut request = hyper::Request::post(endpoint)
        .header("content-type", content_type)
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={credential}, Signature=0"));
    if let Some(target) = target {
        request = request.header("x-amz-target", target);
    }
    let (status, body) = call(request.body(body.into()).unwrap()).await;
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A GET outside of what the SDK knows.
async fn get(endpoint: &str, path: &str) -> Value {
    let request = hyper::Request::get(format!("{endpoint}{path}"));
    let (_, body) = call(request.body(Full::default()).unwrap()).await;
    serde_json::from_slice(&body).unwrap()
}

async fn call(request: hyper::Request<Full<Bytes>>) -> (u16, Bytes) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}
