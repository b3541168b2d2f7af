//! The world around the functions, and one run of it.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use consumer::Consumer;
use forwarder::Forwarder;
use futures::{FutureExt, future::poll_fn};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use platform::{Metrics, Queue, Settings};
use redrive::{Archive, DeadLetterQueue, Executions, Redriver};
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
    state::{Border, CALLER, Outage, State},
};

/// In Seoul, it is half an hour past midnight then.
const START: &str = "2026-11-20T15:30:00Z";
const TIME_ZONE: &str = "Asia/Seoul";

pub(crate) const BUCKET: &str = "device-state";
const ARCHIVE: &str = "archive";

/// Consumers at once: `MaximumConcurrency`.
const CONCURRENCY: u32 = 3;

/// What every part of the world shares.
pub(crate) struct World {
    pub(crate) aws: Aws,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) starts: Arc<Notify>,
    pub(crate) forwarder: Forwarder,
    pub(crate) consumer: Consumer,
    pub(crate) redriver: Redriver,
    pub(crate) is_versioned: bool,
    pub(crate) route: Route,
}

/// How notifications reach the work queue: `Ingestion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Direct,
    Sns,
    EventBridge,
    Queue,
}

/// Why an invocation has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Crashed,
    Panicked,
    TimedOut,
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
        let setting = format!(
            "{:?}, {}",
            world.route,
            if world.is_versioned { "versioned" } else { "unversioned" }
        );
        Run::of(seed, plan, setting, &state)
    })
}

impl World {
    fn new(seed: u64, plan: &Plan) -> Rc<Self> {
        let start: Timestamp = START.parse().unwrap_or_default();
        let time_zone = TimeZone::get(TIME_ZONE).unwrap_or(TimeZone::UTC);
        let aws = Aws::build(seed, start, false);
        let mut state = State::new(seed, plan, start, time_zone);
        let is_versioned = state.rng.bool();
        let routes = [Route::Direct, Route::Sns, Route::EventBridge, Route::Queue];
        let route = routes[state.rng.usize(..routes.len())];
        let hours_of_deferral = if state.rng.bool() { "72" } else { "3" };
        let state = Arc::new(Mutex::new(state));
        let starts = Arc::new(Notify::new());
        aws.has_gate(Arc::new(Border { state: state.clone(), starts: starts.clone() }));
        aws.s3().has_bucket(BUCKET);
        aws.s3().has_bucket(ARCHIVE);
        aws.step_functions().executions_run_for_ever();
        let (work, dead) = (aws.work_queue(), aws.dead_letter_queue());
        for queue in [&work, &dead] {
            queue.keeps_no_order();
        }
        let machine = aws.step_functions().state_machine_arn();
        let lookup = |name: &str| {
            let value = match name {
                "STATE_MACHINE_ARN" => machine.clone(),
                "TIME_ZONE" => TIME_ZONE.to_owned(),
                "INLINE_OBJECT_MAX_BYTES" => "1000".to_owned(),
                "MAX_DEFERRAL_HOURS" => hours_of_deferral.to_owned(),
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
        Rc::new(Self {
            forwarder: Forwarder {
                config: forwarder,
                metrics: metrics("forwarder"),
                work_queue: queue(&work),
                dead_letter_queue: queue(&dead),
            },
            consumer: Consumer {
                config: consumer,
                metrics: metrics("consumer"),
                step_functions: aws.step_functions().client(),
                s3: aws.s3().client(),
                work_queue: queue(&work),
                dead_letter_queue: queue(&dead),
            },
            redriver: Redriver {
                config: redriver,
                metrics: metrics("redrive"),
                dead_letter_queue: DeadLetterQueue::new(dead.client(), dead.url()),
                work_queue: queue(&work),
                archive: Archive::new(aws.s3().client(), ARCHIVE),
                executions: Executions::new(aws.step_functions().client(), &machine),
                other_dead_letter_queue: None,
                uploads: None,
            },
            aws,
            state,
            starts,
            is_versioned,
            route,
        })
    }

    /// Everything from the first upload to the last night.
    async fn plays(self: Rc<Self>) {
        self.plans_outages();
        spawn_local(self.clone().runs_executions());
        for _ in 0..CONCURRENCY {
            spawn_local(self.clone().maps_events());
        }
        spawn_local(self.clone().uploads());
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
        let kinds: [(Fault, Duration, &[&'static [&'static str]]); 4] = [
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
                let line = crate::state::Line { at: from, writes: Vec::new(), text };
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
        function: &'static str,
        writes: Vec<usize>,
        limit: Duration,
        handler: impl Future<Output = T>,
    ) -> Result<T, Broken> {
        let caller = self.state().enters(function, writes.clone());
        let result = {
            let handler = AssertUnwindSafe(handler).catch_unwind();
            let mut handler = pin!(timeout(limit, CALLER.scope(caller, handler)));
            poll_fn(|context| {
                let polled = handler.as_mut().poll(context);
                if self.state().crashed.remove(&caller) {
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
        state.leaves(caller);
        state.count(format!("{function} invoked"));
        if let Err(broken) = &result {
            state.count(format!("{function} {broken:?}"));
            state.note(writes, format!("{function} #{caller}: {broken:?}"));
        }
        result
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
        let id = answer["Successful"][0]["MessageId"].as_str().unwrap_or_default();
        self.state().sent(sender, queue.name(), id, &entry);
    }
}

/// How long until this time of a day, in UTC.
pub(crate) fn next_time_of_day(now: Timestamp, seconds: i64) -> Timestamp {
    let day = 86_400;
    let since_midnight = now.as_second().rem_euclid(day);
    let left = (seconds - since_midnight).rem_euclid(day);
    now + SignedDuration::from_secs(if left == 0 { day } else { left })
}

/// A JSON value as text, for what is quoted in another document.
pub(crate) fn quoted(value: &Value) -> Value {
    json!(value.to_string())
}
