//! How a burst drains: the real consumer, in many environments that know nothing of each other,
//! against the quota of `StartExecution`. Nothing else goes wrong.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_sfn::config::retry::{RetryPartition, TokenBucket};
use consumer::{Config, Consumer, Pace, Running, step_functions_client};
use fastrand::Rng;
use platform::{Deadline, Metrics, Queue, Settings};
use serde_json::{Value, json};
use testing::{Aws, Gate, Message, Sent, Trip, Way};
use tokio::{
    runtime,
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until},
};

use crate::lambda::{BATCH_SIZE, TIMEOUT, acknowledged, poll, record};

const POLL_SECONDS: u64 = 20;

/// A call takes so much more or less than it takes in the middle.
const SPREAD: f64 = 0.25;

/// Messages, and what they meet.
#[derive(Debug, Clone)]
pub struct Burst {
    pub name: &'static str,
    /// Consumers at once, all of them from the first moment on.
    pub consumers: u32,
    /// Messages that are there at the beginning.
    pub at_once: u32,
    /// Messages that come one by one after that, and how many in a second.
    pub later: u32,
    pub per_second: u32,
    /// Starts that are allowed at once, and in a second after that.
    pub bucket: f64,
    pub refill: f64,
    /// When the quota is another one, and by what factor.
    pub change: Option<(Duration, f64)>,
    /// How long a call takes.
    pub latency: Duration,
    /// `MaxRunningExecutions`; 0 for no limit.
    pub limit: u32,
    /// How long an execution runs.
    pub execution: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Drained {
    /// When the last execution was started.
    pub time: Duration,
    /// The same with one queue and nothing but the quota and the time that calls take.
    pub ideal: Duration,
    pub calls: u64,
    /// Calls of `ListExecutions`.
    pub questions: u64,
    /// Executions that ran at once.
    pub most_running: usize,
    pub deferrals: u64,
    /// Messages that SQS has to deliver again.
    pub receives_burnt: u64,
    /// All invocations together.
    pub billed: Duration,
    /// From the arrival of each message to its start, the shortest first.
    pub waits: Vec<Duration>,
    /// The same, if the first that comes is the first that is started.
    pub fair_waits: Vec<Duration>,
}

impl Burst {
    /// Ten thousand messages at once for ten consumers, against the quota of a large region:
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.
    pub const LARGE: Self = Self {
        name: "quota of a large region",
        consumers: 10,
        at_once: 10_000,
        later: 0,
        per_second: 1,
        bucket: 1_300.0,
        refill: 300.0,
        change: None,
        latency: Duration::from_millis(20),
        limit: 0,
        execution: Duration::ZERO,
    };

    /// Lets it drain. The same seed gives the same result.
    pub fn drain(&self, seed: u64) -> Drained {
        fastrand::seed(seed);
        let runtime =
            runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let Ok(runtime) = runtime else { unreachable!("a runtime without I/O needs nothing") };
        LocalSet::new().block_on(&runtime, self.drains(seed))
    }

    async fn drains(&self, seed: u64) -> Drained {
        let aws = Aws::with_seed(seed);
        let desk = Arc::new(Desk {
            burst: self.clone(),
            begin: Instant::now(),
            book: Mutex::new(Book {
                rng: Rng::with_seed(seed),
                tokens: Tokens { left: self.bucket, at: Duration::ZERO },
                calls: 0,
                questions: 0,
                deferrals: 0,
                started: BTreeMap::new(),
                running: Vec::new(),
                most_running: 0,
            }),
            all_started: Notify::new(),
        });
        aws.has_gate(desk.clone());
        aws.step_functions().executions_succeed(self.execution);
        let billed = Rc::new(Cell::new((Duration::ZERO, 0)));
        for _ in 0..self.consumers {
            let (consumer, aws, billed) = (environment(&aws, self), aws.clone(), billed.clone());
            spawn_local(async move {
                loop {
                    let (time, failures) = invokes(&aws, &consumer).await;
                    let (times, all_failures) = billed.get();
                    billed.set((times + time, all_failures + failures));
                }
            });
        }
        let arrivals = self.arrivals();
        let arriving = async {
            for (number, arrival) in arrivals.iter().enumerate() {
                sleep_until(desk.begin + *arrival).await;
                aws.work_queue().has(Message::about(&key(number)));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = desk.all_started.notified() => {}
            () = arriving => {}
        }
        let book = desk.book();
        let mut waits: Vec<_> = arrivals
            .iter()
            .enumerate()
            .filter_map(|(number, arrival)| {
                Some(book.started.get(&key(number))?.saturating_sub(*arrival))
            })
            .collect();
        waits.sort_unstable();
        let fair = self.first_come_first_served(&arrivals);
        let ideal = fair.iter().max().copied().unwrap_or_default();
        let mut fair_waits: Vec<_> = fair
            .iter()
            .zip(&arrivals)
            .map(|(start, arrival)| start.saturating_sub(*arrival))
            .collect();
        fair_waits.sort_unstable();
        let (billed, receives_burnt) = billed.get();
        Drained {
            time: book.started.values().max().copied().unwrap_or_default(),
            ideal,
            calls: book.calls,
            questions: book.questions,
            most_running: book.most_running,
            deferrals: book.deferrals,
            receives_burnt,
            billed,
            waits,
            fair_waits,
        }
    }

    fn messages(&self) -> u32 {
        self.at_once + self.later
    }

    fn arrivals(&self) -> Vec<Duration> {
        let at_once = (0..self.at_once).map(|_| Duration::ZERO);
        let later = (1..=self.later).map(|n| Duration::from_secs(n.into()) / self.per_second);
        at_once.chain(later).collect()
    }

    /// When each message would be started if one queue gave each token, and each place at a
    /// consumer, to the message that has waited longest.
    fn first_come_first_served(&self, arrivals: &[Duration]) -> Vec<Duration> {
        let places = self.consumers as usize * BATCH_SIZE;
        let mut tokens = Tokens { left: self.bucket, at: Duration::ZERO };
        let mut starts: Vec<Duration> = Vec::with_capacity(arrivals.len());
        for (number, arrival) in arrivals.iter().enumerate() {
            // Its place is free once the one that had it before is answered.
            let place =
                number.checked_sub(places).map_or(Duration::ZERO, |n| starts[n] + self.latency);
            let limit = (self.limit > 0).then_some(self.limit as usize);
            let ended = limit.and_then(|limit| number.checked_sub(limit));
            let ended = ended.map_or(Duration::ZERO, |n| starts[n] + self.execution);
            let asks = place.max(*arrival).max(ended)
                + if number < places { self.latency / 2 } else { Duration::ZERO };
            starts.push(tokens.next(asks, self));
        }
        starts
    }

    /// Tokens that come between two times.
    fn refilled(&self, from: Duration, until: Duration) -> f64 {
        let seconds = |time: Duration| match self.change {
            Some((at, factor)) if time > at => {
                at.as_secs_f64() + time.saturating_sub(at).as_secs_f64() * factor
            }
            _ => time.as_secs_f64(),
        };
        (seconds(until) - seconds(from)) * self.refill
    }
}

impl Drained {
    /// The time, in times that the quota alone takes.
    pub fn slowness(&self) -> f64 {
        self.time.as_secs_f64() / self.ideal.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn calls_per_start(&self) -> f64 {
        self.calls as f64 / self.waits.len() as f64
    }

    /// How long this percentage of the messages waits at most, in times of what it would wait if the
    /// first that comes were the first that is started.
    pub fn wait(&self, percent: usize) -> f64 {
        let of = |waits: &[Duration]| waits[(waits.len() - 1) * percent / 100].as_secs_f64();
        of(&self.waits) / of(&self.fair_waits)
    }
}

/// The quota, as AWS keeps it.
#[derive(Debug)]
struct Tokens {
    left: f64,
    at: Duration,
}

impl Tokens {
    /// Whether there is one at this time, which takes it.
    fn take(&mut self, now: Duration, burst: &Burst) -> bool {
        self.left = (self.left + burst.refilled(self.at, now)).min(burst.bucket);
        self.at = now;
        let is_there = self.left >= 1.0;
        self.left -= f64::from(u8::from(is_there));
        is_there
    }

    /// When there is one, from this time on, which takes it.
    fn next(&mut self, from: Duration, burst: &Burst) -> Duration {
        const STEP: Duration = Duration::from_micros(100);
        let mut now = from.max(self.at);
        while !self.take(now, burst) {
            now += STEP;
        }
        now
    }
}

/// Where calls arrive.
#[derive(Debug)]
struct Desk {
    burst: Burst,
    begin: Instant,
    book: Mutex<Book>,
    all_started: Notify,
}

#[derive(Debug)]
struct Book {
    rng: Rng,
    tokens: Tokens,
    calls: u64,
    questions: u64,
    deferrals: u64,
    /// When what runs will have ended.
    running: Vec<Duration>,
    most_running: usize,
    /// When the execution about a key was started.
    started: BTreeMap<String, Duration>,
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for Desk {
    fn sends(&self, _: &Sent<'_>) -> Trip {
        let random = self.book().rng.f64();
        let half = self.burst.latency.mul_f64(0.5 * (1.0 + SPREAD * (2.0 * random - 1.0)));
        Trip { caller: 0, there: half, back: half, is_on_its_way: false }
    }

    fn arrives(&self, _: Trip, call: &Sent<'_>, _: &mut Value) -> Way {
        let mut book = self.book();
        if call.operation == "SendMessageBatch" {
            book.deferrals += call.input["Entries"].as_array().map_or(0, |all| all.len() as u64);
        }
        book.questions += u64::from(call.operation == "ListExecutions");
        if call.operation != "StartExecution" {
            return Way::Through;
        }
        book.calls += 1;
        let now = self.begin.elapsed();
        if !book.tokens.take(now, &self.burst) {
            return Way::Fails("ThrottlingException".to_owned());
        }
        let input: Value = call.input["input"]
            .as_str()
            .and_then(|input| serde_json::from_str(input).ok())
            .unwrap_or_default();
        let key = input["data"]["key"].as_str().unwrap_or_default().to_owned();
        if book.started.contains_key(&key) {
            return Way::Through;
        }
        book.started.insert(key, now);
        book.running.retain(|end| *end > now);
        book.running.push(now + self.burst.execution);
        book.most_running = book.most_running.max(book.running.len());
        if book.started.len() == self.burst.messages() as usize {
            self.all_started.notify_one();
        }
        Way::Through
    }

    fn answers(&self, _: Trip, _: &Sent<'_>, _: Result<&mut Value, &str>) -> bool {
        true
    }
}

/// A consumer of the defaults that has its own SDK client of Step Functions, with a retry quota of
/// its own. Nothing is read from S3.
fn environment(aws: &Aws, burst: &Burst) -> Consumer {
    let machine = aws.step_functions().state_machine_arn();
    let lookup = |name: &str| match name {
        "STATE_MACHINE_ARN" => Some(machine.clone().into()),
        "INLINE_CONTENT" => Some("Never".into()),
        "MAX_RUNNING_EXECUTIONS" => Some(burst.limit.to_string().into()),
        "MAXIMUM_CONCURRENCY" => Some(burst.consumers.to_string().into()),
        _ => None,
    };
    let Ok(config) = Settings::from_lookup(&lookup, Config::read) else {
        unreachable!("the only setting without a default is set")
    };
    let retries = RetryPartition::custom("environment").token_bucket(TokenBucket::default());
    let client = aws.step_functions().client().config().to_builder();
    let client = client.retry_partition(retries.build());
    let (work, dead) = (aws.work_queue(), aws.dead_letter_queue());
    Consumer {
        config,
        pace: Arc::new(Pace::default()),
        running: Arc::new(Running::default()),
        metrics: Metrics::to("Sluice", "consumer", std::io::sink()),
        step_functions: step_functions_client(client),
        s3: aws.s3().client(),
        work_queue: Queue::new(work.client(), work.url()),
        dead_letter_queue: Queue::new(dead.client(), dead.url()),
    }
}

/// One batch, as the event source mapping hands it over. Returns the time that is billed and how
/// many messages come back.
async fn invokes(aws: &Aws, consumer: &Consumer) -> (Duration, u64) {
    let work = aws.work_queue();
    let answer = work.is_polled(poll(BATCH_SIZE, POLL_SECONDS)).await;
    let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
    if messages.is_empty() {
        return (Duration::ZERO, 0);
    }
    let batch: Vec<Value> = messages.iter().map(record).collect();
    let event: SqsEvent = serde_json::from_value(json!({ "Records": batch })).unwrap_or_default();
    let begin = Instant::now();
    let answer = consumer.handle(event, Deadline::at(begin + TIMEOUT), aws.now()).await;
    let receipts = acknowledged(&messages, Ok(answer));
    let done: Vec<Value> = (0..)
        .zip(&receipts)
        .map(|(id, receipt): (u32, _)| json!({ "Id": id.to_string(), "ReceiptHandle": receipt }))
        .collect();
    if !done.is_empty() {
        work.does("DeleteMessageBatch", json!({ "Entries": done }));
    }
    (begin.elapsed(), (messages.len() - receipts.len()) as u64)
}

fn key(number: usize) -> String {
    format!("devices/{number}.json")
}
