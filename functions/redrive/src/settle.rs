//! Moves the content of letters to where it belongs, and then deletes the letters.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, future, stream};
use messages::{DecodeError, Event};
use platform::SendError;
use tokio::time::timeout_at;

use crate::{
    DeadLetter, Redriver,
    archive::GivenUp,
    canary::{Verdict, Verdicts},
    dead_letters::MAX_MESSAGES,
    fate::{Failure, Fate, Settled},
    met::Standing,
    plan::{Plan, give_up, plan},
    receive::Receiver,
    run::Run,
};

/// What a letter holds.
type Decoded = Vec<Result<Event, DecodeError>>;

/// A letter, and what is to become of it.
pub(crate) type Planned = (DeadLetter, Plan);

/// Planned letters by what their canaries have shown.
#[derive(Debug, Default)]
pub(crate) struct ByVerdict {
    pub(crate) to_do: Vec<Planned>,
    pub(crate) held_back: Vec<Settled>,
    /// Of classes that have had no canaries yet.
    pub(crate) open: Vec<DeadLetter>,
}

impl Receiver<'_> {
    /// Plans for letters. The fate of a letter that cannot have a plan now is recorded.
    pub(crate) async fn plan(&mut self, letters: Vec<DeadLetter>) -> Vec<Planned> {
        let (planned, settled) = self.run.plan(letters).await;
        self.record(settled).await;
        planned
    }

    /// Does what is planned for letters, ten at a time, and records their fates.
    pub(crate) async fn carry_out(&mut self, planned: Vec<Planned>) {
        let mut planned = planned.into_iter().peekable();
        while planned.peek().is_some() {
            let batch = planned.by_ref().take(usize::from(MAX_MESSAGES)).collect();
            let settled = self.run.carry_out(batch, &self.blocked).await;
            self.record(settled).await;
        }
    }
}

impl Run<'_> {
    /// Does what is planned for some letters: asks about failed executions, sends and archives what
    /// the letters hold, and deletes those of which all is confirmed. Returns the fate of each.
    ///
    /// A letter is deleted only after the work queue, the archive, or both have confirmed all that
    /// it holds, or after Step Functions has said that its execution has succeeded. Whatever fails
    /// leaves the letter, and on a FIFO queue those behind it in its group, to the next run: a
    /// repeat is harmless, because ids are deterministic.
    pub(crate) async fn carry_out(
        &self,
        planned: Vec<Planned>,
        blocked: &HashSet<String>,
    ) -> Vec<Settled> {
        let (planned, mut settled) = self.stop_behind(planned, blocked);
        let (planned, ended) = self.ask_executions(planned).await;
        settled.extend(ended);
        if self.selection.dry_run {
            settled.extend(planned.into_iter().map(would_be));
            return settled;
        }
        if !self.has_turn(&planned).await {
            let untried = |(letter, plan): Planned| Settled {
                letter,
                events: plan.events,
                fate: Fate::Untried,
            };
            settled.extend(planned.into_iter().map(untried));
            return settled;
        }
        let moved = self.send_and_archive(&planned).await;
        let confirmed = planned.into_iter().zip(moved).map(|((letter, plan), moved)| {
            let fate = match (moved, plan.archive) {
                (Err(failure), _) => Fate::Failed(failure),
                (Ok(()), None) => Fate::Redriven,
                (Ok(()), Some(reason)) => Fate::Archived(reason),
            };
            Settled { letter, events: plan.events, fate }
        });
        settled.extend(confirmed);
        self.delete(settled).await
    }

    /// The plan for each letter, and the letters that cannot have one now.
    async fn plan(&self, letters: Vec<DeadLetter>) -> (Vec<Planned>, Vec<Settled>) {
        let fifo = self.redriver.work_queue.is_fifo();
        let segments = self.redriver.config.group_key_segments;
        let decoded = future::join_all(letters.iter().map(|letter| self.decode(letter))).await;
        let (mut planned, mut settled) = (Vec::with_capacity(letters.len()), Vec::new());
        for (letter, decoded) in letters.into_iter().zip(decoded) {
            match decoded {
                Ok(decoded) => {
                    let plan = if self.selection.archive {
                        give_up(&letter, decoded)
                    } else {
                        plan(&letter, decoded, self.selection.max_redrives, segments, fifo)
                    };
                    planned.push((letter, plan));
                }
                Err(failure) => settled.push(Settled::undecoded(letter, Fate::Failed(failure))),
            }
        }
        (planned, settled)
    }

    /// What a letter holds. Step Functions leaves a large input out of a status change, so it is
    /// asked for it.
    pub(crate) async fn decode(&self, letter: &DeadLetter) -> Result<Decoded, Failure> {
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
                Ok(Err(error)) => return Err(Failure::InputUnread(error)),
                Err(_) => return Err(Failure::OutOfTime),
            }
        }
        Ok(decoded)
    }

    /// Sorts planned letters by what their canaries have shown. What goes to the archive only needs
    /// no canary. On a FIFO queue, what is behind a letter that waits in its group waits too.
    pub(crate) fn hold_back(&self, planned: Vec<Planned>, verdicts: &Verdicts) -> ByVerdict {
        let fifo = self.redriver.dead_letter_queue.is_fifo();
        let mut waiting: HashMap<String, Verdict> = HashMap::new();
        let mut sorted = ByVerdict::default();
        for (letter, plan) in planned {
            let verdict = match verdicts.of(letter.class()) {
                _ if plan.messages.is_empty() || self.selection.dry_run => Verdict::Follow,
                verdict => verdict,
            };
            let ahead = letter.group_id.as_ref().and_then(|group| waiting.get(group)).copied();
            let verdict = match ahead {
                Some(ahead) if !plan.messages.is_empty() => ahead,
                _ => verdict,
            };
            if let (true, Verdict::HoldBack | Verdict::Open, Some(group)) =
                (fifo, verdict, &letter.group_id)
            {
                waiting.insert(group.clone(), verdict);
            }
            match verdict {
                Verdict::Follow => sorted.to_do.push((letter, plan)),
                Verdict::HoldBack => sorted.held_back.push(Settled {
                    letter,
                    events: plan.events,
                    fate: Fate::HeldBack,
                }),
                Verdict::Open => sorted.open.push(letter),
            }
        }
        sorted
    }

    /// On a FIFO queue, tells the letters that would overtake one that stays.
    fn stop_behind(
        &self,
        planned: Vec<Planned>,
        blocked: &HashSet<String>,
    ) -> (Vec<Planned>, Vec<Settled>) {
        let fifo = self.redriver.dead_letter_queue.is_fifo();
        let (behind, planned): (Vec<_>, Vec<_>) =
            planned.into_iter().partition(|(letter, plan)| {
                let is_blocked =
                    letter.group_id.as_ref().is_some_and(|group| blocked.contains(group));
                fifo && is_blocked && !plan.messages.is_empty()
            });
        let behind = behind.into_iter().map(|(letter, plan)| {
            let fate = Fate::Failed(Failure::NotSent(SendError::Behind));
            Settled { letter, events: plan.events, fate }
        });
        (planned, behind.collect())
    }

    /// Waits until the rate limit allows to send; `false` if the run has to stop before that.
    async fn has_turn(&self, planned: &[Planned]) -> bool {
        let Some(pacer) = &self.pacer else { return true };
        let messages = planned.iter().map(|(_, plan)| plan.messages.len()).sum();
        timeout_at(self.stop_by, pacer.turns(messages)).await.is_ok()
    }

    /// For each plan, whether the work queue has confirmed all its messages.
    async fn send(&self, planned: &[Planned]) -> Vec<Result<(), Failure>> {
        let messages = planned.iter().flat_map(|(_, plan)| plan.messages.iter().cloned()).collect();
        let mut results = self.redriver.work_queue.send(messages, self.end_by).await.into_iter();
        planned
            .iter()
            .map(|(_, plan)| {
                // All of them, whatever comes first: each plan has its own results.
                let results: Vec<_> = results.by_ref().take(plan.messages.len()).collect();
                results.into_iter().collect::<Result<(), _>>().map_err(Failure::NotSent)
            })
            .collect()
    }

    /// For each plan, whether all that it holds is confirmed where it belongs. What goes both ways
    /// is sent first, since its document says what was redriven.
    async fn send_and_archive(&self, planned: &[Planned]) -> Vec<Result<(), Failure>> {
        let (sent, archived) = future::join(self.send(planned), self.archive(planned)).await;
        let mut moved: Vec<Result<(), Failure>> =
            sent.into_iter().zip(archived).map(|(sent, archived)| sent.and(archived)).collect();
        for ((letter, plan), moved) in planned.iter().zip(&mut moved) {
            if let (Ok(()), false, Some(reason)) = (&moved, plan.messages.is_empty(), &plan.archive)
            {
                let events = plan.events.as_slice();
                *moved = self.put(GivenUp { letter, events, redriven: true, reason }).await;
            }
        }
        moved
    }

    /// For each plan, whether the archive has confirmed what goes there and nowhere else.
    async fn archive(&self, planned: &[Planned]) -> Vec<Result<(), Failure>> {
        let puts = planned.iter().map(async |(letter, plan)| match &plan.archive {
            Some(reason) if plan.messages.is_empty() => {
                let events = plan.events.as_slice();
                self.put(GivenUp { letter, events, redriven: false, reason }).await
            }
            _ => Ok(()),
        });
        stream::iter(puts).buffered(usize::from(MAX_MESSAGES)).collect().await
    }

    pub(crate) async fn put(&self, given_up: GivenUp<'_>) -> Result<(), Failure> {
        let Redriver { archive, config, .. } = self.redriver;
        let put = archive.put(given_up, &config.time_zone, self.now);
        match timeout_at(self.end_by, put).await {
            Ok(result) => result.map_err(Failure::NotArchived),
            Err(_) => Err(Failure::OutOfTime),
        }
    }

    /// Deletes the letters that are confirmed elsewhere. Where that is not confirmed, the fate says
    /// so.
    pub(crate) async fn delete(&self, settled: Vec<Settled>) -> Vec<Settled> {
        let (mut done, mut rest): (Vec<Settled>, Vec<Settled>) =
            settled.into_iter().partition(|settled| !settled.fate.stays());
        if done.is_empty() {
            return rest;
        }
        for settled in &mut done {
            let letter = &mut settled.letter;
            self.met.note(&letter.message_id, Standing::Confirmed);
            if let Some(receipt) = self.met.newer_receipt(&letter.message_id) {
                letter.receipt_handle = receipt;
            }
        }
        let receipts: Vec<&str> =
            done.iter().map(|settled| settled.letter.receipt_handle.as_str()).collect();
        let delete = self.redriver.dead_letter_queue.delete(&receipts);
        // Without an answer in time nothing is known to be deleted.
        let mut deleted = timeout_at(self.end_by, delete).await.unwrap_or_default().into_iter();
        for settled in done {
            let is_deleted = deleted.next().unwrap_or(false);
            rest.push(if is_deleted { settled } else { settled.not_deleted() });
        }
        rest
    }

    /// Notes where a letter has come to, for the case that it is shown again.
    pub(crate) fn note(&self, settled: &Settled) {
        let standing =
            if settled.fate.is_confirmed() { Standing::Confirmed } else { Standing::Stays };
        self.met.note(&settled.letter.message_id, standing);
    }
}

/// What a dry run says about a letter.
fn would_be((letter, plan): Planned) -> Settled {
    let fate = plan.archive.map_or(Fate::WouldRedrive, Fate::WouldArchive);
    Settled { letter, events: plan.events, fate }
}
