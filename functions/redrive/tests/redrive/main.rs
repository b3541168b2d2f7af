//! The redrive as Lambda calls it, with real SDK clients and simulated services.

#![expect(clippy::expect_used, reason = "a test may panic")]

mod archive;
mod canary;
mod executions;
mod expiry;
mod fates;
mod faults;
mod limits;
mod modes;
mod reconcile;
mod sorting;

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp, ToSpan};
use platform::{Deadline, MAX_MESSAGE_BYTES, Metrics, Queue, Settings};
use redrive::{
    Answer, Archive, Config, DeadLetterQueue, Error, Executions, Redriver, Report, Restored,
    Stopped, Uploads,
};
use serde_json::{Value, json};
use testing::{
    Attribute, Aws, Execution, Lines, Message, SimulatedQueue, Status, message, sample, sample_json,
};
use tokio::time::{Instant, sleep};

/// The bucket of the archive.
const ARCHIVE: &str = "archive";

/// The bucket of the uploads.
const UPLOADS: &str = "device-state";

/// A simulated AWS, and the settings of its redrive.
struct Stack {
    aws: Aws,
    config: Config,
    metrics: Lines,
}

impl Stack {
    /// Has these letters in its dead-letter queue, with the ids `message-0` and so on. The settings
    /// are the defaults, but for what most tests are about: there are no canaries.
    fn with(letters: impl IntoIterator<Item = Message>) -> Self {
        Self::on(Aws::new(), letters)
    }

    /// The same with FIFO queues.
    fn fifo(letters: impl IntoIterator<Item = Message>) -> Self {
        Self::on(Aws::with_fifo_queues(), letters)
    }

    fn on(aws: Aws, letters: impl IntoIterator<Item = Message>) -> Self {
        // The back-off and the jitter of the redrive and of the SDK.
        fastrand::seed(0);
        aws.s3().has_bucket(ARCHIVE);
        for letter in letters {
            aws.dead_letter_queue().has(letter);
        }
        let lookup = |name: &str| (name == "TIME_ZONE").then(|| "Asia/Seoul".into());
        let config = Settings::from_lookup(&lookup, Config::read).expect("defaults");
        let config = Config { canary_messages: 0, ..config };
        Self { aws, config, metrics: Lines::default() }
    }

    /// With so many canaries, and a consumer that starts their executions.
    fn canaries(mut self, count: u64) -> Self {
        self.config.canary_messages = count;
        self.work().is_consumed_after(Duration::from_secs(1));
        self
    }

    /// Sends so many messages a second at most.
    fn at_most_per_second(mut self, rate: u32) -> Self {
        self.config.max_per_second = Some(rate);
        self
    }

    fn work(&self) -> SimulatedQueue {
        self.aws.work_queue()
    }

    fn dead(&self) -> SimulatedQueue {
        self.aws.dead_letter_queue()
    }

    fn redriver(&self) -> Redriver {
        let (work, dead, machine) = (self.work(), self.dead(), self.aws.step_functions());
        Redriver {
            config: self.config.clone(),
            metrics: Metrics::to("Sluice", "redrive", self.metrics.clone()),
            dead_letter_queue: DeadLetterQueue::new(dead.client(), dead.url()),
            work_queue: Queue::new(work.client(), work.url()),
            archive: Archive::new(self.aws.s3().client(), ARCHIVE),
            executions: Executions::new(machine.client(), &machine.state_machine_arn()),
            other_dead_letter_queue: None,
            uploads: Some(Uploads::new(self.aws.s3().client(), UPLOADS, "eu-west-1")),
        }
    }

    /// Ids of the letters that are in the dead-letter queue.
    fn left(&self) -> Vec<String> {
        self.dead().messages().into_iter().map(|letter| letter.id).collect()
    }

    /// Keys of the objects that the messages on the work queue are about, sorted.
    fn keys(&self) -> Vec<String> {
        let mut keys = self.work().keys();
        keys.sort();
        keys
    }

    /// Keys of the objects that executions are about, in the order of their start, once all that was
    /// sent has been consumed.
    async fn started_keys(&self) -> Vec<String> {
        sleep(Duration::from_mins(1)).await;
        assert_eq!(self.work().messages(), []);
        self.aws.step_functions().started_keys()
    }

    /// The documents of the archive by key.
    fn archive(&self) -> BTreeMap<String, Value> {
        self.aws.s3().documents(ARCHIVE)
    }

    /// The document of an archive that holds one.
    fn document(&self) -> Value {
        let [document] = self.archive().into_values().collect::<Vec<_>>().try_into().expect("one");
        document
    }

    /// Changes all documents of the archive.
    fn edits_archive(&self, edit: impl Fn(&mut Value)) {
        for (key, mut document) in self.archive() {
            edit(&mut document);
            self.aws.s3().holds(ARCHIVE, &key, document.to_string().as_bytes());
        }
    }

    /// Waits until this time.
    async fn reaches(&self, time: Timestamp) {
        let left = time.duration_since(self.aws.now());
        sleep(left.try_into().expect("a time to come")).await;
    }
}

/// What a letter may carry.
trait Letter {
    fn class(self, class: &str) -> Self;
    fn reason(self, reason: &str) -> Self;
    fn redrives(self, times: u64) -> Self;
    /// By its redrive policy, after too many receives.
    fn moved_by_sqs(self) -> Self;
}

impl Letter for Message {
    fn class(self, class: &str) -> Self {
        self.with("errorClass", Attribute::text(class))
    }

    fn reason(self, reason: &str) -> Self {
        self.with("errorMessage", Attribute::text(reason))
    }

    fn redrives(self, times: u64) -> Self {
        self.with("redrives", Attribute::number(times))
    }

    fn moved_by_sqs(self) -> Self {
        self.moved_from(&Aws::new().work_queue())
    }
}

/// Yesterday's dead letter with this body.
fn letter_of(body: &str) -> Message {
    Message::new(body).sent("2026-11-20T14:59:59.999Z")
}

/// Yesterday's dead letter about a write to `key`.
fn letter(key: &str) -> Message {
    letter_of(&message(key).to_string())
}

/// Today's.
fn letter_of_today(key: &str) -> Message {
    letter(key).sent("2026-11-20T15:00:00Z")
}

/// A letter that SQS would delete before there are runs enough to archive it later.
fn expiring_letter(key: &str) -> Message {
    letter(key).sent("2026-11-07T23:00:00Z")
}

/// The id of the event about a write to `key`, which is the name of its execution.
fn id(key: &str) -> String {
    message(key)["id"].as_str().expect("id").to_owned()
}

/// What the state machine sends before the execution of this name fails.
fn failed(name: &str, key: &str) -> Message {
    let execution = json!({ "name": name, "error": "E", "cause": "C" });
    let body = json!({ "failedExecution": execution, "event": message(key) });
    letter_of(&body.to_string()).class("E")
}

/// The execution of the event about a write to `key`.
fn execution(stack: &Stack, key: &str) -> Execution {
    Execution::new(&id(key), &message(key).to_string(), stack.aws.now())
}

/// The time of the first run: 06:00 in Seoul, when the rule fires.
fn now() -> Timestamp {
    Aws::new().now()
}

/// 06:00 so many days later.
fn night(n: i64) -> Timestamp {
    now().checked_add((24 * n).hours()).expect("time")
}

async fn invoke(stack: &Stack, request: &Value) -> Result<Answer, Error> {
    invoke_for(stack, request, Duration::from_mins(15)).await
}

/// Invokes a function that has so much time.
async fn invoke_for(stack: &Stack, request: &Value, time: Duration) -> Result<Answer, Error> {
    let deadline = Deadline::at(Instant::now() + time);
    stack.redriver().handle(&request.to_string(), deadline, stack.aws.now()).await
}

/// Invokes the function, and returns the log lines, too.
async fn invoke_and_read_log(
    stack: &Stack,
    request: &Value,
    time: Duration,
) -> (Result<Answer, Error>, Vec<Value>) {
    let log = Lines::default();
    let captured = log.capture_log();
    let answer = invoke_for(stack, request, time).await;
    drop(captured);
    (answer, log.read())
}

/// The log line with this message, of a run of the stack. There is one.
async fn line_of(stack: &Stack, request: &Value, time: Duration, message: &str) -> Value {
    let (answer, log) = invoke_and_read_log(stack, request, time).await;
    answer.expect("an answer");
    let lines = log.into_iter().filter(|line| line["message"] == message);
    let [line] = lines.collect::<Vec<_>>().try_into().expect("one line");
    line
}

async fn redrive(stack: &Stack, request: &Value) -> Result<Report, Error> {
    invoke(stack, request).await.map(report)
}

async fn redrive_for(stack: &Stack, request: &Value, time: Duration) -> Result<Report, Error> {
    invoke_for(stack, request, time).await.map(report)
}

fn report(answer: Answer) -> Report {
    match answer {
        Answer::Report(report) => *report,
        other => panic!("{other:?}"),
    }
}

/// The request for a restore of all that was archived.
fn whole_archive() -> Value {
    json!({ "mode": "restore", "prefix": "dead-letters/" })
}

async fn restore(stack: &Stack) -> Restored {
    restored(invoke(stack, &whole_archive()).await.expect("an answer"))
}

fn restored(answer: Answer) -> Restored {
    match answer {
        Answer::Restored(restored) => restored,
        other => panic!("{other:?}"),
    }
}

async fn nightly(stack: &Stack) -> Report {
    redrive(stack, &sample_json("scheduled-event.json")).await.expect("a report")
}
