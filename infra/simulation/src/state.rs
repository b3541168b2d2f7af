//! The state of a run, and the gate at which it decides about every call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use testing::{Gate, Moved, Sent, Trip, Way};
use tokio::{sync::Notify, time::Instant};

use crate::{
    Fault, Plan,
    lambda::BATCH_SIZE,
    ledger::{Ledger, Promise},
    nights::SETTLED,
    order::Order,
    setting::Setting,
    world::CONCURRENCY,
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

/// A call that is under way for longer may take effect when its caller has given up.
const LATE: Duration = Duration::from_secs(1);

/// For how long `DescribeExecution` may not know of something. AWS gives no figure.
const EVENTUALLY: SignedDuration = SignedDuration::from_secs(5);

/// An invocation of a function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    pub(crate) function: &'static str,
    pub(crate) writes: Vec<usize>,
    /// A run of the redrive may take letters from before this.
    pub(crate) takes_before: Option<Timestamp>,
    /// Whether more has happened to its calls than that S3 or Step Functions make it wait.
    pub(crate) is_hurt: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) start: Timestamp,
    epoch: Instant,
    /// Faults happen before this.
    pub(crate) quiet_from: Timestamp,
    pub(crate) setting: Setting,
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
    /// The bucket of the quota for starts, and when it was looked at.
    tokens: (f64, Timestamp),
    /// When something last happened to an execution, by its name.
    news: BTreeMap<String, Timestamp>,
    pub(crate) order: Order,
    /// Receives of a message that ended in something other than waiting, by its id.
    pub(crate) hurt_receives: BTreeMap<String, u32>,
    /// Until when messages may stay hidden that ended invocations have not acknowledged, by id.
    pub(crate) left_hidden: BTreeMap<String, Timestamp>,
    /// Runs of the redrive that are under way.
    pub(crate) redrives: u32,
    /// Whether people have had SQS move letters, which asks nobody, or Step Functions redrive. They
    /// do not do both.
    pub(crate) has_moved: bool,
    /// When an operator makes a ledger of all writes: after a loss, and once a month.
    pub(crate) ledger_due: Option<Timestamp>,
    pub(crate) has_redriven_natively: bool,
    /// When environments of the consumer died.
    environments_lost: Vec<Timestamp>,
    /// Entries that were taken out of the batch that is being served, with what is said of them.
    cut: Vec<(Value, Fault)>,
}

impl State {
    pub(crate) fn new(rng: Rng, plan: &Plan, setting: Setting) -> Self {
        let start = setting.start;
        let time_zone = TimeZone::get(setting.time_zone).unwrap_or(TimeZone::UTC);
        let busy = SignedDuration::from_hours(24) * i32::try_from(plan.busy_nights()).unwrap_or(1);
        Self {
            plan: plan.clone(),
            rng,
            start,
            epoch: Instant::now(),
            quiet_from: start + busy,
            tokens: (setting.quota.bucket, start),
            ledger: Ledger::of(setting.is_express),
            setting,
            time_zone,
            outages: Vec::new(),
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
            news: BTreeMap::new(),
            order: Order::default(),
            hurt_receives: BTreeMap::new(),
            left_hidden: BTreeMap::new(),
            redrives: 0,
            has_moved: false,
            ledger_due: Some(start + busy + SETTLED),
            has_redriven_natively: false,
            environments_lost: Vec::new(),
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

    pub(crate) fn happens_with(&mut self, fault: Fault, share: f64) -> bool {
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
    pub(crate) fn enters(&mut self, caller: Caller) -> u64 {
        self.last_caller += 1;
        self.callers.insert(self.last_caller, caller);
        self.last_caller
    }

    /// An invocation has ended; whether it was hurt. Calls of its that are on their way still tell
    /// of it.
    pub(crate) fn leaves(&mut self, caller: u64) -> bool {
        self.crashed.remove(&caller);
        self.dies_behind.remove(&caller);
        self.callers.get(&caller).is_some_and(|caller| caller.is_hurt)
    }

    /// More happens to an invocation than that it has to wait.
    fn hurts(&mut self, caller: u64) {
        if let Some(caller) = self.callers.get_mut(&caller) {
            caller.is_hurt = true;
        }
    }

    fn caller(&self, trip: Trip) -> (String, Vec<usize>) {
        let Some(Caller { function, writes, .. }) = self.callers.get(&trip.caller) else {
            return ("somebody".to_owned(), Vec::new());
        };
        (format!("{function} #{}", trip.caller), writes.clone())
    }

    fn notes_fault(&mut self, trip: Trip, operation: &str, fault: Fault) {
        if operation == "SendMessageBatch" || matches!(fault, Fault::Crash | Fault::Panic) {
            self.hurts(trip.caller);
        }
        let (caller, mut writes) = self.caller(trip);
        writes.truncate(20);
        self.note(writes, format!("{caller}: {operation}: {}", fault.name()));
    }

    fn arrives(&mut self, trip: Trip, call: &Sent<'_>, input: &mut Value) -> Way {
        self.cut.clear();
        let operation = call.operation;
        if let Some(code) = self.exceeds_quota(operation) {
            self.notes_fault(trip, operation, Fault::Quota);
            return Way::Fails(code.to_owned());
        }
        if operation == "DescribeExecution"
            && self.is_news(input)
            && self.happens(Fault::NotYetKnown)
        {
            self.notes_fault(trip, operation, Fault::NotYetKnown);
            return Way::Fails("ExecutionDoesNotExist".to_owned());
        }
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

    /// The error of a start that the quotas do not allow.
    fn exceeds_quota(&mut self, operation: &str) -> Option<&'static str> {
        if operation != "StartExecution" || !self.plan.faults.contains(&Fault::Quota) {
            return None;
        }
        let (quota, now) = (self.setting.quota, self.now());
        let (tokens, since) = self.tokens;
        let refilled = now.duration_since(since).as_secs_f64() * quota.refill;
        let tokens = (tokens + refilled).min(quota.bucket);
        let is_throttled = tokens < 1.0;
        self.tokens = (if is_throttled { tokens } else { tokens - 1.0 }, now);
        let is_full = self.ledger.open_executions() >= quota.open;
        if is_throttled || is_full {
            *self.faults.entry(Fault::Quota).or_default() += 1;
        }
        match (is_throttled, is_full) {
            (true, _) => Some("ThrottlingException"),
            (false, true) => Some("ExecutionLimitExceeded"),
            (false, false) => None,
        }
    }

    /// Something has happened to an execution.
    pub(crate) fn tells(&mut self, name: &str) {
        self.news.insert(name.to_owned(), self.now());
    }

    fn is_news(&self, input: &Value) -> bool {
        let arn = input["executionArn"].as_str().unwrap_or_default();
        let name = arn.rsplit_once(':').map_or("", |(_, name)| name);
        self.news.get(name).is_some_and(|at| self.now().duration_since(*at) < EVENTUALLY)
    }

    /// Takes entries out of a batch.
    fn cuts(&mut self, trip: Trip, call: &Sent<'_>, input: &mut Value, storm: f64) -> Way {
        let Some(entries) = call.input["Entries"].as_array() else { return Way::Through };
        let mut faults = vec![Fault::RejectedEntry, Fault::IgnoredEntry];
        let is_fifo = input["QueueUrl"].as_str().is_some_and(platform::is_fifo);
        if call.operation == "DeleteMessageBatch" && !is_fifo {
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
                    self.sent(&caller, &queue, success, &entry);
                }
            }
            "DeleteMessageBatch" => {
                for success in &confirmed {
                    let entry = entry_of(&success["Id"]);
                    let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
                    let caller_before = self.callers.get(&trip.caller);
                    let before = caller_before.and_then(|caller| caller.takes_before);
                    self.deleted(&caller, &queue, handle, before);
                }
            }
            "ReceiveMessage" => self.received(&caller, &queue, answer),
            "StartExecution" => self.begun(&caller, input, answer, trip.there > LATE),
            "PutObject" => {
                let key = input["Key"].as_str().unwrap_or_default();
                // Ledgers are there as well.
                if key.starts_with("dead-letters/") {
                    self.archived(&caller, key, &String::from_utf8_lossy(body));
                }
            }
            _ => {}
        }
    }

    /// A message is on a queue. `success` is what SQS says about its entry.
    pub(crate) fn sent(&mut self, sender: &str, queue: &str, success: &Value, entry: &Value) {
        let id = success["MessageId"].as_str().unwrap_or_default();
        let body = entry["MessageBody"].as_str().unwrap_or_default();
        let (writes, now) = (self.ledger.writes_in(body), self.now());
        if queue.starts_with("dead") && sender.starts_with("consumer") {
            self.order.gives_up(&writes, now);
        }
        let number = success["SequenceNumber"].as_str().and_then(|number| number.parse().ok());
        if let (true, Some(number)) = (queue.starts_with("work"), number) {
            let group = entry["MessageGroupId"].as_str().unwrap_or_default();
            self.order.enters(number, id, group, body, (&writes, now));
        }
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
            let writes = self.ledger.shows(&id);
            let text = format!("{receiver} receives {id} from {queue} (receive {count})");
            self.note(writes, text);
        }
    }

    /// SQS itself has moved a message to another queue.
    pub(crate) fn moved(&mut self, moved: &Moved) {
        let Moved { old_id, id, to, .. } = moved;
        let (now, writes) = (self.now(), self.ledger.writes_of(old_id));
        self.note(writes.clone(), format!("SQS moves {old_id} to {to} as {id}"));
        let is_back = to.starts_with("work");
        self.order.moves(moved, is_back, now);
        if old_id != id {
            self.ledger.renames(now, old_id, id);
        }
        if !is_back && !self.hurt_receives.contains_key(old_id) {
            let words = format!("{old_id} has moved to {to}, and its receives only had to wait");
            let write = writes.first().copied();
            self.ledger.violate(Promise::WaitingCostsNoReceive, now, write, words);
        }
    }

    /// A message is confirmed to be deleted, by somebody who may take letters from before a time.
    pub(crate) fn deleted(
        &mut self,
        by: &str,
        queue: &str,
        handle: &str,
        before: Option<Timestamp>,
    ) {
        let Some((id, sent)) = self.receipts.get(handle).cloned() else { return };
        let (now, writes) = (self.now(), self.ledger.writes_of(&id));
        let how = format!("{by} deletes {id} from {queue}");
        self.note(writes.clone(), &how);
        self.ledger.dequeues(now, &id, &how);
        self.order.leaves(&id);
        if !queue.starts_with("dead") {
            return;
        }
        let is_earlier = before.is_some_and(|before| sent < before);
        if !is_earlier && now.duration_since(sent) < EXPIRES_SOON {
            let words = format!("{how}, which was sent at {sent:.0}");
            self.ledger.violate(Promise::OnlyEarlierLetters, now, writes.first().copied(), words);
        }
    }

    /// An environment of the consumer is gone, and with it what it knew of its last starts.
    pub(crate) fn has_lost_an_environment(&mut self) {
        self.environments_lost.push(self.now());
    }

    fn bounds_running(&mut self, write: usize, started: &str) {
        let most = self.setting.max_running;
        if most == 0 {
            return;
        }
        let now = self.now();
        self.environments_lost.retain(|at| now.duration_since(*at) < EVENTUALLY);
        let others = CONCURRENCY as usize - 1 + self.environments_lost.len();
        let share = most.div_ceil(CONCURRENCY as usize).min(BATCH_SIZE);
        let running = self.ledger.foreseen_executions();
        if running > most + others * share {
            let words = format!("with `{started}`, {running} executions run, and {most} may");
            self.ledger.violate(Promise::RunningBounded, now, Some(write), words);
        }
    }

    fn begun(&mut self, by: &str, input: &Value, answer: &Value, is_late: bool) {
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let (name, execution_input, at) = (text("name"), text("input"), self.now());
        let arn = answer["executionArn"].to_string();
        if !self.started.insert((arn, answer["startDate"].to_string())) {
            return;
        }
        self.tells(&name);
        let writes = self.ledger.writes_in(&execution_input);
        self.count("executions started");
        self.note(writes.clone(), format!("{by} starts {name}"));
        let parsed: Value = serde_json::from_str(&execution_input).unwrap_or_default();
        for write in writes {
            // An EXPRESS machine may start again, late, what was started in its turn.
            let is_again = self.ledger.has_started(write, &name);
            if !is_again && let Some(other) = self.order.overtaken_by(write, &self.ledger) {
                let words = format!("`{name}` starts before write {other}, which was sent before");
                self.ledger.violate(Promise::InOrder, at, Some(write), words);
            }
            self.ledger.starts(at, &name, &parsed, write, is_late);
            self.bounds_running(write, &name);
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
        if document["restoredAt"].is_string() {
            self.ledger.restores(now, key, &writes);
        } else {
            self.ledger.archives(now, key, &class, &writes);
        }
    }
}

fn throttled(operation: &str) -> &'static str {
    match operation {
        "GetObject" | "HeadObject" | "PutObject" | "ListObjectVersions" | "ListObjectsV2" => {
            "SlowDown"
        }
        "StartExecution" | "DescribeExecution" | "ListExecutions" => "ThrottlingException",
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
    fn sends(&self, call: &Sent<'_>) -> Trip {
        let mut state = self.state();
        let caller = CALLER.try_with(|caller| *caller).unwrap_or_default();
        let is_late = state.happens(Fault::LateEffect);
        if is_late && call.operation == "SendMessageBatch" {
            state.hurts(caller);
        }
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
