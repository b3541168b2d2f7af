//! Starts what the records of one batch hold.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use messages::{Content, ErrorClass, Event, ExecutionInput};
use platform::Pacer;
use tokio::time::{Instant, timeout_at};

use crate::{
    Cause, Consumer, Outcome,
    config::MAX_INPUT_BYTES,
    object,
    record::Record,
    running::{self, Place},
    verdict::Verdict,
};

/// After so many events of a batch have met an unavailable service, the others are not tried. One
/// event may just be unlucky, but each may cost several time-outs, which add up.
const UNAVAILABLE_BEFORE_CLOSING: usize = 2;

/// How long the starts of a batch, or on a FIFO queue that of each event, may wait for their turns
/// while Step Functions throttles, and for their places among what may run. The wait is billed, and
/// what has had neither goes back to the queue, where waiting is free.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// What the records of one batch have in common.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    consumer: &'a Consumer,
    /// When the last start must have been answered.
    start_by: Instant,
    /// When the last start may be tried that has waited for its turn; none on a FIFO queue.
    wait_until: Option<Instant>,
    pacer: Option<Pacer>,
    refusals: Mutex<Refusals>,
}

/// What the services have refused so far for a reason that holds for all.
#[derive(Debug, Default)]
struct Refusals {
    unavailable: usize,
    /// Why no further record of the batch is tried.
    closed: Option<(Cause, String)>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(consumer: &'a Consumer, start_by: Instant) -> Self {
        Self {
            consumer,
            start_by,
            wait_until: (!consumer.work_queue.is_fifo()).then(|| Instant::now() + PATIENCE),
            pacer: consumer.config.start_rate_per_second.map(Pacer::new),
            refusals: Mutex::default(),
        }
    }

    /// Starts the event of a record. One with several events is to be split, so that each has its
    /// own time and its own outcome.
    pub(crate) async fn start(&self, record: &Record<'_>) -> Verdict {
        self.contained(async {
            match (&record.events[..], &record.undecodable) {
                ([], None) => Verdict::Done(Outcome::Empty),
                ([], Some(error)) => Verdict::dead_letter(ErrorClass::Undecodable, error),
                ([event], None) => self.start_event(event).await,
                (_, _) => Verdict::Split,
            }
        })
        .await
    }

    /// Starts the events of a record of a FIFO queue one after the other, up to the first that is
    /// not started now. They are not split, because messages of their own would queue up behind what
    /// is in the group already.
    pub(crate) async fn start_in_order(&self, record: &Record<'_>) -> Verdict {
        self.contained(async {
            let mut poison = record
                .undecodable
                .as_ref()
                .map(|error| Verdict::dead_letter(ErrorClass::Undecodable, error));
            let mut verdict = Verdict::Done(Outcome::Empty);
            for event in &record.events {
                match Box::pin(self.start_event(event)).await {
                    // One new execution makes the message one that started something.
                    Verdict::Done(Outcome::Duplicate)
                        if verdict == Verdict::Done(Outcome::Started) => {}
                    Verdict::DeadLetter { class, reason } => {
                        poison.get_or_insert(Verdict::DeadLetter { class, reason });
                    }
                    ended @ Verdict::Done(Outcome::Started | Outcome::Duplicate) => verdict = ended,
                    stopped => return stopped,
                }
            }
            poison.unwrap_or(verdict)
        })
        .await
    }

    /// Keeps an error, a panic and the deadline from affecting a neighbour. A record that had no
    /// time is deferred like one that got no answer, because otherwise a slow service would use up
    /// its receives.
    async fn contained(&self, starting: impl Future<Output = Verdict>) -> Verdict {
        if Instant::now() >= self.start_by {
            return Verdict::untried(Cause::Unavailable, "not begun before the deadline");
        }
        match timeout_at(self.start_by, AssertUnwindSafe(starting).catch_unwind()).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(panic)) => Verdict::fail(format_args!("panicked: {}", panic_message(&*panic))),
            Err(_) => Verdict::defer(Cause::Unavailable, "not answered before the deadline"),
        }
    }

    async fn start_event(&self, event: &Event) -> Verdict {
        if let Some(verdict) = self.closed() {
            return verdict;
        }
        let verdict = match Box::pin(self.read_and_start(event)).await {
            Ok(outcome) => Verdict::Done(outcome),
            Err(verdict) => verdict,
        };
        match verdict {
            // An object may be gone because all is done: the execution ran, its message was
            // delivered once more, and somebody has deleted the object since.
            Verdict::DeadLetter { .. } => match Box::pin(self.has_execution(event)).await {
                Ok(true) => Verdict::Done(Outcome::Duplicate),
                Ok(false) => verdict,
                Err(unanswered) => unanswered,
            },
            verdict => verdict,
        }
    }

    async fn read_and_start(&self, event: &Event) -> Result<Outcome, Verdict> {
        let Consumer { s3, step_functions, config, pace, .. } = self.consumer;
        // What will have no turn need not be read.
        if pace.is_limited() && self.wait_until.is_some_and(|until| Instant::now() > until) {
            return Err(no_turn());
        }
        // On a FIFO queue, a group that waited before must not use up the time of this one.
        let patience = || self.wait_until.unwrap_or_else(|| Instant::now() + PATIENCE);
        let mut place = self.place(event, patience()).await?;
        let content = match object::read(s3, event, config).await {
            // Other objects may well be readable, unless S3 is away.
            Err(verdict @ Verdict::Defer { cause: Cause::Unavailable, .. }) => {
                return Err(self.remember(verdict));
            }
            read => read?,
        };
        let input = input(event, &content).map_err(Verdict::fail)?;
        let wait_until = patience().min(self.start_by);
        self.turn_under_the_start_rate(self.start_by).await?;
        let mut refusal = None;
        while let Some(turn) = pace.turn_before(wait_until).await {
            // Asked again: a neighbour may have been refused while this one waited.
            if let Some(verdict) = self.closed() {
                return Err(verdict);
            }
            place.iter_mut().for_each(Place::sends);
            let answer = step_functions
                .start_execution()
                .state_machine_arn(&config.state_machine_arn)
                .name(event.execution_name())
                .input(&input)
                .send()
                .await;
            let answer = answer.map_err(|error| Verdict::of_start_error(&error));
            if answer.as_ref().is_err_and(Verdict::is_an_answer) {
                place.iter_mut().for_each(Place::is_refused);
            }
            match answer {
                Ok(_) => {
                    pace.is_granted();
                    return Ok(Outcome::Started);
                }
                // It is tried again when its next turn comes.
                Err(Verdict::Defer { cause: cause @ Cause::Throttled, reason, tried, .. }) => {
                    pace.is_refused(turn);
                    refusal = Some(Verdict::Defer { cause, reason, tried, paced: true });
                    if self.turn_under_the_start_rate(wait_until).await.is_err() {
                        break;
                    }
                }
                Err(Verdict::Done(Outcome::Duplicate)) => {
                    pace.is_granted();
                    return Ok(Outcome::Duplicate);
                }
                Err(verdict) => return Err(self.remember(verdict)),
            }
        }
        Err(refusal.unwrap_or_else(no_turn))
    }

    /// The place that the execution of an event takes of those that may run; none if there is no
    /// limit.
    async fn place(&self, event: &Event, until: Instant) -> Result<Option<Place<'_>>, Verdict> {
        let Consumer { step_functions, config, running, .. } = self.consumer;
        let Some(limit) = config.running_limit else { return Ok(None) };
        let ask = || running::names(step_functions, &config.state_machine_arn, limit);
        running.place(event.execution_name(), limit, until.min(self.start_by), ask).await
    }

    /// Waits for the turn of a call under `START_RATE_PER_SECOND`.
    async fn turn_under_the_start_rate(&self, until: Instant) -> Result<(), Verdict> {
        match &self.pacer {
            Some(pacer) if !pacer.turn_before(until).await => {
                Err(Verdict::untried(Cause::StartRate, "no turn was left before the deadline"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the event has its execution. If nobody can tell (executions of an EXPRESS machine
    /// cannot be asked for, and the role may lack the right), it counts as having none: a needless
    /// dead letter is better than a lost event. If there is no answer now, it is asked again later,
    /// because a letter would say of what has run that it could not.
    async fn has_execution(&self, event: &Event) -> Result<bool, Verdict> {
        let Consumer { step_functions, config, .. } = self.consumer;
        let arn = config.state_machine_arn.replacen(":stateMachine:", ":execution:", 1);
        let arn = format!("{arn}:{}", event.execution_name());
        match step_functions.describe_execution().execution_arn(arn).send().await {
            Ok(_) => Ok(true),
            Err(error) => match Verdict::of_describe_error(&error) {
                unanswered @ Verdict::Defer {
                    cause: Cause::Throttled | Cause::Unavailable, ..
                } => Err(unanswered),
                _ => Ok(false),
            },
        }
    }

    /// Closes the batch for further starts where a refusal holds for all of them.
    fn remember(&self, verdict: Verdict) -> Verdict {
        if let Verdict::Defer { cause, reason, .. } = &verdict {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.unavailable += usize::from(*cause == Cause::Unavailable);
            if *cause != Cause::Unavailable || refusals.unavailable >= UNAVAILABLE_BEFORE_CLOSING {
                refusals.closed.get_or_insert_with(|| (*cause, reason.clone()));
            }
        }
        verdict
    }

    /// The verdict about every further start once the batch is closed: what is refused to all is not
    /// asked for again and again. The groups of a FIFO queue are each tried all the same: there, what is
    /// not tried costs a receive like what is refused.
    fn closed(&self) -> Option<Verdict> {
        if self.consumer.work_queue.is_fifo() {
            return None;
        }
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let (cause, reason) = refusals.closed.clone()?;
        Some(Verdict::untried(cause, reason))
    }
}

fn no_turn() -> Verdict {
    Verdict::Defer {
        cause: Cause::Throttled,
        reason: "no turn was left at the rate that Step Functions allows".to_owned(),
        tried: false,
        paced: true,
    }
}

/// The input of an execution, with as much of the content as fits.
fn input(event: &Event, content: &Content) -> serde_json::Result<String> {
    let whole = ExecutionInput::new(event, content);
    let json = whole.to_json()?;
    if json.len() <= MAX_INPUT_BYTES {
        return Ok(json);
    }
    // The text of its numbers, or a long key, made it too large.
    let json = whole.without_repetition()?.to_json()?;
    if json.len() <= MAX_INPUT_BYTES {
        return Ok(json);
    }
    ExecutionInput::new(event, &Content::ByReference).to_json()
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
