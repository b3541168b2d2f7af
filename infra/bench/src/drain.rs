//! How a burst drains.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::aws::{Aws, Behaviour};
use crate::events::{self, Content};
use crate::lambda::{Function, Program};
use crate::measure::{ensure_complete, median};
use crate::subject::{Job, Places, Subject};

/// Messages of the large batch, and how many are started at once.
const BATCH: usize = 1_000;
const AT_ONCE: usize = 100;
const LATENCY: Duration = Duration::from_millis(20);
/// What each message of it needs, in turn: is its object there, and the start.
const CALLS: u32 = 2;
const ROUNDS: usize = 5;

/// The burst against the quota of `StartExecution` in the large regions:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const UPLOADS: usize = 10_000;
const QUOTA: (f64, f64) = (1_300.0, 300.0);
/// As in the template: `MaximumConcurrency` and `BatchSize`.
const CONSUMERS: usize = 10;
const MESSAGES: usize = 10;
const BURST_LIMIT: Duration = Duration::from_mins(5);

#[derive(Debug)]
pub struct Drain {
    /// Times of a warm batch of 1,000, and how long the processor is busy with it.
    pub batch: Duration,
    pub busy: Duration,
    pub batch_throttled: Duration,
    pub against_ideal: f64,
    pub throttled: f64,
    /// Peak memory of Python, in Sluice's.
    pub memory_ratio: f64,
    pub memory: u64,
    pub burst: Burst,
}

/// 10,000 messages at once, against the quota.
#[derive(Debug)]
pub struct Burst {
    /// What became of them over time.
    pub samples: Vec<Sample>,
    pub starts: u64,
    pub deferrals: u64,
}

/// A burst at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub seconds: f64,
    pub arrived: u64,
    pub waiting: u64,
    pub done: u64,
}

/// The burst that `cargo demo --timeline` has watched on the local stack.
pub fn read_timeline(path: &Path) -> Result<Vec<Sample>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Seconds, uploaded, queued, started, succeeded, dead letters.
    let sample = |line: &str| -> Result<Sample> {
        let mut values = line.split(',');
        let mut behind = |columns| values.nth(columns).context("too few columns");
        Ok(Sample {
            seconds: behind(0)?.parse()?,
            arrived: behind(0)?.parse()?,
            waiting: behind(0)?.parse()?,
            done: behind(1)?.parse()?,
        })
    };
    let lines = text.lines().skip(1);
    lines.map(|line| sample(line).with_context(|| format!("not understood: {line}"))).collect()
}

pub async fn measure(places: &Places, aws: &Aws) -> Result<Drain> {
    eprintln!("batches of {BATCH}");
    let at_once = |program: Program| with(program, "START_CONCURRENCY", &AT_ONCE.to_string());
    let sluice = at_once(places.program(Subject::Sluice, Job::Consumer, aws)?);
    let python = at_once(places.program(Subject::Python, Job::Consumer, aws)?);
    let large = large_batches(&sluice, aws, None).await.context("batch of 1,000")?;
    let throttled = large_batches(&sluice, aws, Some(10)).await.context("throttled batch")?;
    let of_python = large_batches(&python, aws, None).await.context("Python")?;
    let burst = burst(places, aws).await?;
    let ideal = ideal();
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let memory_ratio = of_python.memory as f64 / large.memory as f64;
    Ok(Drain {
        batch: large.time,
        busy: large.busy,
        batch_throttled: throttled.time,
        against_ideal: large.time.as_secs_f64() / ideal.as_secs_f64(),
        throttled: throttled.time.as_secs_f64() / large.time.as_secs_f64(),
        memory_ratio,
        memory: large.memory,
        burst,
    })
}

/// What the batch takes if nothing but the calls takes time.
fn ideal() -> Duration {
    LATENCY * CALLS * u32::try_from(BATCH / AT_ONCE).unwrap_or(u32::MAX)
}

fn with(mut program: Program, name: &str, value: &str) -> Program {
    program.env.retain(|(other, _)| other != name);
    program.env.push((name.to_owned(), value.to_owned()));
    program
}

/// A large batch over open connections: medians, and peak memory.
struct Large {
    time: Duration,
    busy: Duration,
    memory: u64,
}

async fn large_batches(program: &Program, aws: &Aws, throttle_every: Option<u64>) -> Result<Large> {
    let mut function = Function::start(program).await?;
    function.ready().await?;
    let (mut times, mut busy) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        aws.take_traffic();
        // The first one opens the connections.
        let throttle_every = throttle_every.filter(|_| round > 0);
        aws.behave(Behaviour { latency: LATENCY, throttle_every, quota: None });
        let event = events::sqs(round, BATCH, Content::ByReference);
        let before = function.cpu()?;
        let (time, answer) = function.invoke(event).await?;
        ensure_complete(&answer)?;
        if round > 0 {
            times.push(time);
            busy.push(function.cpu()?.saturating_sub(before));
        }
    }
    aws.behave(Behaviour::default());
    aws.take_traffic();
    let memory = function.peak_memory()?;
    function.kill().await?;
    Ok(Large { time: median(times), busy: median(busy), memory })
}

/// A queue as SQS keeps it, as far as a burst needs one: messages by the time that they become
/// visible. What the consumers send back to it, the mock has captured.
#[derive(Debug, Default)]
struct Queue {
    messages: BinaryHeap<Reverse<(Instant, u64, String)>>,
    deferrals: u64,
    next: u64,
}

/// Attributes travel with the body, behind this.
const SEPARATOR: char = '\u{1}';

impl Queue {
    fn put(&mut self, visible: Instant, body: &str, attributes: &Value) {
        self.next += 1;
        let text = format!("{body}{SEPARATOR}{attributes}");
        self.messages.push(Reverse((visible, self.next, text)));
    }

    fn take(&mut self, most: usize) -> Vec<(String, String)> {
        let now = Instant::now();
        let mut taken = Vec::new();
        while taken.len() < most
            && self.messages.peek().is_some_and(|Reverse((visible, ..))| *visible <= now)
        {
            let Some(Reverse((.., text))) = self.messages.pop() else { break };
            if let Some((body, attributes)) = text.split_once(SEPARATOR) {
                taken.push((body.to_owned(), attributes.to_owned()));
            }
        }
        taken
    }

    /// The copies that the consumers have sent.
    fn receive(&mut self, calls: &[Value]) {
        let now = Instant::now();
        for entry in calls.iter().filter_map(|call| call["Entries"].as_array()).flatten() {
            let delay = Duration::from_secs(entry["DelaySeconds"].as_u64().unwrap_or_default());
            let attributes = entry["MessageAttributes"].as_object().into_iter().flatten();
            let attributes: serde_json::Map<_, _> = attributes
                .map(|(name, value)| {
                    let value = json!({ "dataType": value["DataType"], "stringValue": value["StringValue"] });
                    (name.clone(), value)
                })
                .collect();
            let body = entry["MessageBody"].as_str().unwrap_or_default();
            self.put(now + delay, body, &Value::Object(attributes));
            self.deferrals += 1;
        }
    }
}

pub async fn burst(places: &Places, aws: &Aws) -> Result<Burst> {
    eprintln!("a burst of {UPLOADS}");
    let queue = Arc::new(Mutex::new(Queue::default()));
    let program = places.program(Subject::Sluice, Job::Consumer, aws)?;
    let mut consumers = try_join_all((0..CONSUMERS).map(|_| Function::start(&program))).await?;
    for consumer in &mut consumers {
        consumer.ready().await?;
    }
    aws.behave(Behaviour { latency: LATENCY, throttle_every: None, quota: Some(QUOTA) });
    aws.take_traffic();
    aws.capture();
    let begin = Instant::now();
    for number in 0..UPLOADS {
        let body = events::message(number, Content::ByReference);
        lock(&queue).put(begin, &body, &json!({}));
    }
    let over = Arc::new(AtomicBool::new(false));
    let poll = consumers
        .into_iter()
        .map(|consumer| drain(consumer, Arc::clone(&queue), Arc::clone(&over)));
    let watch = async {
        let mut samples = Vec::new();
        loop {
            lock(&queue).receive(&aws.take_captured());
            let done = aws.started();
            samples.push(Sample {
                seconds: begin.elapsed().as_secs_f64(),
                arrived: UPLOADS as u64,
                waiting: UPLOADS as u64 - done.min(UPLOADS as u64),
                done,
            });
            if done >= UPLOADS as u64 {
                over.store(true, Ordering::Relaxed);
                return Ok(samples);
            }
            ensure!(begin.elapsed() < BURST_LIMIT, "{done} of {UPLOADS} after {BURST_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (_, samples) = futures::try_join!(try_join_all(poll), watch)?;
    aws.captured();
    let starts = aws.take_traffic().calls.get("StartExecution").copied().unwrap_or_default();
    aws.behave(Behaviour::default());
    let deferrals = lock(&queue).deferrals;
    Ok(Burst { samples, starts, deferrals })
}

fn lock(queue: &Mutex<Queue>) -> std::sync::MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One consumer, as the event source mapping feeds it, until the burst is over.
async fn drain(
    mut consumer: Function,
    queue: Arc<Mutex<Queue>>,
    over: Arc<AtomicBool>,
) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let taken = lock(&queue).take(MESSAGES);
        if taken.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let records: Vec<Value> = (0..)
            .zip(&taken)
            .map(|(index, (body, attributes))| {
                let attributes = serde_json::from_str(attributes).unwrap_or_default();
                events::sqs_record(&format!("id-{index}"), body, &attributes, 1)
            })
            .collect();
        let (_, answer) = consumer.invoke(json!({ "Records": records }).to_string()).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        for failure in answer["batchItemFailures"].as_array().into_iter().flatten() {
            let index = failure["itemIdentifier"].as_str().and_then(|id| id.strip_prefix("id-"));
            let index: usize = index.context("an unknown message failed")?.parse()?;
            let (body, attributes) = taken.get(index).context("an unknown message failed")?;
            let visible = Instant::now() + Duration::from_secs(30);
            lock(&queue).put(visible, body, &serde_json::from_str(attributes)?);
        }
    }
    consumer.kill().await
}

impl Drain {
    pub fn markdown(&self) -> String {
        let mut text = String::from("\n## Drain\n\n");
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        _ = writeln!(
            text,
            "A warm consumer, a batch of {BATCH} messages, {AT_ONCE} at once, two calls of {} ms each: \
             {:.0} ms, of which {} ms are ideal, and the processor is busy for {:.0} ms; with each \
             tenth start throttled {:.0} ms. Peak memory {:.1} MB.\n",
            LATENCY.as_millis(),
            milliseconds(self.batch),
            ideal().as_millis(),
            milliseconds(self.busy),
            milliseconds(self.batch_throttled),
            Duration::from_micros(self.memory).as_secs_f64(),
        );
        text.push_str(&self.burst.markdown());
        text.push_str("\n![burst](plots/burst.svg)\n");
        text
    }
}

impl Burst {
    pub fn markdown(&self) -> String {
        format!(
            "{UPLOADS} messages at once for {CONSUMERS} consumers of the settings of the template, \
             against the quota of `StartExecution` of a large region ({:.0}, then {:.0} a second; \
             the quota alone takes {:.0} s): all are started after {:.1} s, by {} calls of \
             `StartExecution` and {} deferrals.\n",
            QUOTA.0,
            QUOTA.1,
            (10_000.0 - QUOTA.0) / QUOTA.1,
            self.samples.last().map_or(0.0, |sample| sample.seconds),
            self.starts,
            self.deferrals,
        )
    }
}
