//! The ledger: who holds each write, at every moment, and what was promised about that.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::Value;

/// The class of a letter that is given up because another one of the same write goes on.
const NOT_CURRENT: &str = "NotCurrentAttempt";

/// A promise, by the name under which a violation is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing is acknowledged, deleted or left to expire unless something else holds its writes at
    /// that moment.
    HeldElsewhere,
    /// An execution of a write starts only if all earlier ones of it have ended badly. Not promised
    /// of an EXPRESS machine.
    StartedOnce,
    /// On a FIFO queue, an execution starts only if every message that was put into its group
    /// before, and is still on the queue, has been started or given up.
    InOrder,
    /// An execution gets the content of the write that it is about, or none.
    ItsOwnContent,
    /// No execution name serves two writes.
    OneNameOneWrite,
    /// After quiet time, every write has succeeded or is archived.
    EveryWriteEnds,
    /// No write has both done its work and been archived. One that an execution found to be
    /// overwritten may be archived because its object is gone: both are true. Not promised of an
    /// EXPRESS machine, whose executions cannot be asked for. And two cases are allowed, in which it
    /// must only not be archived after it has done its work: a run may have archived a letter and died
    /// before it deleted it, and another run with another limit, or SQS, which knows of none, may have
    /// put that back; and of two messages of one write, which a run leaves that dies between a send and a
    /// deletion, and which a deletion leaves that does not last, one may be given up while the other
    /// goes on.
    OneEnd,
    /// A write is archived for a reason that is true of it.
    TrueReason,
    /// A run of the redrive takes only letters from before the time that it was asked for: the
    /// nightly one from before today.
    OnlyEarlierLetters,
    /// On a standard queue, an invocation of the consumer that meets nothing worse than refusals,
    /// throttling and silence of S3 and Step Functions acknowledges its whole batch. So no message
    /// moves to the dead-letter queue, of whatever type, because of throttling alone.
    WaitingCostsNoReceive,
    /// With `MaxRunningExecutions`, no more executions run than that and a share of it for each other
    /// consumer. A start that took effect late, or that a person has redriven, does not count.
    RunningBounded,
    /// Beside the messages that ended invocations have left hidden, no more are in flight than
    /// `MaximumConcurrency` × `BatchSize`.
    InFlightBounded,
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub at: Timestamp,
    /// The number of the write, if it is about one.
    pub write: Option<usize>,
    /// What happened, in words.
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, at, words, .. } = self;
        write!(f, "{promise:?}, {at:.0}: {words}")
    }
}

/// What holds a write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// S3 or Lambda, which deliver a notification until a function has succeeded with it.
    Delivery(u64),
    /// A message on a queue, by its id, which stays its own when SQS moves it to another queue.
    Message(String),
    /// An execution that runs or has succeeded, by its name.
    Execution(String),
    /// EventBridge, which delivers the status change of an execution.
    StatusChange(String),
    /// A document of the archive.
    Document(String),
    /// A person who has aborted its execution, or has deleted an object of which nobody knew.
    Person,
    /// The bucket, from which a ledger learns of what was lost on its way.
    Listing,
}

/// What a write was, as only the writer knows.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
    pub(crate) content: Vec<u8>,
    pub(crate) kind: Kind,
    /// Whether the object was deleted or overwritten later on.
    pub(crate) is_gone: bool,
    /// Whether it was deleted when nothing but the bucket knew of it any more.
    pub(crate) is_forgotten: bool,
    /// Whether a message of it has been received again after its deletion was confirmed.
    pub(crate) has_ghost: bool,
    pub(crate) holders: Vec<Holder>,
    pub(crate) executions: Vec<Execution>,
    /// Documents of the archive that it was not restored from, with their error classes.
    pub(crate) archived: Vec<Archived>,
}

/// A document of the archive.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    key: String,
    pub(crate) class: String,
    at: Timestamp,
    /// Whether another message of the write was under way.
    has_twin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    Large,
    NotJson,
    NotAState,
}

#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) name: String,
    started: Timestamp,
    /// Whether it was told that a newer write has replaced the object.
    pub(crate) is_superseded: bool,
    pub(crate) end: Option<End>,
    /// Whether it runs in a way that no consumer could foresee.
    is_unforeseen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    Failed,
    /// A person has decided that it shall not go on.
    Aborted,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Whether the state machine is an EXPRESS one.
    is_express: bool,
    /// Whether `MaxRedrives` was not the same for all that has put letters back.
    pub(crate) has_other_limits: bool,
    pub(crate) writes: Vec<Write>,
    /// The number of a write by its sequencer.
    by_sequencer: BTreeMap<String, usize>,
    /// The same by its version, for what a ledger has found: no listing shows a sequencer.
    by_version: BTreeMap<String, usize>,
    /// The writes of each message that is or was on a queue, and whether it is.
    messages: BTreeMap<String, (Vec<usize>, bool)>,
    /// The write of each execution name.
    names: BTreeMap<String, usize>,
    pub(crate) violations: Vec<Violation>,
}

impl Ledger {
    pub(crate) fn of(is_express: bool) -> Self {
        Self { is_express, ..Self::default() }
    }

    pub(crate) fn writes(&mut self, sequencer: &str, write: Write) -> usize {
        self.by_sequencer.insert(trimmed(sequencer).to_owned(), self.writes.len());
        if let Some(version) = &write.version_id {
            self.by_version.insert(version.clone(), self.writes.len());
        }
        self.writes.push(write);
        self.writes.len() - 1
    }

    /// The writes that a text is about: whose sequencers or versions are in it, however deep. This does not use
    /// Sluice's own decoder, the faults of which it would share.
    pub(crate) fn writes_in(&self, text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        if let Ok(value) = serde_json::from_str(text) {
            self.find(&value, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn find(&self, value: &Value, found: &mut Vec<usize>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if name == "sequencer" => {
                            found.extend(self.by_sequencer.get(trimmed(text)));
                        }
                        Value::String(text) if name == "versionId" => {
                            found.extend(self.by_version.get(text));
                        }
                        value => self.find(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.find(value, found)),
            Value::String(text) if text.starts_with(['{', '[']) => {
                found.extend(self.writes_in(text));
            }
            _ => {}
        }
    }

    pub(crate) fn holds(&mut self, holder: &Holder, writes: &[usize]) {
        for &write in writes {
            let holders = &mut self.writes[write].holders;
            if !holders.contains(holder) {
                holders.push(holder.clone());
            }
        }
    }

    /// Something no longer holds these writes; something else has to.
    pub(crate) fn lets_go(&mut self, at: Timestamp, holder: &Holder, writes: &[usize], how: &str) {
        for &write in writes {
            let holders = &mut self.writes[write].holders;
            let before = holders.len();
            holders.retain(|other| other != holder);
            if holders.len() < before && holders.is_empty() {
                let words = format!("{how}, and nothing else holds {}", self.name(write));
                self.violate(Promise::HeldElsewhere, at, Some(write), words);
            } else if self.writes[write].is_gone {
                self.forgets(write);
            }
        }
    }

    /// A message is on a queue. One that was deleted and whose id a FIFO queue still knows is not.
    pub(crate) fn enqueues(&mut self, id: &str, writes: &[usize]) {
        if !self.messages.contains_key(id) {
            self.messages.insert(id.to_owned(), (writes.to_vec(), true));
            self.holds(&Holder::Message(id.to_owned()), writes);
        }
    }

    /// A message is deleted.
    pub(crate) fn dequeues(&mut self, at: Timestamp, id: &str, how: &str) {
        let Some((writes, is_there)) = self.messages.get_mut(id) else { return };
        if std::mem::replace(is_there, false) {
            let writes = writes.clone();
            self.lets_go(at, &Holder::Message(id.to_owned()), &writes, how);
        }
    }

    /// SQS has made a new message of one.
    pub(crate) fn renames(&mut self, at: Timestamp, old_id: &str, id: &str) {
        let Some((writes, true)) = self.messages.get(old_id).cloned() else { return };
        self.enqueues(id, &writes);
        self.dequeues(at, old_id, &format!("SQS makes {id} of {old_id}"));
    }

    /// A message is received, which may have been deleted before.
    pub(crate) fn shows(&mut self, id: &str) -> Vec<usize> {
        let Some((writes, is_there)) = self.messages.get(id) else { return Vec::new() };
        for &write in writes.iter().filter(|_| !is_there) {
            self.writes[write].has_ghost = true;
        }
        writes.clone()
    }

    pub(crate) fn writes_of(&self, id: &str) -> Vec<usize> {
        self.messages.get(id).map(|(writes, _)| writes.clone()).unwrap_or_default()
    }

    /// An execution is started; late if its caller did not wait for that.
    pub(crate) fn starts(
        &mut self,
        at: Timestamp,
        name: &str,
        input: &Value,
        write: usize,
        is_late: bool,
    ) {
        let base = name.split_once("-r").map_or(name, |(base, _)| base).to_owned();
        let first = *self.names.entry(base).or_insert(write);
        if first != write {
            let words = format!("{} and {} share a name", self.name(first), self.name(write));
            self.violate(Promise::OneNameOneWrite, at, Some(write), words);
        }
        let others = self.writes[write].executions.iter();
        let mut others = others.filter(|other| matches!(other.end, None | Some(End::Succeeded)));
        if let (false, Some(other)) = (self.is_express, others.next()) {
            let end = if other.end.is_some() { "has succeeded" } else { "runs" };
            let words = format!("`{name}` starts although `{}` {end}", other.name);
            self.violate(Promise::StartedOnce, at, Some(write), words);
        }
        if let Some(content) = input["data"].get("content") {
            let own: Option<Value> = serde_json::from_slice(&self.writes[write].content).ok();
            if own.as_ref() != Some(content) {
                let words = format!("`{name}` gets content that is not that of its write");
                self.violate(Promise::ItsOwnContent, at, Some(write), words);
            }
        }
        let is_superseded = input["data"]["overwritten"] == true;
        let execution = Execution {
            name: name.to_owned(),
            started: at,
            is_superseded,
            end: None,
            is_unforeseen: is_late,
        };
        self.writes[write].executions.push(execution);
        self.holds(&Holder::Execution(name.to_owned()), &[write]);
    }

    pub(crate) fn ends(&mut self, at: Timestamp, name: &str, write: usize, end: End) {
        let executions = self.writes[write].executions.iter_mut();
        for execution in executions.filter(|execution| execution.name == name) {
            execution.end = Some(end);
        }
        if end == End::Aborted {
            self.holds(&Holder::Person, &[write]);
        }
        if end != End::Succeeded {
            let how = format!("`{name}` {end:?}");
            self.lets_go(at, &Holder::Execution(name.to_owned()), &[write], &how);
        }
    }

    /// A person has Step Functions redrive an execution that has ended badly.
    pub(crate) fn goes_on(&mut self, name: &str, write: usize) {
        let executions = self.writes[write].executions.iter_mut();
        for execution in executions.filter(|execution| execution.name == name) {
            (execution.end, execution.is_unforeseen) = (None, true);
        }
        self.holds(&Holder::Execution(name.to_owned()), &[write]);
    }

    pub(crate) fn has_started(&self, write: usize, name: &str) -> bool {
        self.writes[write].executions.iter().any(|execution| execution.name == name)
    }

    /// The last attempt of a write that was started.
    pub(crate) fn last_attempt(&self, write: usize) -> Option<u32> {
        let names = self.writes[write].executions.iter().map(|execution| &execution.name);
        names.map(|name| name.split_once("-r").map_or(0, |(_, n)| n.parse().unwrap_or(0))).max()
    }

    /// An object is deleted. If nothing else knew of a write to it, nobody ever will.
    pub(crate) fn forgets(&mut self, write: usize) {
        let write = &mut self.writes[write];
        write.is_gone = true;
        if write.holders == [Holder::Listing] {
            write.is_forgotten = true;
            write.holders = vec![Holder::Person];
        }
    }

    pub(crate) fn open_executions(&self) -> usize {
        let executions = self.writes.iter().flat_map(|write| &write.executions);
        executions.filter(|execution| execution.end.is_none()).count()
    }

    /// The open executions that a consumer could foresee.
    pub(crate) fn foreseen_executions(&self) -> usize {
        let executions = self.writes.iter().flat_map(|write| &write.executions);
        executions.filter(|one| one.end.is_none() && !one.is_unforeseen).count()
    }

    pub(crate) fn archives(&mut self, at: Timestamp, key: &str, class: &str, writes: &[usize]) {
        if class != NOT_CURRENT {
            self.holds(&Holder::Document(key.to_owned()), writes);
        }
        for &write in writes {
            let mut others = self.writes[write].archived.iter();
            if others.any(|other| other.key == key && other.class == class) {
                continue;
            }
            let holders = self.writes[write].holders.iter();
            let messages = holders.filter(|holder| matches!(holder, Holder::Message(_))).count();
            let archived = Archived {
                key: key.to_owned(),
                class: class.to_owned(),
                at,
                has_twin: messages > 1 || self.writes[write].has_ghost,
            };
            self.writes[write].archived.push(archived);
            if !self.writes[write].explains(class) {
                let words = format!("{} is archived as {class}", self.name(write));
                self.violate(Promise::TrueReason, at, Some(write), words);
            }
        }
    }

    /// A document says that it was restored, so it no longer stands for its writes.
    pub(crate) fn restores(&mut self, at: Timestamp, key: &str, writes: &[usize]) {
        for &write in writes {
            self.writes[write].archived.retain(|other| other.key != key);
        }
        let how = format!("{key} is marked as restored");
        self.lets_go(at, &Holder::Document(key.to_owned()), writes, &how);
    }

    /// What has to hold once everything had the time to come to its end.
    pub(crate) fn closes(&mut self, at: Timestamp) {
        for number in 0..self.writes.len() {
            let write = &self.writes[number];
            let is_archived = write.ends_in_archive().next().is_some();
            let is_ended = write.has_succeeded() || write.is_aborted() || write.is_forgotten;
            match (is_ended, is_archived) {
                (false, false) => {
                    let holders = &write.holders;
                    let words = format!("{} has no end; held by {holders:?}", self.name(number));
                    self.violate(Promise::EveryWriteEnds, at, Some(number), words);
                }
                (true, true) if self.has_two_ends(write) => {
                    let words = format!("{} has succeeded and is archived", self.name(number));
                    self.violate(Promise::OneEnd, at, Some(number), words);
                }
                _ => {}
            }
        }
    }

    fn has_two_ends(&self, write: &Write) -> bool {
        !self.is_express
            && write.ends_in_archive().any(|archived| {
                let may_go_on = self.has_other_limits || archived.has_twin;
                write.has_worked(may_go_on.then_some(archived.at))
            })
    }

    pub(crate) fn violate(
        &mut self,
        promise: Promise,
        at: Timestamp,
        write: Option<usize>,
        words: String,
    ) {
        self.violations.push(Violation { promise, at, write, words });
    }

    fn name(&self, write: usize) -> String {
        let Write { key, version_id, .. } = &self.writes[write];
        match version_id {
            Some(id) => format!("write {write} (`{key}`, version {id})"),
            None => format!("write {write} (`{key}`)"),
        }
    }
}

impl Write {
    pub(crate) fn has_succeeded(&self) -> bool {
        self.executions.iter().any(|execution| execution.end == Some(End::Succeeded))
    }

    /// The documents that say that it is given up, and not only one of its letters.
    fn ends_in_archive(&self) -> impl Iterator<Item = &Archived> {
        self.archived.iter().filter(|archived| archived.class != NOT_CURRENT)
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.executions.iter().any(|execution| execution.end == Some(End::Aborted))
    }

    /// Whether an execution has succeeded that was not told that the write is overwritten, and that
    /// was started before this time.
    fn has_worked(&self, before: Option<Timestamp>) -> bool {
        self.executions.iter().any(|execution| {
            execution.end == Some(End::Succeeded)
                && !execution.is_superseded
                && before.is_none_or(|before| execution.started < before)
        })
    }

    /// Whether a write can have been given up under this class.
    fn explains(&self, class: &str) -> bool {
        match class {
            "NotJson" => self.kind == Kind::NotJson,
            "InvalidDeviceState" => self.kind == Kind::NotAState,
            "ObjectMissing" => self.is_gone,
            "States.ItemReaderFailed" => self.is_gone || self.kind == Kind::NotJson,
            // Its executions have failed again and again, or its letter got old.
            "DynamoDB.ResourceNotFoundException"
            | "States.Runtime"
            | "States.Timeout"
            | "TooManyRedrives"
            | "DeferredTooLong"
            | "Expiring" => true,
            NOT_CURRENT => !self.executions.is_empty(),
            _ => false,
        }
    }
}

fn trimmed(sequencer: &str) -> &str {
    sequencer.trim_start_matches('0')
}
