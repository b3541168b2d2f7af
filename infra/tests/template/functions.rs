//! The three functions in this process, with a fake of AWS behind the HTTP client of the SDK: what
//! they really write as metrics, log lines and archive documents.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_http_client::test_util::infallible_client_fn;
use consumer::Consumer;
use forwarder::Forwarder;
use hyper::Response;
use jiff::Timestamp;
use local::Project;
use percent_encoding::percent_decode_str;
use platform::{Deadline, Metrics, Queue};
use redrive::{Answer, Archive, DeadLetterQueue, Executions, Redriver};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What the functions wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Metrics by the logical id of their function and their dimensions.
    pub(crate) metrics: BTreeMap<(String, BTreeSet<String>), BTreeSet<String>>,
    /// Fields of log lines.
    pub(crate) fields: BTreeSet<String>,
    /// Documents in the archive, as they are there.
    pub(crate) documents: BTreeMap<String, String>,
}

/// Runs each function so that it reports everything that it can: one event of each outcome.
pub(crate) async fn run() -> Written {
    let world = World::default();
    let log = Lines::default();
    let to_log = log.clone();
    let guard = tracing::subscriber::set_default(platform::log_to(None, move || to_log.clone()));
    forward(&world).await;
    consume(&world).await;
    redrive(&world).await;
    drop(guard);

    let mut written = Written::default();
    for line in world.metrics.read() {
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], "Sluice");
            for dimensions in directive["Dimensions"].as_array().unwrap() {
                let function = line["FunctionName"].as_str().unwrap().to_owned();
                let dimensions = strings(dimensions.as_array().unwrap());
                let names = directive["Metrics"].as_array().unwrap();
                let names = names.iter().map(|metric| metric["Name"].as_str().unwrap().to_owned());
                written.metrics.entry((function, dimensions)).or_default().extend(names);
            }
        }
    }
    for line in log.read() {
        written.fields.extend(line.as_object().unwrap().keys().cloned());
    }
    written.documents = world.state().objects.clone();
    written.documents.retain(|path, _| path.contains("/dead-letters/"));
    written
}

fn strings(values: &[Value]) -> BTreeSet<String> {
    values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

async fn forward(world: &World) {
    let forwarder = Forwarder {
        config: forwarder::Config { group_key_segments: 2 },
        metrics: world.metrics("ForwarderFunction"),
        work_queue: world.queue("work"),
        dead_letter_queue: world.queue("dead"),
    };
    forwarder.handle(&sample("s3-object-created-put.json"), deadline()).await.unwrap();
}

async fn consume(world: &World) {
    let settings = |name: &str| {
        let arn = "arn:aws:states:eu-west-1:1:stateMachine:m";
        (name == "STATE_MACHINE_ARN").then(|| arn.into())
    };
    let consumer = Consumer {
        config: platform::Settings::from_lookup(&settings, consumer::Config::read).unwrap(),
        metrics: world.metrics("ConsumerFunction"),
        step_functions: aws_sdk_sfn::Client::new(&world.sdk()),
        s3: aws_sdk_s3::Client::new(&world.sdk()),
        work_queue: world.queue("work"),
        dead_letter_queue: world.queue("dead"),
    };
    let batch: Value = serde_json::from_str(&sample("sqs-two-messages.json")).unwrap();
    // Each in an invocation of its own: what follows a throttled start is deferred unasked.
    for body in [event("started"), event("throttled"), event("broken"), "poison".to_owned()] {
        let mut record = batch["Records"][0].clone();
        record["body"] = body.into();
        let batch: SqsEvent = serde_json::from_value(json!({ "Records": [record] })).unwrap();
        consumer.handle(batch, deadline(), now()).await.unwrap();
    }
}

async fn redrive(world: &World) {
    let redriver = Redriver {
        config: redrive::Config {
            time_zone: jiff::tz::TimeZone::UTC,
            max_redrives: 5,
            max_messages: None,
            max_per_second: None,
            canary_messages: 0,
            group_key_segments: 2,
        },
        metrics: world.metrics("RedriveFunction"),
        dead_letter_queue: DeadLetterQueue::new(
            aws_sdk_sqs::Client::new(&world.sdk()),
            "http://aws.test/dead",
        ),
        work_queue: world.queue("work"),
        archive: Archive::new(aws_sdk_s3::Client::new(&world.sdk()), "archive"),
        executions: Executions::new(
            aws_sdk_sfn::Client::new(&world.sdk()),
            "arn:aws:states:eu-west-1:1:stateMachine:m",
        ),
    };
    let mut failed: Value = serde_json::from_str(&event("archived")).unwrap();
    failed["attempt"] = json!(2);
    world.state().dead_letters = vec![
        dead_letter("redriven", &event("redriven"), 0),
        dead_letter("archived", &failed.to_string(), 5),
    ];
    let nightly = sample("scheduled-event.json");
    let answer = redriver.handle(&nightly, deadline(), now()).await.unwrap();
    let Answer::Report(report) = answer else { panic!("{answer:?}") };
    assert_eq!((report.redriven, report.archived.len()), (1, 1), "{report:?}");
    let restore = json!({ "mode": "restore", "prefix": "dead-letters/" });
    let answer = redriver.handle(&restore.to_string(), deadline(), now()).await.unwrap();
    let Answer::Restored(restored) = answer else { panic!("{answer:?}") };
    assert_eq!(restored.restored, 1, "{restored:?}");
}

fn dead_letter(id: &str, body: &str, redrives: u64) -> Value {
    json!({
        "MessageId": id, "ReceiptHandle": id, "Body": body,
        "Attributes": {
            "SentTimestamp": "1795100000000", "ApproximateReceiveCount": "1",
            "MessageGroupId": "devices/42"
        },
        "MessageAttributes": {
            "redrives": { "DataType": "Number", "StringValue": redrives.to_string() },
            "errorClass": { "DataType": "String", "StringValue": "States.Timeout" },
        },
    })
}

/// The message about a write to `key`.
fn event(key: &str) -> String {
    let mut notification: Value =
        serde_json::from_str(&sample("s3-object-created-put.json")).unwrap();
    notification["Records"][0]["s3"]["object"]["key"] = json!(key);
    messages::decode(&notification.to_string()).remove(0).unwrap().to_json().unwrap()
}

fn sample(name: &str) -> String {
    let path = Project::find().unwrap().root.join("events").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn now() -> Timestamp {
    "2026-11-20T21:00:01Z".parse().unwrap()
}

fn deadline() -> Deadline {
    Deadline::at(Instant::now() + Duration::from_mins(5))
}

/// AWS, as far as the functions see it.
#[derive(Debug, Clone, Default)]
struct World {
    state: Arc<Mutex<State>>,
    metrics: Lines,
}

#[derive(Debug, Default)]
struct State {
    dead_letters: Vec<Value>,
    /// By path.
    objects: BTreeMap<String, String>,
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn metrics(&self, function: &str) -> Metrics {
        Metrics::to("Sluice", function, self.metrics.clone())
    }

    fn queue(&self, name: &str) -> Queue {
        Queue::new(aws_sdk_sqs::Client::new(&self.sdk()), format!("http://aws.test/{name}"))
    }

    fn sdk(&self) -> SdkConfig {
        let world = self.clone();
        let client = infallible_client_fn(move |request| {
            let target = request.headers().get("x-amz-target");
            let action = target.map_or(request.method().as_str(), |t| t.to_str().unwrap());
            let action = action.rsplit('.').next().unwrap_or_default();
            let is_list = request.uri().query().is_some_and(|query| query.contains("list-type"));
            let path = percent_decode_str(request.uri().path()).decode_utf8().unwrap();
            let body = request.body().bytes().unwrap_or_default();
            world.answer(action, &path, is_list, &String::from_utf8_lossy(body))
        });
        let credentials = Credentials::new("test", "test", None, None, "a test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url("http://aws.test")
            .retry_config(RetryConfig::disabled())
            .http_client(client)
            .build()
    }

    fn answer(&self, action: &str, path: &str, is_list: bool, body: &str) -> Response<String> {
        let request: Value = serde_json::from_str(body).unwrap_or_default();
        let mut state = self.state();
        let confirmed = || {
            let entries = request["Entries"].as_array().unwrap().iter();
            let entries = entries.map(
                |entry| json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "d" }),
            );
            json!({ "Successful": entries.collect::<Vec<_>>(), "Failed": [] })
        };
        let (status, answer) = match action {
            "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => {
                (200, confirmed().to_string())
            }
            "ReceiveMessage" => {
                (200, json!({ "Messages": std::mem::take(&mut state.dead_letters) }).to_string())
            }
            "GetQueueAttributes" => {
                (200, json!({ "Attributes": { "ApproximateNumberOfMessages": "0" } }).to_string())
            }
            "StartExecution" => {
                let input = request["input"].as_str().unwrap_or_default();
                let error =
                    |name: &str| json!({ "__type": name, "message": "refused" }).to_string();
                if input.contains("throttled") {
                    (400, error("ThrottlingException"))
                } else if input.contains("broken") {
                    (500, error("InternalError"))
                } else {
                    (200, json!({ "executionArn": "arn", "startDate": 0 }).to_string())
                }
            }
            "PUT" => {
                state.objects.insert(path.to_owned(), body.to_owned());
                (200, String::new())
            }
            "GET" if is_list => {
                let keys = state.objects.keys().map(|path| {
                    let key = path.split_once("dead-letters").unwrap().1;
                    format!("<Contents><Key>dead-letters{key}</Key></Contents>")
                });
                (200, format!("<ListBucketResult>{}</ListBucketResult>", keys.collect::<String>()))
            }
            "GET" => (200, state.objects.get(path).cloned().unwrap_or_else(|| "{}".to_owned())),
            other => panic!("{other} {path}: {body}"),
        };
        let content_type = if is_list { "application/xml" } else { "application/x-amz-json-1.0" };
        Response::builder()
            .status(status)
            .header("content-type", content_type)
            .header("etag", "\"1\"")
            .body(answer)
            .unwrap()
    }
}

/// Lines of JSON, from any number of writers.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn read(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        serde_json::Deserializer::from_slice(&bytes).into_iter().map(Result::unwrap).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
