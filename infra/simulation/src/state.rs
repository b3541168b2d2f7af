//! The state of a run, and the gate at which it decides about every call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use testing::{Gate, Sent, Trip, Way};
use tokio::{sync::Notify, time::Instant};

use crate::{
    Fault, Plan,
    ledger::{Ledger, Promise},
};

tokio::task_local! {
    /// The invocation that a call belongs to.
    pub(crate) static CALLER: u64;
}

/// In a storm, calls go wrong so many times as often.
const STORM: f64 = 12.0;

/// A letter that would expire is archived some days before, whatever else holds.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(11 * 24);

/// A line of the story, which is also the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    /// The writes that it is about.
    pub(crate) writes: Vec<usize>,
    pub(crate) text: String,
}

/// Some time during which something is out of order.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    pub(crate) fault: Fault,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    /// The operations that it is about.
    pub(crate) operations: &'static [&'static str],
}

/// An execution that Step Functions has to run.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) name: String,
    pub(crate) input: String,
    pub(crate) write: usize,
    pub(crate) at: Timestamp,
}

/// A running invocation of a function.
#[derive(Debug)]
struct Caller {
    function: &'static str,
    writes: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    start: Timestamp,
    epoch: Instant,
    /// Faults happen before this.
    pub(crate) quiet_from: Timestamp,
    pub(crate) time_zone: TimeZone,
    pub(crate) outages: Vec<Outage>,
    pub(crate) ledger: Ledger,
    pub(crate) story: Vec<Line>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// What happened else, by name.
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) starts: Vec<Start>,
    /// Names and times of starts, by which a start that is new is told from a repeated one.
    started: BTreeSet<(String, String)>,
    callers: BTreeMap<u64, Caller>,
    last_caller: u64,
    /// Invocations that die at the next opportunity.
    pub(crate) crashed: BTreeSet<u64>,
    /// Invocations that die when the service has acted.
    dies_behind: BTreeSet<u64>,
    /// Id of the message, and when it was sent, by receipt handle.
    receipts: BTreeMap<String, (String, Timestamp)>,
    /// Entries that were taken out of the batch that is being served, with what is said of them.
    cut: Vec<(Value, Fault)>,
}

impl State {
    pub(crate) fn new(seed: u64, plan: &Plan, start: Timestamp, time_zone: TimeZone) -> Self {
        let busy = SignedDuration::from_hours(24) * i32::try_from(plan.busy_nights()).unwrap_or(1);
        Self {
            plan: plan.clone(),
            rng: Rng::with_seed(seed),
            start,
            epoch: Instant::now(),
            quiet_from: start + busy,
            time_zone,
            outages: Vec::new(),
            ledger: Ledger::default(),
            story: Vec::new(),
            faults: BTreeMap::new(),
            counts: BTreeMap::new(),
            starts: Vec::new(),
            started: BTreeSet::new(),
            callers: BTreeMap::new(),
            last_caller: 0,
            crashed: BTreeSet::new(),
            dies_behind: BTreeSet::new(),
            receipts: BTreeMap::new(),
            cut: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.start + self.epoch.elapsed()
    }

    /// Whether this happens now, which counts it.
    pub(crate) fn happens(&mut self, fault: Fault) -> bool {
        self.happens_with(fault, fault.share())
    }

    fn happens_with(&mut self, fault: Fault, share: f64) -> bool {
        let happens = self.plan.faults.contains(&fault)
            && self.now() < self.quiet_from
            && self.rng.f64() < share;
        if happens {
            *self.faults.entry(fault).or_default() += 1;
        }
        happens
    }

    pub(crate) fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn note(&mut self, writes: Vec<usize>, text: impl Into<String>) {
        let line = Line { at: self.now(), writes, text: text.into() };
        self.story.push(line);
    }

    /// The outage of this kind that there is now, if it is about the operation.
    pub(crate) fn outage(&self, fault: Fault, operation: &str) -> Option<&Outage> {
        let now = self.now();
        self.outages.iter().find(|outage| {
            outage.fault == fault
                && (outage.from..outage.until).contains(&now)
                && (outage.operations.is_empty() || outage.operations.contains(&operation))
        })
    }

    /// A random time between these two.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.rng.f64())
    }

    /// An invocation begins; the number by which its calls are known.
    pub(crate) fn enters(&mut self, function: &'static str, writes: Vec<usize>) -> u64 {
        self.last_caller += 1;
        self.callers.insert(self.last_caller, Caller { function, writes });
        self.last_caller
    }

    /// Whether an invocation that has ended had crashed.
    pub(crate) fn leaves(&mut self, caller: u64) {
        self.crashed.remove(&caller);
        self.dies_behind.remove(&caller);
    }

    fn caller(&self, trip: Trip) -> (String, Vec<usize>) {
        let Some(Caller { function, writes }) = self.callers.get(&trip.caller) else {
            return ("somebody".to_owned(), Vec::new());
        };
        (format!("{function} #{}", trip.caller), writes.clone())
    }

    fn notes_fault(&mut self, trip: Trip, operation: &str, fault: Fault) {
        let (caller, mut writes) = self.caller(trip);
        writes.truncate(20);
        self.note(writes, format!("{caller}: {operation}: {}", fault.name()));
    }

    fn arrives(&mut self, trip: Trip, call: &Sent<'_>, input: &mut Value) -> Way {
        self.cut.clear();
        let operation = call.operation;
        if self.outage(Fault::AccessDenied, operation).is_some() {
            *self.faults.entry(Fault::AccessDenied).or_default() += 1;
            self.notes_fault(trip, operation, Fault::AccessDenied);
            let is_s3 = operation.ends_with("Object");
            let code = if is_s3 { "AccessDenied" } else { "AccessDeniedException" };
            return Way::Fails(code.to_owned());
        }
        if !trip.is_on_its_way && self.happens(Fault::Crash) {
            self.notes_fault(trip, operation, Fault::Crash);
            if self.rng.bool() {
                self.dies_behind.insert(trip.caller);
                return Way::Through;
            }
            self.crashed.insert(trip.caller);
            return Way::Silent;
        }
        let storm = if self.outage(Fault::Storm, operation).is_some() { STORM } else { 1.0 };
        let ways = [
            (Fault::ServerError, Way::Fails("InternalFailure".to_owned())),
            (Fault::Throttle, Way::Fails(throttled(operation).to_owned())),
            (Fault::Reset, Way::Resets),
            (Fault::Silence, Way::Silent),
            (Fault::LostAnswer, Way::LosesAnswer),
            (Fault::Panic, Way::Panics),
        ];
        for (fault, way) in ways {
            let storm = if fault == Fault::Panic { 1.0 } else { storm };
            if self.happens_with(fault, fault.share() * storm) {
                self.notes_fault(trip, operation, fault);
                return way;
            }
        }
        if operation == "ReceiveMessage" && self.happens(Fault::FewReceived) {
            let most = input["MaxNumberOfMessages"].as_u64().unwrap_or(1);
            input["MaxNumberOfMessages"] = json!(self.rng.u64(1..=most));
        }
        self.cuts(trip, call, input, storm)
    }

    /// Takes entries out of a batch.
    fn cuts(&mut self, trip: Trip, call: &Sent<'_>, input: &mut Value, storm: f64) -> Way {
        let Some(entries) = call.input["Entries"].as_array() else { return Way::Through };
        let mut faults = vec![Fault::RejectedEntry, Fault::IgnoredEntry];
        if call.operation == "DeleteMessageBatch" {
            faults.push(Fault::BackFromTheDead);
        }
        let mut left = Vec::new();
        for entry in entries {
            let mut faults = faults.iter().copied();
            match faults.find(|fault| self.happens_with(*fault, fault.share() * storm)) {
                Some(fault) => self.cut.push((entry.clone(), fault)),
                None => left.push(entry.clone()),
            }
        }
        for (_, fault) in self.cut.clone() {
            self.notes_fault(trip, call.operation, fault);
        }
        // No service takes an empty batch.
        let way = if left.is_empty() { Way::DoesNothing } else { Way::Through };
        input["Entries"] = Value::Array(left);
        way
    }

    fn answers(&mut self, trip: Trip, call: &Sent<'_>, answer: Result<&mut Value, &str>) -> bool {
        match answer {
            Ok(answer) => self.takes(trip, call, answer),
            Err(code) => {
                let (caller, _) = self.caller(trip);
                let writes = self.ledger.writes_in(&call.input.to_string());
                self.note(writes, format!("{caller}: {}: {code}", call.operation));
                self.count(format!("answer {code}"));
            }
        }
        let dies = self.dies_behind.remove(&trip.caller);
        if dies {
            self.crashed.insert(trip.caller);
        }
        !dies
    }

    /// Enters what a service has done, and changes what it says about entries that were cut.
    fn takes(&mut self, trip: Trip, call: &Sent<'_>, answer: &mut Value) {
        let Sent { operation, input, body } = *call;
        let (caller, _) = self.caller(trip);
        self.count(format!("call {operation}"));
        let cut = std::mem::take(&mut self.cut);
        for (entry, fault) in &cut {
            let id = &entry["Id"];
            let (list, entry) = match fault {
                Fault::RejectedEntry => {
                    ("Failed", json!({ "Id": id, "Code": "InternalError", "SenderFault": false }))
                }
                Fault::BackFromTheDead => ("Successful", json!({ "Id": id })),
                _ => continue,
            };
            match answer[list].as_array_mut() {
                Some(entries) => entries.push(entry),
                None => answer[list] = json!([entry]),
            }
        }
        let confirmed = answer["Successful"].as_array().cloned().unwrap_or_default();
        let entry_of = |id: &Value| {
            let mut entries = input["Entries"].as_array().into_iter().flatten();
            entries.find(|entry| entry["Id"] == *id).cloned().unwrap_or_default()
        };
        let queue = input["QueueUrl"].as_str().and_then(|url| url.rsplit_once('/'));
        let queue = queue.map_or("", |(_, name)| name).to_owned();
        match operation {
            "SendMessageBatch" => {
                for success in &confirmed {
                    let entry = entry_of(&success["Id"]);
                    let id = success["MessageId"].as_str().unwrap_or_default().to_owned();
                    self.sent(&caller, &queue, &id, &entry);
                }
            }
            "DeleteMessageBatch" => {
                for success in &confirmed {
                    let entry = entry_of(&success["Id"]);
                    let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
                    self.deleted(&caller, &queue, handle);
                }
            }
            "ReceiveMessage" => self.received(&caller, &queue, answer),
            "StartExecution" => self.begun(&caller, input, answer),
            "PutObject" => {
                let text = String::from_utf8_lossy(body).into_owned();
                self.archived(&caller, input["Key"].as_str().unwrap_or_default(), &text);
            }
            _ => {}
        }
    }

    /// A message is on a queue.
    pub(crate) fn sent(&mut self, sender: &str, queue: &str, id: &str, entry: &Value) {
        let writes = self.ledger.writes_in(entry["MessageBody"].as_str().unwrap_or_default());
        let delay = entry["DelaySeconds"].as_u64().map(|seconds| format!(", {seconds} s from now"));
        let class = entry["MessageAttributes"]["errorClass"]["StringValue"].as_str();
        let class = class.map(|class| format!(" because of {class}"));
        let (delay, class) = (delay.unwrap_or_default(), class.unwrap_or_default());
        self.ledger.enqueues(id, &writes);
        self.count(format!("sent to {queue}"));
        self.note(writes, format!("{sender} sends {id} to {queue}{delay}{class}"));
    }

    pub(crate) fn received(&mut self, receiver: &str, queue: &str, answer: &Value) {
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
            let id = text("MessageId");
            let millis = message["Attributes"]["SentTimestamp"].as_str();
            let millis = millis.and_then(|millis| millis.parse().ok()).unwrap_or(i64::MAX);
            let sent = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
            self.receipts.insert(text("ReceiptHandle"), (id.clone(), sent));
            let count = &message["Attributes"]["ApproximateReceiveCount"];
            let count = count.as_str().unwrap_or("1");
            let writes = self.ledger.writes_of(&id);
            let text = format!("{receiver} receives {id} from {queue} (receive {count})");
            self.note(writes, text);
        }
    }

    /// A message is confirmed to be deleted.
    pub(crate) fn deleted(&mut self, by: &str, queue: &str, handle: &str) {
        let Some((id, sent)) = self.receipts.get(handle).cloned() else { return };
        let (now, writes) = (self.now(), self.ledger.writes_of(&id));
        let how = format!("{by} deletes {id} from {queue}");
        self.note(writes.clone(), &how);
        self.ledger.dequeues(now, &id, &how);
        if !queue.starts_with("dead") {
            return;
        }
        let today = now.to_zoned(self.time_zone.clone()).start_of_day();
        let is_earlier = today.is_ok_and(|today| sent < today.timestamp());
        if !is_earlier && now.duration_since(sent) < EXPIRES_SOON {
            let words = format!("{how}, which was sent at {sent:.0}");
            self.ledger.violate(Promise::OnlyEarlierDays, now, writes.first().copied(), words);
        }
    }

    fn begun(&mut self, by: &str, input: &Value, answer: &Value) {
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let (name, execution_input, at) = (text("name"), text("input"), self.now());
        if !self.started.insert((name.clone(), answer["startDate"].to_string())) {
            return;
        }
        let writes = self.ledger.writes_in(&execution_input);
        self.count("executions started");
        self.note(writes.clone(), format!("{by} starts {name}"));
        let parsed: Value = serde_json::from_str(&execution_input).unwrap_or_default();
        for write in writes {
            self.ledger.starts(at, &name, &parsed, write);
            let input = execution_input.clone();
            self.starts.push(Start { name: name.clone(), input, write, at });
        }
    }

    fn archived(&mut self, by: &str, key: &str, document: &str) {
        let writes = self.ledger.writes_in(document);
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let class = document["class"].as_str().unwrap_or_default().to_owned();
        self.count(format!("archived {class}"));
        self.note(writes.clone(), format!("{by} archives {key}: {class}"));
        let now = self.now();
        self.ledger.archives(now, key, &class, &writes);
    }
}

fn throttled(operation: &str) -> &'static str {
    match operation {
        "GetObject" | "HeadObject" | "PutObject" => "SlowDown",
        "StartExecution" | "DescribeExecution" => "ThrottlingException",
        _ => "RequestThrottled",
    }
}

/// The gate of a run.
#[derive(Debug)]
pub(crate) struct Border {
    pub(crate) state: Arc<Mutex<State>>,
    /// Told of executions that have to run.
    pub(crate) starts: Arc<Notify>,
}

impl Border {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for Border {
    fn sends(&self, _: &Sent<'_>) -> Trip {
        let mut state = self.state();
        let caller = CALLER.try_with(|caller| *caller).unwrap_or_default();
        let is_late = state.happens(Fault::LateEffect);
        let most = if is_late { Duration::from_secs(20) } else { Duration::from_millis(12) };
        let there = state.between(Duration::from_millis(2), most);
        let back = state.between(Duration::from_millis(2), Duration::from_millis(12));
        Trip { caller, there, back, is_on_its_way: is_late || state.rng.bool() }
    }

    fn arrives(&self, trip: Trip, call: &Sent<'_>, input: &mut Value) -> Way {
        self.state().arrives(trip, call, input)
    }

    fn answers(&self, trip: Trip, call: &Sent<'_>, answer: Result<&mut Value, &str>) -> bool {
        let mut state = self.state();
        let reaches = state.answers(trip, call, answer);
        if !state.starts.is_empty() {
            self.starts.notify_one();
        }
        reaches
    }
}
