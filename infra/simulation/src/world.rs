//! The world around the functions, and one run of it.

use std::{
    cell::RefCell,
    panic::AssertUnwindSafe,
    pin::pin,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use consumer::{Consumer, Pace, Running, step_functions_client};
use fastrand::Rng;
use forwarder::Forwarder;
use futures::{FutureExt, future::poll_fn};
use jiff::Timestamp;
use platform::{Metrics, Queue, Settings};
use redrive::{Archive, DeadLetterQueue, Executions, Redriver, Uploads};
use serde_json::{Value, json};
use testing::{Aws, SimulatedQueue};
use tokio::{
    runtime,
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use crate::{
    Fault, Plan, Run,
    lambda::BATCH_SIZE,
    setting::{Release, Setting},
    state::{Border, CALLER, Caller, Line, Outage, State},
};

pub(crate) const BUCKET: &str = "device-state";
const ARCHIVE: &str = "archive";

/// Consumers at once: `MaximumConcurrency`.
pub(crate) const CONCURRENCY: u32 = 3;

/// What every part of the world shares.
pub(crate) struct World {
    pub(crate) aws: Aws,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) starts: Arc<Notify>,
    /// Every environment that is there dies.
    kills: Notify,
    /// The functions as they were deployed last. Invocations go on with what they began with.
    functions: RefCell<Rc<Functions>>,
    pub(crate) setting: Setting,
    /// The dead-letter queue that every stack has.
    pub(crate) letters: SimulatedQueue,
    /// The FIFO one of an ordered stack, for what SQS itself moves.
    pub(crate) ordered_letters: Option<SimulatedQueue>,
}

/// The functions of a deployment.
pub(crate) struct Functions {
    pub(crate) forwarder: Forwarder,
    pub(crate) consumer: Consumer,
    /// One for each dead-letter queue.
    pub(crate) redrivers: Vec<Redriver>,
}

/// Why an invocation has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Crashed,
    Panicked,
    TimedOut,
}

/// How an invocation has ended.
pub(crate) struct Ended<T> {
    pub(crate) result: Result<T, Broken>,
    /// Whether more has happened to it than that S3 or Step Functions made it wait.
    pub(crate) is_hurt: bool,
}

/// One run: the same seed and plan give the same run.
pub fn run(seed: u64, plan: &Plan) -> Run {
    fastrand::seed(seed);
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { unreachable!("a runtime without I/O needs nothing") };
    LocalSet::new().block_on(&runtime, async {
        let world = World::new(seed, plan);
        world.clone().plays().await;
        let mut state = world.state();
        let now = state.now();
        if state.ledger.violations.is_empty() {
            state.ledger.closes(now);
        }
        Run::of(seed, plan, &world.setting, &state)
    })
}

impl World {
    fn new(seed: u64, plan: &Plan) -> Rc<Self> {
        let mut rng = Rng::with_seed(seed);
        let setting = Setting::draw(&mut rng, seed);
        let aws = Aws::build(seed, setting.start, setting.is_ordered);
        let state = Arc::new(Mutex::new(State::new(rng, plan, setting.clone())));
        let starts = Arc::new(Notify::new());
        aws.has_gate(Arc::new(Border { state: state.clone(), starts: starts.clone() }));
        aws.s3().has_bucket(BUCKET);
        aws.s3().has_bucket(ARCHIVE);
        aws.step_functions().executions_run_for_ever();
        if setting.is_express {
            aws.step_functions().is_express();
        }
        let moved_by_sqs = aws.dead_letter_queue();
        let (letters, ordered_letters) = if setting.is_ordered {
            (aws.has_standard_queue("dead"), Some(moved_by_sqs))
        } else {
            (moved_by_sqs, None)
        };
        aws.work_queue().is_received_at_most(setting.max_receives);
        for queue in [&aws.work_queue(), &letters].into_iter().chain(&ordered_letters) {
            queue.keeps_no_order();
        }
        let release = setting.release.clone();
        let world = Self {
            functions: RefCell::new(Rc::new(Functions::new(
                &aws,
                &letters,
                ordered_letters.as_ref(),
                &setting,
                &release,
            ))),
            kills: Notify::new(),
            aws,
            state,
            starts,
            setting,
            letters,
            ordered_letters,
        };
        Rc::new(world)
    }

    /// All dead-letter queues, in the order of the redrives that each has.
    pub(crate) fn dead_letter_queues(&self) -> impl Iterator<Item = &SimulatedQueue> {
        [&self.letters].into_iter().chain(&self.ordered_letters)
    }

    pub(crate) fn functions(&self) -> Rc<Functions> {
        self.functions.borrow().clone()
    }

    /// Replaces the functions, some time of the busy days. New invocations get the new ones; those
    /// that are under way go on, or their environments die.
    async fn deploys(self: Rc<Self>) {
        if !self.state().happens(Fault::Deployment) {
            return;
        }
        let busy = Duration::from_hours(24) * self.plan().busy_nights();
        self.waits(Duration::ZERO, busy).await;
        let release = Release::draw(&mut self.state().rng);
        self.state().note(Vec::new(), format!("somebody deploys {release:?}"));
        self.state().ledger.has_other_limits = true;
        let (letters, ordered) = (&self.letters, self.ordered_letters.as_ref());
        let functions = Functions::new(&self.aws, letters, ordered, &self.setting, &release);
        *self.functions.borrow_mut() = Rc::new(functions);
        if self.state().rng.bool() {
            self.kills.notify_waiters();
        }
    }

    /// Everything from the first upload to the last night.
    async fn plays(self: Rc<Self>) {
        self.plans_outages();
        spawn_local(self.clone().runs_executions());
        for _ in 0..CONCURRENCY {
            spawn_local(self.clone().maps_events());
        }
        spawn_local(self.clone().uploads());
        spawn_local(self.clone().deploys());
        spawn_local(self.clone().operates());
        for _ in 0..self.plan().nights {
            self.passes_a_night().await;
            if !self.state().ledger.violations.is_empty() {
                return;
            }
        }
    }

    fn plans_outages(&self) {
        let mut state = self.state();
        let hours = |hours: u64| Duration::from_hours(hours);
        let kinds: [(Fault, Duration, &[&'static [&'static str]]); 5] = [
            (
                Fault::Storm,
                Duration::from_mins(90),
                &[&[], &["StartExecution"], &["SendMessageBatch"]],
            ),
            (Fault::TableGone, hours(72), &[&[]]),
            (
                Fault::AccessDenied,
                hours(2),
                &[&["GetObject", "HeadObject"], &["StartExecution"], &["SendMessageBatch"]],
            ),
            (Fault::MappingOff, hours(48), &[&[]]),
            (Fault::ConsumerBroken, hours(60), &[&[]]),
        ];
        for day in 0..state.plan.busy_nights() {
            for (fault, longest, operations) in kinds {
                if !state.happens(fault) {
                    continue;
                }
                let begin = hours(u64::from(day) * 24) + state.between(hours(0), hours(24));
                let from = state.now() + begin;
                let length = state.between(hours(0), longest);
                let until = (from + length).min(state.quiet_from);
                let operations = operations[state.rng.usize(..operations.len())];
                let text =
                    format!("{}: from now on until {until:.0}, {operations:?}", fault.name());
                state.outages.push(Outage { fault, from, until, operations });
                let line = Line { at: from, writes: Vec::new(), text };
                state.story.push(line);
            }
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self) -> Plan {
        self.state().plan.clone()
    }

    pub(crate) async fn waits_until(&self, at: Timestamp) {
        let left = at.duration_since(self.state().now());
        sleep(Duration::try_from(left).unwrap_or_default()).await;
    }

    pub(crate) async fn waits(&self, least: Duration, most: Duration) {
        let time = self.state().between(least, most);
        sleep(time).await;
    }

    /// Invokes a function: runs its handler until it ends, its time is over, or it dies at a call.
    pub(crate) async fn invokes<T>(
        &self,
        caller: Caller,
        limit: Duration,
        handler: impl Future<Output = T>,
    ) -> Ended<T> {
        let Caller { function, writes, .. } = caller.clone();
        let caller = self.state().enters(caller);
        let result = {
            let handler = AssertUnwindSafe(handler).catch_unwind();
            let mut handler = pin!(timeout(limit, CALLER.scope(caller, handler)));
            let mut killed = pin!(self.kills.notified());
            poll_fn(|context| {
                let polled = handler.as_mut().poll(context);
                let is_killed = polled.is_pending() && killed.as_mut().poll(context).is_ready();
                if self.state().crashed.remove(&caller) || is_killed {
                    return Poll::Ready(Err(Broken::Crashed));
                }
                polled.map(|ended| match ended {
                    Ok(Ok(value)) => Ok(value),
                    Ok(Err(_)) => Err(Broken::Panicked),
                    Err(_) => Err(Broken::TimedOut),
                })
            })
            .await
        };
        let mut state = self.state();
        let is_hurt = state.leaves(caller) || result.is_err();
        state.count(format!("{function} invoked"));
        if let Err(broken) = &result {
            state.count(format!("{function} {broken:?}"));
            state.note(writes, format!("{function} #{caller}: {broken:?}"));
        }
        Ended { result, is_hurt }
    }

    /// A service of AWS itself sends a message, and that works.
    pub(crate) fn sends(&self, sender: &str, queue: &SimulatedQueue, body: &str, class: &str) {
        let mut entry = json!({ "Id": "0", "MessageBody": body });
        if !class.is_empty() {
            let attribute = |text: &str| json!({ "DataType": "String", "StringValue": text });
            entry["MessageAttributes"] =
                json!({ "errorClass": attribute(class), "errorMessage": attribute("simulated") });
        }
        let answer = queue.does("SendMessageBatch", json!({ "Entries": [entry.clone()] }));
        let answer = answer.unwrap_or_default();
        self.state().sent(sender, queue.name(), &answer["Successful"][0], &entry);
    }
}

impl Functions {
    fn new(
        aws: &Aws,
        letters: &SimulatedQueue,
        ordered_letters: Option<&SimulatedQueue>,
        setting: &Setting,
        release: &Release,
    ) -> Self {
        let machine = aws.step_functions().state_machine_arn();
        let lookup = |name: &str| {
            let value = match name {
                "STATE_MACHINE_ARN" => machine.clone(),
                "TIME_ZONE" => setting.time_zone.to_owned(),
                "INLINE_OBJECT_MAX_BYTES" => release.inline_object_max_bytes.to_string(),
                "MAX_DEFERRAL_HOURS" => release.max_deferral_hours.to_string(),
                "MAX_REDRIVES" => release.max_redrives.to_string(),
                "GROUP_KEY_SEGMENTS" => release.group_key_segments.to_string(),
                "MAX_RUNNING_EXECUTIONS" => setting.max_running.to_string(),
                "MAXIMUM_CONCURRENCY" => CONCURRENCY.to_string(),
                "BATCH_SIZE" => BATCH_SIZE.to_string(),
                _ => return None,
            };
            Some(value.into())
        };
        let metrics = |function: &str| Metrics::to("Sluice", function, std::io::sink());
        let queue = |queue: &SimulatedQueue| Queue::new(queue.client(), queue.url());
        let read = |settings: &Settings<'_>| {
            (
                forwarder::Config::read(settings),
                consumer::Config::read(settings),
                redrive::Config::read(settings),
            )
        };
        let Ok((forwarder, consumer, redriver)) = Settings::from_lookup(&lookup, read) else {
            unreachable!("the world sets every setting that has no default")
        };
        let work = aws.work_queue();
        let redriver = |of: &SimulatedQueue| Redriver {
            config: redriver.clone(),
            metrics: metrics("redrive"),
            dead_letter_queue: DeadLetterQueue::new(of.client(), of.url()),
            work_queue: queue(&work),
            archive: Archive::new(aws.s3().client(), ARCHIVE),
            executions: Executions::new(aws.step_functions().client(), &machine),
            other_dead_letter_queue: ordered_letters
                .filter(|other| other.url() != of.url())
                .map(|other| DeadLetterQueue::new(other.client(), other.url())),
            uploads: Some(Uploads::new(aws.s3().client(), BUCKET, "eu-west-1")),
        };
        Self {
            forwarder: Forwarder {
                config: forwarder,
                metrics: metrics("forwarder"),
                work_queue: queue(&work),
                dead_letter_queue: queue(letters),
            },
            consumer: Consumer {
                config: consumer,
                pace: Arc::new(Pace::default()),
                running: Arc::new(Running::default()),
                metrics: metrics("consumer"),
                step_functions: step_functions_client(
                    aws.step_functions().client().config().to_builder(),
                ),
                s3: aws.s3().client(),
                work_queue: queue(&work),
                dead_letter_queue: queue(letters),
            },
            redrivers: [letters].into_iter().chain(ordered_letters).map(redriver).collect(),
        }
    }
}

/// A JSON value as text, for what is quoted in another document.
pub(crate) fn quoted(value: &Value) -> Value {
    json!(value.to_string())
}
