//! The three functions in this process, on the simulated AWS: what they really write as metrics, log
//! lines and archive documents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::sqs::SqsEvent;
use consumer::{Consumer, Pace, Running, step_functions_client};
use forwarder::Forwarder;
use platform::{Deadline, Metrics, Queue, Settings};
use redrive::{Answer, Archive, DeadLetterQueue, Executions, Redriver, Uploads};
use serde_json::{Value, json};
use testing::{
    Attribute, Aws, E_TAG, Lines, Message, Object, SimulatedQueue, message, record, sample,
};
use tokio::time::Instant;

/// Minutes after the events of the samples.
const NOW: &str = "2026-11-20T21:05:00Z";

/// The bucket of the archive.
const ARCHIVE: &str = "archive";
const UPLOADS: &str = "uploads";

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

/// A simulated AWS, and what is written there.
#[derive(Debug)]
struct World {
    aws: Aws,
    metrics: Lines,
}

/// Runs each function so that it reports everything that it can: one event of each outcome.
pub(crate) async fn run() -> Written {
    tokio::time::pause();
    let world = World { aws: Aws::at(NOW.parse().unwrap()), metrics: Lines::default() };
    let log = Lines::default();
    let captured = log.capture_log();
    world.forward().await;
    world.consume().await;
    world.redrive().await;
    drop(captured);
    tokio::time::resume();
    let documents = world.aws.s3().objects(ARCHIVE).into_iter();
    let documents = documents.map(|object| {
        let document = String::from_utf8(object.content).unwrap();
        (object.key, document)
    });

    let mut written = Written { documents: documents.collect(), ..Written::default() };
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
    written
}

fn strings(values: &[Value]) -> BTreeSet<String> {
    values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

impl World {
    fn metrics(&self, function: &str) -> Metrics {
        Metrics::to("Sluice", function, self.metrics.clone())
    }

    fn work_queue(&self) -> Queue {
        queue(&self.aws.work_queue())
    }

    fn dead_letter_queue(&self) -> Queue {
        queue(&self.aws.dead_letter_queue())
    }

    /// As the machine is called in the settings of the functions.
    fn machine(&self, name: &str) -> Option<std::ffi::OsString> {
        let arn = self.aws.step_functions().state_machine_arn();
        (name == "STATE_MACHINE_ARN").then(|| arn.into())
    }

    async fn forward(&self) {
        let forwarder = Forwarder {
            config: forwarder::Config { group_key_segments: 2 },
            metrics: self.metrics("ForwarderFunction"),
            work_queue: self.work_queue(),
            dead_letter_queue: self.dead_letter_queue(),
        };
        forwarder.handle(&sample("s3-object-created-put.json"), deadline()).await.unwrap();
    }

    async fn consume(&self) {
        let settings = |name: &str| self.machine(name);
        let consumer = Consumer {
            config: Settings::from_lookup(&settings, consumer::Config::read).unwrap(),
            pace: Arc::new(Pace::default()),
            running: Arc::new(Running::default()),
            metrics: self.metrics("ConsumerFunction"),
            step_functions: step_functions_client(
                self.aws.step_functions().client().config().to_builder(),
            ),
            s3: self.aws.s3().client(),
            work_queue: self.work_queue(),
            dead_letter_queue: self.dead_letter_queue(),
        };
        for key in ["started", "throttled", "broken"] {
            self.aws.s3().has("device-state", Object::new(key, b"{}").e_tag(E_TAG));
        }
        self.aws.step_functions().throttles("throttled");
        self.aws.step_functions().fails("broken", "SomeNewException");
        let mut poison = record("poison");
        poison["body"] = json!("poison");
        // Each in an invocation of its own.
        for record in [record("started"), record("throttled"), record("broken"), poison] {
            let batch: SqsEvent = serde_json::from_value(json!({ "Records": [record] })).unwrap();
            consumer.handle(batch, deadline(), self.aws.now()).await.unwrap();
        }
    }

    async fn redrive(&self) {
        let machine = self.aws.step_functions();
        let dead = self.aws.dead_letter_queue();
        let zone = |name: &str| (name == "TIME_ZONE").then(|| "UTC".into());
        let config = Settings::from_lookup(&zone, redrive::Config::read).unwrap();
        let redriver = Redriver {
            config: redrive::Config { canary_messages: 0, ..config },
            metrics: self.metrics("RedriveFunction"),
            dead_letter_queue: DeadLetterQueue::new(dead.client(), dead.url()),
            work_queue: self.work_queue(),
            archive: Archive::new(self.aws.s3().client(), ARCHIVE),
            executions: Executions::new(machine.client(), &machine.state_machine_arn()),
            other_dead_letter_queue: None,
            uploads: Some(Uploads::new(self.aws.s3().client(), UPLOADS, "eu-west-1")),
        };
        self.aws.s3().has_bucket(ARCHIVE);
        dead.is_purged();
        let mut failed = message("archived");
        failed["attempt"] = json!(2);
        let letter = |body: &Value, redrives| {
            Message::new(&body.to_string())
                .sent("2026-11-19T20:00:00Z")
                .group("devices/42")
                .with("redrives", Attribute::number(redrives))
                .with("errorClass", Attribute::text("States.Timeout"))
        };
        dead.has(letter(&message("redriven"), 0));
        dead.has(letter(&failed, 5));

        let nightly = sample("scheduled-event.json");
        let answer = redriver.handle(&nightly, deadline(), self.aws.now()).await.unwrap();
        let Answer::Report(report) = answer else { panic!("{answer:?}") };
        assert_eq!((report.redriven, report.archived.len()), (1, 1), "{report:?}");
        let restore = json!({ "mode": "restore", "prefix": "dead-letters/" }).to_string();
        let answer = redriver.handle(&restore, deadline(), self.aws.now()).await.unwrap();
        let Answer::Restored(restored) = answer else { panic!("{answer:?}") };
        assert_eq!(restored.restored, 1, "{restored:?}");
        self.aws.s3().has_bucket(UPLOADS);
        let ledger = r#"{"mode":"reconcile","nightly":true,"fix":true}"#;
        let answer = redriver.handle(ledger, deadline(), self.aws.now()).await.unwrap();
        let Answer::Ledger(ledger) = answer else { panic!("{answer:?}") };
        assert!(ledger.complete, "{ledger:?}");
    }
}

fn queue(simulated: &SimulatedQueue) -> Queue {
    Queue::new(simulated.client(), simulated.url())
}

fn deadline() -> Deadline {
    Deadline::at(Instant::now() + Duration::from_mins(5))
}
