//! One run: receive, decide, send, confirm, and only then delete.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use messages::{DecodeError, Event};
use platform::Pacer;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::{
    Canary, DeadLetter, Error, Redriver, Report, Stopped,
    dead_letters::MAX_MESSAGES,
    plan::{Plan, plan},
    request::Selection,
    seen::{Fate, Seen},
};

/// Receivers at once. One waits for its calls most of the time, some 30 ms for ten messages.
const RECEIVERS: usize = 4;

/// Empty answers in a row after which there is nothing more.
const EMPTY_ANSWERS: usize = 2;

/// Added to the rest of a run: messages stay hidden until the run that holds them is surely over.
const HIDDEN_MARGIN_SECONDS: u64 = 60;

/// For the last call of a run whose time is up; within what is kept for the answer.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// SQS hides a message for 12 hours at most.
const MAX_HIDDEN_SECONDS: u64 = 43_200;

pub(crate) struct Run<'a> {
    redriver: &'a Redriver,
    request: &'a Selection,
    now: Timestamp,
    /// Nothing is begun after this.
    stop_by: Instant,
    /// Nothing is under way after this.
    end_by: Instant,
    hidden_seconds: i32,
    pacer: Option<Pacer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: Report,
    seen: Seen,
    /// Receipt handles of messages to be released at the end, some 500 bytes each. SQS hides
    /// 120,000 messages of a queue at a time and no more, so there are never more of these.
    held: Vec<Box<str>>,
    /// Messages that receivers may still select under `maxMessages`.
    reserved: u64,
    /// While there are canaries to send.
    canaries: Option<Canaries>,
    stopped: Option<Stopped>,
    receive_error: Option<Error>,
}

#[derive(Default)]
struct Canaries {
    events: Vec<Event>,
    outcome: Canary,
}

/// One receiver of several, until there is a reason to stop.
struct Receiver<'a> {
    run: &'a Run<'a>,
    empty_answers: usize,
}

/// What a letter holds.
type Decoded = Vec<Result<Event, DecodeError>>;

impl<'a> Run<'a> {
    pub(crate) fn new(
        redriver: &'a Redriver,
        request: &'a Selection,
        now: Timestamp,
        stop_by: Instant,
        end_by: Instant,
    ) -> Self {
        let left = end_by.saturating_duration_since(Instant::now()).as_secs();
        let hidden = (left + HIDDEN_MARGIN_SECONDS).min(MAX_HIDDEN_SECONDS);
        let report = Report {
            dry_run: request.dry_run,
            before: request.before.to_string(),
            ..Report::default()
        };
        Self {
            redriver,
            request,
            now,
            stop_by,
            end_by,
            hidden_seconds: i32::try_from(hidden).unwrap_or(i32::MAX),
            pacer: request.max_per_second.map(Pacer::new),
            state: Mutex::new(State { report, ..State::default() }),
        }
    }

    /// The whole run. An error only if nothing could be received at all.
    pub(crate) async fn finish(self) -> Result<Report, Error> {
        if self.request.canary_messages > 0 && !self.request.dry_run {
            self.send_canaries().await;
        }
        // A FIFO queue shows no further message of a group while one is hidden, and what is
        // received together is sent in order by one receiver.
        let receivers = if self.redriver.dead_letter_queue.is_fifo() { 1 } else { RECEIVERS };
        future::join_all((0..receivers).map(|_| self.receive())).await;
        self.release_held().await;
        let left = self.left().await;
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut report = state.report;
        report.stopped = state.stopped.unwrap_or_default();
        report.moved_nothing =
            report.dry_run || (report.redriven == 0 && report.archived.is_empty());
        match (state.receive_error, report.seen) {
            (Some(error), 0) => return Err(error),
            (Some(error), _) => error!(error = %error, "redrive cut short"),
            (None, _) => {}
        }
        report.left = left;
        Ok(report)
    }

    /// About how many messages are left in the dead-letter queue. The report must not be late for
    /// it.
    async fn left(&self) -> Option<u64> {
        let until = self.end_by.max(Instant::now() + LAST_LOOK);
        match timeout_at(until, self.redriver.dead_letter_queue.depth()).await {
            Ok(Ok(left)) => return Some(left),
            Ok(Err(error)) => warn!(error = %error, "redrive cannot tell what is left"),
            Err(_) => warn!("redrive was not told in time what is left"),
        }
        None
    }

    /// Redrives a few messages, and stops the run if they come to nothing too.
    async fn send_canaries(&self) {
        self.state().canaries = Some(Canaries::default());
        let mut receiver = self.receiver();
        // Received beyond what canaries were wanted.
        let mut waiting = Vec::new();
        while let wanted @ 1.. = self.canaries_wanted() {
            if waiting.is_empty() {
                match receiver.next().await {
                    Some(letters) => waiting = letters,
                    None => break,
                }
            }
            let rest = waiting.split_off(waiting.len().min(wanted));
            self.settle(std::mem::replace(&mut waiting, rest)).await;
        }
        let Canaries { events, outcome: mut canary } =
            self.state().canaries.take().unwrap_or_default();
        if !events.is_empty() {
            canary.watch(&self.redriver.executions, &events, self.now, self.stop_by).await;
        }
        if canary.died() {
            self.stop(Stopped::Canary);
        }
        if canary != Canary::default() {
            self.state().report.canary = Some(canary);
        }
        if Instant::now() >= self.stop_by {
            self.stop(Stopped::Deadline);
        }
        if matches!(self.state().stopped, Some(Stopped::Canary | Stopped::Deadline)) {
            self.put_back(waiting);
        } else {
            self.settle(waiting).await;
        }
    }

    fn canaries_wanted(&self) -> usize {
        let state = self.state();
        let tried = state
            .canaries
            .as_ref()
            .map_or(0, |canaries| canaries.events.len() as u64 + canaries.outcome.refused);
        usize::try_from(self.request.canary_messages.saturating_sub(tried)).unwrap_or(usize::MAX)
    }

    fn receiver(&self) -> Receiver<'_> {
        Receiver { run: self, empty_answers: 0 }
    }

    async fn receive(&self) {
        let mut receiver = self.receiver();
        while let Some(letters) = receiver.next().await {
            self.settle(letters).await;
        }
    }

    /// How many messages a receiver may receive now; none if the run is over.
    fn reserve(&self) -> Option<u8> {
        let mut state = self.state();
        if state.stopped.is_some() {
            return None;
        }
        if Instant::now() >= self.stop_by {
            state.stopped = Some(Stopped::Deadline);
            return None;
        }
        let max = self.request.max_messages.unwrap_or(u64::MAX);
        let room = max.saturating_sub(state.report.selected + state.reserved);
        if room == 0 {
            // What others have reserved they may not need; the last of them goes on.
            if state.reserved == 0 {
                state.stopped = Some(Stopped::MaxMessages);
            }
            return None;
        }
        let most = u8::try_from(room).unwrap_or(MAX_MESSAGES).min(MAX_MESSAGES);
        state.reserved += u64::from(most);
        Some(most)
    }

    fn stop(&self, why: Stopped) {
        self.state().stopped.get_or_insert(why);
    }

    /// Sorts out what is not this run's business, counting each message once.
    async fn select(&self, letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
        let mut selected = Vec::with_capacity(letters.len());
        let mut settled_before = Vec::new();
        for letter in letters {
            let mut state = self.state();
            match state.seen.fate(&letter.message_id) {
                Some(Fate::Settled) => settled_before.push(letter.receipt_handle),
                Some(Fate::Left) => state.hold(&letter),
                None => {
                    state.report.seen += 1;
                    state.seen.note(&letter.message_id, Fate::Left);
                    if letter.sent >= self.request.before {
                        state.report.too_new += 1;
                        state.hold(&letter);
                    } else if !self.matches(&letter) {
                        state.report.filtered += 1;
                        state.hold(&letter);
                    } else {
                        state.report.selected += 1;
                        selected.push(letter);
                    }
                }
            }
        }
        if !settled_before.is_empty() {
            // Confirmed elsewhere earlier in this run; only its deletion was not.
            let handles: Vec<&str> = settled_before.iter().map(String::as_str).collect();
            let delete = self.redriver.dead_letter_queue.delete(&handles);
            if timeout_at(self.end_by, delete).await.is_err() {
                warn!("what was confirmed earlier could not be deleted in time");
            }
        }
        selected
    }

    fn matches(&self, letter: &DeadLetter) -> bool {
        let Some(wanted) = &self.request.error_class else { return true };
        let class = letter.attributes.get(messages::ERROR_CLASS);
        class.and_then(|class| class.text.as_ref()) == Some(wanted)
    }

    /// Takes a selection back that was not even tried.
    fn put_back(&self, letters: Vec<DeadLetter>) {
        let mut state = self.state();
        for letter in letters {
            state.report.selected -= 1;
            state.report.seen -= 1;
            state.seen.forget(&letter.message_id);
            state.hold(&letter);
        }
    }

    /// Sends and archives what the letters hold, and deletes those of which all is confirmed.
    async fn settle(&self, letters: Vec<DeadLetter>) {
        let config = &self.redriver.config;
        let fifo = self.redriver.work_queue.is_fifo();
        let decoded = future::join_all(letters.iter().map(|letter| self.decode(letter))).await;
        let mut plans = Vec::with_capacity(letters.len());
        for (letter, decoded) in letters.into_iter().zip(decoded) {
            let Some(decoded) = decoded else {
                self.state().leave(&letter);
                continue;
            };
            let segments = config.group_key_segments;
            let plan = plan(&letter, decoded, self.request.max_redrives, segments, fifo);
            plans.push((letter, plan));
        }
        if self.request.dry_run {
            let mut state = self.state();
            for (letter, plan) in &plans {
                state.count(plan);
                state.hold(letter);
            }
            return;
        }
        if let Some(pacer) = &self.pacer {
            let messages = plans.iter().map(|(_, plan)| plan.messages.len()).sum();
            if timeout_at(self.stop_by, pacer.turns(messages)).await.is_err() {
                self.stop(Stopped::Deadline);
                return self.put_back(plans.into_iter().map(|(letter, _)| letter).collect());
            }
        }
        let confirmed = future::join(self.send(&plans), self.archive(&plans)).await;
        let confirmed = confirmed.0.into_iter().zip(confirmed.1).map(|(sent, kept)| sent && kept);
        let (safe, unsafe_): (Vec<_>, Vec<_>) =
            plans.iter().zip(confirmed).partition(|(_, confirmed)| *confirmed);
        for ((letter, _), _) in unsafe_ {
            self.state().leave(letter);
        }
        self.delete(&safe.into_iter().map(|(moved, _)| moved).collect::<Vec<_>>()).await;
    }

    /// What a letter holds. None if that cannot be told now.
    async fn decode(&self, letter: &DeadLetter) -> Option<Decoded> {
        let mut decoded = Vec::new();
        for event in messages::decode(&letter.body) {
            let arn = event.as_ref().err().and_then(|error| error.input_left_out_of.as_deref());
            let Some(arn) = arn else {
                decoded.push(event);
                continue;
            };
            let input = self.redriver.executions.input_of(arn);
            match timeout_at(self.end_by, input).await {
                Ok(Ok(Some(input))) => decoded.extend(messages::decode_failed_input(&input)),
                // It will not come back: what there is goes to the archive.
                Ok(Ok(None)) => decoded.push(event),
                Ok(Err(error)) => {
                    error!(message.id = letter.message_id, error, "execution's input not read");
                    return None;
                }
                Err(_) => return None,
            }
        }
        Some(decoded)
    }

    /// Deletes what is confirmed elsewhere.
    async fn delete(&self, moved: &[&(DeadLetter, Plan)]) {
        if moved.is_empty() {
            return;
        }
        let handles: Vec<&str> =
            moved.iter().map(|(letter, _)| letter.receipt_handle.as_str()).collect();
        let deleted = timeout_at(self.end_by, self.redriver.dead_letter_queue.delete(&handles))
            .await
            .unwrap_or_else(|_| vec![false; handles.len()]);
        let mut state = self.state();
        for ((letter, plan), deleted) in moved.iter().zip(deleted) {
            state.seen.note(&letter.message_id, Fate::Settled);
            if let (Some(canaries), None) = (&mut state.canaries, &plan.archive) {
                canaries.events.extend(plan.events.iter().cloned());
            }
            if deleted {
                state.count(plan);
            } else {
                state.leave(letter);
                warn!(message.id = letter.message_id, "redriven or archived, but not deleted");
            }
            report(letter, plan);
        }
    }

    /// For each plan, whether the work queue has confirmed all its messages.
    async fn send(&self, plans: &[(DeadLetter, Plan)]) -> Vec<bool> {
        let messages = plans.iter().flat_map(|(_, plan)| plan.messages.iter().cloned()).collect();
        let mut results = self.redriver.work_queue.send(messages, self.end_by).await.into_iter();
        plans
            .iter()
            .map(|(_, plan)| {
                let mut refusal = None;
                for (event, result) in
                    plan.events.iter().zip(results.by_ref().take(plan.messages.len()))
                {
                    if let Err(error) = result {
                        error!(event.id = %event.id, error = %error, "not redriven");
                        refusal = Some(error);
                    }
                }
                if let (Some(canaries), Some(error)) = (&mut self.state().canaries, &refusal) {
                    canaries.outcome.refuse(error);
                }
                refusal.is_none()
            })
            .collect()
    }

    /// For each plan, whether the archive has confirmed what goes there.
    async fn archive(&self, plans: &[(DeadLetter, Plan)]) -> Vec<bool> {
        let Redriver { archive, config, .. } = self.redriver;
        let puts = plans.iter().map(async |(letter, plan)| {
            let Some(reason) = &plan.archive else { return true };
            let put = archive.put(letter, &plan.events, reason, &config.time_zone, self.now);
            match timeout_at(self.end_by, put).await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    error!(message.id = letter.message_id, error = %error, "not archived");
                    false
                }
                Err(_) => false,
            }
        });
        stream::iter(puts).buffered(usize::from(MAX_MESSAGES)).collect().await
    }

    /// Makes visible what was left alone.
    async fn release_held(&self) {
        let held = std::mem::take(&mut self.state().held);
        let calls = held.chunks(usize::from(MAX_MESSAGES)).map(async |handles| {
            let handles: Vec<&str> = handles.iter().map(AsRef::as_ref).collect();
            let release = self.redriver.dead_letter_queue.release(&handles);
            let released = timeout_at(self.end_by, release).await.unwrap_or_default();
            released.iter().filter(|released| **released).count() as u64
        });
        let released: u64 =
            stream::iter(calls).buffered(RECEIVERS).fold(0, async |sum, n| sum + n).await;
        self.state().report.released = released;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver<'_> {
    /// What is selected of the next messages. None if there is a reason to stop.
    async fn next(&mut self) -> Option<Vec<DeadLetter>> {
        let run = self.run;
        while self.empty_answers < EMPTY_ANSWERS {
            let most = run.reserve()?;
            let queue = &run.redriver.dead_letter_queue;
            let letters = timeout_at(run.end_by, queue.receive(most, run.hidden_seconds)).await;
            let letters = match letters {
                Ok(Ok(letters)) => letters,
                Ok(Err(error)) => {
                    let mut state = run.state();
                    state.stopped = Some(Stopped::ReceiveFailed);
                    state.receive_error = Some(error);
                    return None;
                }
                Err(_) => {
                    run.stop(Stopped::Deadline);
                    return None;
                }
            };
            self.empty_answers = if letters.is_empty() { self.empty_answers + 1 } else { 0 };
            let selected = run.select(letters).await;
            run.state().reserved -= u64::from(most);
            if !selected.is_empty() {
                return Some(selected);
            }
        }
        None
    }
}

impl State {
    fn hold(&mut self, letter: &DeadLetter) {
        self.held.push(letter.receipt_handle.as_str().into());
    }

    /// Leaves a letter for the next run, since not all is confirmed.
    fn leave(&mut self, letter: &DeadLetter) {
        self.report.failed += 1;
        self.hold(letter);
    }

    /// Counts a message that is, or in a dry run would be, where its plan says.
    fn count(&mut self, plan: &Plan) {
        match &plan.archive {
            Some(reason) => *self.report.archived.entry(reason.class.clone()).or_default() += 1,
            None => self.report.redriven += 1,
        }
    }
}

fn report(letter: &DeadLetter, plan: &Plan) {
    let event = plan.events.first();
    let id = event.map(|event| event.id.as_str());
    let key = event.map(|event| event.data.key.as_str());
    let receives = letter.receive_count;
    let message = &letter.message_id;
    if let Some(reason) = &plan.archive {
        warn!(
            event.id = id,
            object.key = key,
            message.id = message,
            message.receive_count = receives,
            error.class = reason.class,
            error = reason.message,
            "archived"
        );
    } else {
        info!(
            event.id = id,
            object.key = key,
            message.id = message,
            message.receive_count = receives,
            "redriven"
        );
    }
}
