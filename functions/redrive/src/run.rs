//! One run: receive, decide, send, confirm, and only then delete.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use runtime::Pacer;
use shared::Event;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::{
    DeadLetter, Error, Redriver, Report, Stopped,
    dead_letters::MAX_MESSAGES,
    plan::{Plan, plan},
    request::Selection,
};

/// Receivers at once. One waits for its calls most of the time, some 30 ms for ten messages.
const RECEIVERS: usize = 4;

/// Empty answers in a row after which there is nothing more.
const EMPTY_ANSWERS: usize = 2;

/// Added to the rest of a run: messages stay hidden until the run that holds them is surely over.
const HIDDEN_MARGIN_SECONDS: u64 = 60;

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
    /// What became of each message, by message id: SQS may show a message again.
    fates: HashMap<String, Fate>,
    /// Receipt handles of messages to be released at the end.
    held: Vec<String>,
    /// Messages that receivers may still select under `maxMessages`.
    reserved: u64,
    /// Events that were redriven as canaries, while there are canaries to redrive.
    canaries: Option<Vec<Event>>,
    stopped: Option<Stopped>,
    receive_error: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Confirmed elsewhere.
    Settled,
    /// Left in the dead-letter queue.
    Left,
}

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
        // A FIFO queue shows no further message of a group while one is hidden, and what is
        // received together is sent in order by one receiver.
        let receivers = if self.redriver.dead_letter_queue.is_fifo() { 1 } else { RECEIVERS };
        if self.request.canary_messages > 0 && !self.request.dry_run {
            self.send_canaries().await;
        }
        future::join_all((0..receivers).map(|_| self.receive())).await;
        self.release_held().await;
        let left = self.redriver.dead_letter_queue.depth().await;
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut report = state.report;
        report.stopped = state.stopped.unwrap_or_default();
        match (state.receive_error, report.seen) {
            (Some(error), 0) => return Err(error),
            (Some(error), _) => error!(error = %error, "redrive cut short"),
            (None, _) => {}
        }
        match left {
            Ok(left) => report.left = Some(left),
            Err(error) => warn!(error = %error, "redrive cannot tell what is left"),
        }
        Ok(report)
    }

    /// Redrives a few messages, and stops the run if their executions fail too.
    async fn send_canaries(&self) {
        self.state().canaries = Some(Vec::new());
        self.receive().await;
        let Some(events) = self.state().canaries.take().filter(|events| !events.is_empty()) else {
            return;
        };
        let canary = self.redriver.executions.watch(&events, self.now, self.stop_by).await;
        if canary.died() {
            self.stop(Stopped::Canary);
        }
        self.state().report.canary = Some(canary);
    }

    /// One receiver, until there is a reason to stop.
    async fn receive(&self) {
        let mut empty_answers = 0;
        while empty_answers < EMPTY_ANSWERS {
            let Some(most) = self.reserve() else { return };
            let queue = &self.redriver.dead_letter_queue;
            let letters =
                match timeout_at(self.end_by, queue.receive(most, self.hidden_seconds)).await {
                    Ok(Ok(letters)) => letters,
                    Ok(Err(error)) => {
                        let mut state = self.state();
                        state.stopped = Some(Stopped::ReceiveFailed);
                        state.receive_error = Some(error);
                        return;
                    }
                    Err(_) => return self.stop(Stopped::Deadline),
                };
            empty_answers = if letters.is_empty() { empty_answers + 1 } else { 0 };
            let selected = self.select(letters).await;
            self.state().reserved -= u64::from(most);
            self.settle(selected).await;
        }
    }

    /// How many messages this receiver may receive now; none if the run is over.
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
        let canaries = state.canaries.as_ref().map(|events| events.len() as u64);
        let room = match canaries.map(|sent| self.request.canary_messages.saturating_sub(sent)) {
            Some(0) => return None,
            Some(canaries) => room.min(canaries),
            None => room,
        };
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
            match state.fates.get(&letter.message_id) {
                Some(Fate::Settled) => settled_before.push(letter.receipt_handle),
                Some(Fate::Left) => state.held.push(letter.receipt_handle),
                None => {
                    state.report.seen += 1;
                    state.fates.insert(letter.message_id.clone(), Fate::Left);
                    if letter.sent >= self.request.before {
                        state.report.too_new += 1;
                        state.held.push(letter.receipt_handle);
                    } else if !self.matches(&letter) {
                        state.report.filtered += 1;
                        state.held.push(letter.receipt_handle);
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
            self.redriver.dead_letter_queue.delete(&handles).await;
        }
        selected
    }

    fn matches(&self, letter: &DeadLetter) -> bool {
        let Some(wanted) = &self.request.error_class else { return true };
        let class = letter.attributes.get(shared::ERROR_CLASS);
        class.and_then(|class| class.text.as_ref()) == Some(wanted)
    }

    /// Sends and archives what the letters hold, and deletes those of which all is confirmed.
    async fn settle(&self, letters: Vec<DeadLetter>) {
        if letters.is_empty() {
            return;
        }
        let config = &self.redriver.config;
        let fifo = self.redriver.work_queue.is_fifo();
        let plans: Vec<Plan> = letters
            .iter()
            .map(|letter| plan(letter, self.request.max_redrives, config.group_key_segments, fifo))
            .collect();
        if self.request.dry_run {
            let mut state = self.state();
            for (letter, plan) in letters.iter().zip(&plans) {
                state.count(plan);
                state.held.push(letter.receipt_handle.clone());
            }
            return;
        }
        if let Some(pacer) = &self.pacer {
            let messages = plans.iter().map(|plan| plan.messages.len()).sum();
            if timeout_at(self.stop_by, pacer.turns(messages)).await.is_err() {
                self.stop(Stopped::Deadline);
                // Selected, and not even tried.
                let mut state = self.state();
                state.report.selected -= letters.len() as u64;
                state.report.seen -= letters.len() as u64;
                state.held.extend(letters.into_iter().map(|letter| letter.receipt_handle));
                return;
            }
        }
        let confirmed = future::join(self.send(&plans), self.archive(&letters, &plans)).await;
        let confirmed = confirmed.0.into_iter().zip(confirmed.1).map(|(sent, kept)| sent && kept);
        let (safe, unsafe_): (Vec<_>, Vec<_>) =
            letters.iter().zip(&plans).zip(confirmed).partition(|(_, confirmed)| *confirmed);

        let handles: Vec<&str> =
            safe.iter().map(|((letter, _), _)| letter.receipt_handle.as_str()).collect();
        let deleted = timeout_at(self.end_by, self.redriver.dead_letter_queue.delete(&handles))
            .await
            .unwrap_or_else(|_| vec![false; handles.len()]);

        let mut state = self.state();
        for (((letter, plan), _), deleted) in safe.iter().zip(deleted) {
            state.fates.insert(letter.message_id.clone(), Fate::Settled);
            if let (Some(canaries), None) = (&mut state.canaries, &plan.archive) {
                canaries.extend(plan.events.iter().cloned());
            }
            if deleted {
                state.count(plan);
            } else {
                state.report.failed += 1;
                state.held.push(letter.receipt_handle.clone());
                warn!(message.id = letter.message_id, "redriven or archived, but not deleted");
            }
            report(letter, plan);
        }
        for ((letter, _), _) in unsafe_ {
            state.report.failed += 1;
            state.held.push(letter.receipt_handle.clone());
        }
    }

    /// For each plan, whether the work queue has confirmed all its messages.
    async fn send(&self, plans: &[Plan]) -> Vec<bool> {
        let messages = plans.iter().flat_map(|plan| plan.messages.iter().cloned()).collect();
        let mut results = self.redriver.work_queue.send(messages, self.end_by).await.into_iter();
        plans
            .iter()
            .map(|plan| {
                let mut confirmed = true;
                for (event, result) in
                    plan.events.iter().zip(results.by_ref().take(plan.messages.len()))
                {
                    if let Err(error) = result {
                        error!(event.id = %event.id, error = %error, "not redriven");
                        confirmed = false;
                    }
                }
                confirmed
            })
            .collect()
    }

    /// For each plan, whether the archive has confirmed what goes there.
    async fn archive(&self, letters: &[DeadLetter], plans: &[Plan]) -> Vec<bool> {
        let Redriver { archive, config, .. } = self.redriver;
        let puts = letters.iter().zip(plans).map(async |(letter, plan)| {
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
            let handles: Vec<&str> = handles.iter().map(String::as_str).collect();
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

impl State {
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
