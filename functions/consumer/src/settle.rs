//! Does what the verdicts ask for, and has it confirmed.

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;
use messages::{DEFERRALS, DEFERRED_SINCE, ErrorClass};
use platform::{Attribute, Message};
use tokio::time::Instant;

use crate::{Cause, Consumer, Outcome, record::Record, verdict::Verdict};

/// After so many seconds comes back what had no turn, while others have one.
pub const SOON: RangeInclusive<u64> = 1..=2;

/// What is sent for the records of a batch, each message with the index of its record.
#[derive(Debug, Default)]
struct Outbox {
    to_work_queue: Vec<(usize, Message)>,
    to_dead_letter_queue: Vec<(usize, Message)>,
}

impl Consumer {
    /// Turns verdicts into outcomes. All copies and dead letters of a batch go out together, and a
    /// record has failed if one of its messages is not confirmed.
    pub(crate) async fn settle(
        &self,
        verdicts: Vec<(&Record<'_>, Verdict)>,
        until: Instant,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let mut outbox = Outbox::default();
        let are_some_granted = verdicts.iter().any(|(_, verdict)| {
            matches!(verdict, Verdict::Done(Outcome::Started | Outcome::Duplicate))
        });
        let mut outcomes: Vec<Outcome> = verdicts
            .into_iter()
            .enumerate()
            .map(|(index, (record, verdict))| {
                let verdict = self.expire(record, verdict, now);
                self.pack(&mut outbox, index, record, verdict, (now, are_some_granted))
            })
            .collect();

        let (mut records, to_work_queue): (Vec<_>, Vec<_>) =
            outbox.to_work_queue.into_iter().unzip();
        let (given_up, letters): (Vec<_>, Vec<_>) = outbox.to_dead_letter_queue.into_iter().unzip();
        let (mut answers, of_letters) = futures::join!(
            self.work_queue.send(to_work_queue, until),
            self.dead_letter_queue.send(letters, until)
        );
        records.extend(given_up);
        answers.extend(of_letters);
        for (index, answer) in records.into_iter().zip(answers) {
            if let Err(error) = answer {
                outcomes[index] = unconfirmed(&outcomes[index], &error.to_string());
            }
        }
        outcomes
    }

    /// Ends a deferral that has lasted too long in the dead-letter queue, from where the nightly
    /// redrive takes over. What counts is the time since the first deferral and not the age of the
    /// event, which may have waited for days in a queue that nobody read. And only a record that was
    /// itself refused can expire: its neighbours have not been tried.
    fn expire(&self, record: &Record<'_>, verdict: Verdict, now: Timestamp) -> Verdict {
        let Verdict::Defer { cause, reason, tried: true, .. } = &verdict else { return verdict };
        // A FIFO queue has no copies, and the first receive begins what the first copy begins here.
        let since = if self.work_queue.is_fifo() {
            record.first_received()
        } else {
            record.deferred_since()
        };
        let Some(spent) =
            since.filter(|since| *since <= now).map(|since| now.duration_since(since))
        else {
            return verdict;
        };
        if spent.unsigned_abs() < self.config.max_deferral {
            return verdict;
        }
        Verdict::dead_letter(
            ErrorClass::DeferredTooLong,
            format_args!("{cause} for {} hours: {reason}", spent.as_hours()),
        )
    }

    /// Puts what a verdict asks for into the outbox. Returns the outcome that the record has once
    /// all of it is confirmed.
    fn pack(
        &self,
        outbox: &mut Outbox,
        index: usize,
        record: &Record<'_>,
        verdict: Verdict,
        (now, are_some_granted): (Timestamp, bool),
    ) -> Outcome {
        match verdict {
            Verdict::Done(outcome) => outcome,
            Verdict::DeadLetter { class, reason } => {
                let letter = record.copy().dead_letter(class.as_str(), &reason);
                outbox.to_dead_letter_queue.push((index, letter));
                Outcome::DeadLettered { class, reason }
            }
            // It stays where it is; the answer brings it back.
            Verdict::Defer { cause, reason, .. } if self.work_queue.is_fifo() => {
                Outcome::Failed { reason: format!("{cause}: {reason}") }
            }
            Verdict::Defer { cause, reason, paced, .. } => {
                let (backoff, deferrals) = (&self.config.backoff, record.deferrals());
                let since = record.deferred_since().unwrap_or(now);
                let (delay_seconds, deferrals) = match cause {
                    // While Step Functions grants some starts and refuses others, this is no
                    // back-off: the message only needs another consumer, or this one later, and what
                    // has waited longest must not wait longest again.
                    _ if paced && are_some_granted => (fastrand::u64(SOON), deferrals),
                    Cause::RunningLimit => {
                        let waited = now.duration_since(since);
                        let waited = Duration::try_from(waited).unwrap_or_default();
                        (backoff.for_a_place(waited, fastrand::f64()), deferrals)
                    }
                    _ => (backoff.seconds(deferrals, fastrand::f64()), deferrals.saturating_add(1)),
                };
                let copy = deferred_copy(record, deferrals, delay_seconds, since);
                outbox.to_work_queue.push((index, copy));
                Outcome::Deferred { cause, reason, delay_seconds }
            }
            Verdict::Split => match self.split(record) {
                Ok(messages) => {
                    outbox.to_work_queue.extend(messages.into_iter().map(|one| (index, one)));
                    let Some(reason) = record.undecodable.clone() else {
                        return Outcome::Split { events: record.events.len() };
                    };
                    let class = ErrorClass::Undecodable;
                    let letter = record.copy().dead_letter(class.as_str(), &reason);
                    outbox.to_dead_letter_queue.push((index, letter));
                    Outcome::DeadLettered { class, reason }
                }
                Err(error) => Outcome::Failed { reason: error.to_string() },
            },
        }
    }

    /// A message for each event. The attributes go with each of them, so that the count of redrives
    /// does; the journey of each begins here.
    fn split(&self, record: &Record<'_>) -> Result<Vec<Message>, serde_json::Error> {
        let attributes = record.copy().attributes;
        let one = |event| {
            let mut message = Message::of_event(event, self.config.group_key_segments)?;
            message.attributes.clone_from(&attributes);
            message.begin_journey();
            Ok(message)
        };
        record.events.iter().map(one).collect()
    }
}

/// `deferrals` is what the next back-off is computed from, and `since` when the first one was.
fn deferred_copy(
    record: &Record<'_>,
    deferrals: u64,
    delay_seconds: u64,
    since: Timestamp,
) -> Message {
    let mut copy = record.copy();
    copy.set(DEFERRALS, Attribute::number(deferrals));
    copy.set(DEFERRED_SINCE, Attribute::text(&since.to_string()));
    // At most the 15 minutes that SQS allows.
    copy.delay_seconds = i32::try_from(delay_seconds).ok();
    copy
}

fn unconfirmed(outcome: &Outcome, error: &str) -> Outcome {
    let wanted = match outcome {
        Outcome::DeadLettered { class, reason } => format!("{class} ({reason}), and "),
        Outcome::Deferred { cause, reason, .. } => format!("{cause} ({reason}), and "),
        Outcome::Split { events } => format!("{events} events in one message, and "),
        Outcome::Started | Outcome::Duplicate | Outcome::Empty => String::new(),
        // Another message of the record was refused before.
        Outcome::Failed { reason } => format!("{reason}; "),
    };
    Outcome::Failed { reason: format!("{wanted}{error}") }
}
