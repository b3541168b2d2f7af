use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::config::{
    Credentials, SharedCredentialsProvider,
    retry::{RetryPartition, TokenBucket},
};
use aws_smithy_async::{
    rt::sleep::{SharedAsyncSleep, TokioSleep},
    time::{SharedTimeSource, TimeSource},
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    Call, Gate, Moved, SimulatedQueue, SimulatedS3, SimulatedStepFunctions, Weather, When,
    http::Wire, sqs, world::World,
};

pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const ACCOUNT: &str = "111122223333";

/// The time at which a simulation starts, unless it is given another.
const START: &str = "2026-11-20T21:00:00Z";

/// A simulated AWS with a work queue, a dead-letter queue and a state machine. A clone is another
/// handle to the same one.
#[derive(Clone)]
pub struct Aws(Arc<Shared>);

struct Shared {
    world: Mutex<World>,
    /// Wakes receivers that wait for a message.
    changed: Notify,
    fifo: bool,
    gate: OnceLock<Arc<dyn Gate>>,
    /// The SDK's retry quota. Its own is one for the whole process, which would let one test take
    /// the retries of another.
    quotas: [RetryPartition; 3],
}

impl Default for Aws {
    fn default() -> Self {
        Self::new()
    }
}

impl Aws {
    /// Starts at 2026-11-20T21:00:00Z, with standard queues.
    pub fn new() -> Self {
        Self::at(START.parse().expect("a time"))
    }

    /// Starts at this time.
    pub fn at(start: Timestamp) -> Self {
        Self::build(0, start, false)
    }

    /// The same with FIFO queues.
    pub fn with_fifo_queues() -> Self {
        Self::build(0, START.parse().expect("a time"), true)
    }

    /// The seed decides latencies and [`Weather`].
    pub fn with_seed(seed: u64) -> Self {
        Self::build(seed, START.parse().expect("a time"), false)
    }

    /// Everything that can be chosen at the start.
    pub fn build(seed: u64, start: Timestamp, fifo: bool) -> Self {
        let quota =
            || RetryPartition::custom("simulated").token_bucket(TokenBucket::default()).build();
        let aws = Self(Arc::new(Shared {
            world: Mutex::new(World::new(seed, start)),
            changed: Notify::new(),
            fifo,
            gate: OnceLock::new(),
            quotas: [quota(), quota(), quota()],
        }));
        let (work, dead) = (aws.work_queue(), aws.dead_letter_queue());
        for queue in [&work, &dead] {
            aws.world().queues.insert(queue.name().to_owned(), sqs::Queue::new(fifo));
        }
        work.has_dead_letter_queue(&dead);
        aws
    }

    pub fn work_queue(&self) -> SimulatedQueue {
        self.queue("work")
    }

    pub fn dead_letter_queue(&self) -> SimulatedQueue {
        self.queue("dead")
    }

    /// A standard queue beside those two, as an ordered stack has one for its dead letters.
    pub fn has_standard_queue(&self, name: &str) -> SimulatedQueue {
        self.world().queues.insert(name.to_owned(), sqs::Queue::new(false));
        SimulatedQueue::new(self, name.to_owned())
    }

    /// The messages that SQS itself has moved to another queue since this was last asked.
    pub fn takes_moved(&self) -> Vec<Moved> {
        std::mem::take(&mut self.world().moved)
    }

    fn queue(&self, name: &str) -> SimulatedQueue {
        let suffix = if self.0.fifo { ".fifo" } else { "" };
        SimulatedQueue::new(self, format!("{name}{suffix}"))
    }

    pub fn step_functions(&self) -> SimulatedStepFunctions {
        SimulatedStepFunctions::new(self)
    }

    pub fn s3(&self) -> SimulatedS3 {
        SimulatedS3::new(self)
    }

    /// A client of SQS. All clients of SQS share one retry quota, as in one process.
    pub fn sqs_client(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::config::Builder::from(&self.sdk_config());
        let config = config.retry_partition(self.0.quotas[0].clone());
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    pub fn step_functions_client(&self) -> aws_sdk_sfn::Client {
        let config = aws_sdk_sfn::config::Builder::from(&self.sdk_config());
        let config = config.retry_partition(self.0.quotas[1].clone());
        aws_sdk_sfn::Client::from_conf(config.build())
    }

    pub fn s3_client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.sdk_config());
        let config = config.retry_partition(self.0.quotas[2].clone());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Retries and time-outs are those of the deployed functions.
    fn sdk_config(&self) -> SdkConfig {
        platform::sdk_defaults(Wire(self.clone()))
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials()))
            .region(Region::from_static(REGION))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::new(Clock(self.clone())))
            .build()
    }

    /// The simulated time.
    pub fn now(&self) -> Timestamp {
        self.world().now()
    }

    /// How long a call takes. The seed decides within the range.
    pub fn answers_within(&self, latency: RangeInclusive<Duration>) {
        self.world().latency = latency;
    }

    /// Lets calls go wrong by themselves from now on.
    pub fn has_weather(&self, weather: Weather) {
        self.world().weather = weather;
    }

    /// Lets calls of an operation go wrong: `aws.when("PutObject").fails("SlowDown")`.
    pub fn when(&self, operation: &str) -> When {
        When::new(self, Some(operation))
    }

    /// Takes back everything that tests said should go wrong, of calls and of entries.
    pub fn recovers(&self) {
        let mut world = self.world();
        world.rules.clear();
        world.entry_rules.clear();
        world.weather = Weather::default();
    }

    /// All calls so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }

    /// The parameters of all calls of one operation so far.
    pub fn calls_of(&self, operation: &str) -> Vec<Value> {
        let world = self.world();
        let calls = world.calls.iter().filter(|call| call.operation == operation);
        calls.map(|call| call.input.clone()).collect()
    }

    /// How often an operation was called so far.
    pub fn count(&self, operation: &str) -> usize {
        self.world().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Puts a gate between the clients and the services, once and for all: it decides how every call
    /// goes, instead of [`when`](Self::when) and [`Weather`].
    pub fn has_gate(&self, gate: Arc<dyn Gate>) {
        assert!(self.0.gate.set(gate).is_ok(), "there is a gate already");
    }

    pub(crate) fn gate(&self) -> Option<&Arc<dyn Gate>> {
        self.0.gate.get()
    }

    /// The state as it is now.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle();
        world
    }

    pub(crate) fn changed(&self) -> &Notify {
        &self.0.changed
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").finish_non_exhaustive()
    }
}

fn credentials() -> Credentials {
    let credentials = Credentials::builder().access_key_id("test").secret_access_key("test");
    credentials.provider_name("test").build()
}

/// The simulated time, for signatures and for what else the SDK asks the clock for.
#[derive(Debug)]
struct Clock(Aws);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}
