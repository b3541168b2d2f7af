//! Moves the content of letters to where it belongs, and then deletes the letters.

use futures::{StreamExt, future, stream};
use shared::{DecodeError, Event};
use tokio::time::timeout_at;

use crate::{
    DeadLetter, Redriver,
    dead_letters::MAX_MESSAGES,
    fate::{Failure, Fate, Settled},
    plan::{Plan, plan},
    run::Run,
};

/// What a letter holds.
type Decoded = Vec<Result<Event, DecodeError>>;

impl Run<'_> {
    /// Decides about letters, sends and archives what they hold, and deletes those of which all is
    /// confirmed. Returns the fate of each letter.
    ///
    /// A letter is deleted only after the work queue, the archive, or both have confirmed all that
    /// it holds. Whatever fails leaves the letter, and only this letter, to the next run: a repeat
    /// is harmless, because ids are deterministic.
    pub(crate) async fn settle(&self, letters: Vec<DeadLetter>) -> Vec<Settled> {
        let (planned, mut settled) = self.plan(letters).await;
        if self.selection.dry_run {
            settled.extend(planned.into_iter().map(would_be));
            return settled;
        }
        if !self.has_turn(&planned).await {
            settled.extend(planned.into_iter().map(|(letter, plan)| Settled {
                letter,
                events: plan.events,
                fate: Fate::Untried,
            }));
            return settled;
        }
        let (sent, archived) = future::join(self.send(&planned), self.archive(&planned)).await;
        let moved: Vec<Result<(), Failure>> =
            sent.into_iter().zip(archived).map(|(sent, archived)| sent.and(archived)).collect();
        let deleted = self.delete(&planned, &moved).await;
        for (((letter, plan), moved), deleted) in planned.into_iter().zip(moved).zip(deleted) {
            let fate = match (moved, deleted, plan.archive) {
                (Err(failure), ..) => Fate::Failed(failure),
                (Ok(()), true, None) => Fate::Redriven,
                (Ok(()), true, Some(reason)) => Fate::Archived(reason),
                (Ok(()), false, None) => Fate::Failed(Failure::RedrivenNotDeleted),
                (Ok(()), false, Some(_)) => Fate::Failed(Failure::ArchivedNotDeleted),
            };
            settled.push(Settled { letter, events: plan.events, fate });
        }
        settled
    }

    /// The plan for each letter, and the letters that cannot have one now.
    async fn plan(&self, letters: Vec<DeadLetter>) -> (Vec<(DeadLetter, Plan)>, Vec<Settled>) {
        let fifo = self.redriver.work_queue.is_fifo();
        let segments = self.redriver.config.group_key_segments;
        let decoded = future::join_all(letters.iter().map(|letter| self.decode(letter))).await;
        let (mut planned, mut settled) = (Vec::with_capacity(letters.len()), Vec::new());
        for (letter, decoded) in letters.into_iter().zip(decoded) {
            match decoded {
                Ok(decoded) => {
                    let plan = plan(&letter, decoded, self.selection.max_redrives, segments, fifo);
                    planned.push((letter, plan));
                }
                Err(failure) => {
                    let fate = Fate::Failed(failure);
                    settled.push(Settled { letter, events: Vec::new(), fate });
                }
            }
        }
        (planned, settled)
    }

    /// What a letter holds. Step Functions leaves a large input out of a status change, so it is
    /// asked for it.
    async fn decode(&self, letter: &DeadLetter) -> Result<Decoded, Failure> {
        let mut decoded = Vec::new();
        for event in shared::decode(&letter.body) {
            let arn = event.as_ref().err().and_then(|error| error.input_left_out_of.as_deref());
            let Some(arn) = arn else {
                decoded.push(event);
                continue;
            };
            let input = self.redriver.executions.input_of(arn);
            match timeout_at(self.end_by, input).await {
                Ok(Ok(Some(input))) => decoded.extend(shared::decode_failed_input(&input)),
                // It will not come back: what there is goes to the archive.
                Ok(Ok(None)) => decoded.push(event),
                Ok(Err(error)) => return Err(Failure::InputUnread(error)),
                Err(_) => return Err(Failure::OutOfTime),
            }
        }
        Ok(decoded)
    }

    /// Waits until the rate limit allows to send; `false` if the run has to stop before that.
    async fn has_turn(&self, planned: &[(DeadLetter, Plan)]) -> bool {
        let Some(pacer) = &self.pacer else { return true };
        let messages = planned.iter().map(|(_, plan)| plan.messages.len()).sum();
        timeout_at(self.stop_by, pacer.turns(messages)).await.is_ok()
    }

    /// For each plan, whether the work queue has confirmed all its messages.
    async fn send(&self, planned: &[(DeadLetter, Plan)]) -> Vec<Result<(), Failure>> {
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

    /// For each plan, whether the archive has confirmed what goes there.
    async fn archive(&self, planned: &[(DeadLetter, Plan)]) -> Vec<Result<(), Failure>> {
        let Redriver { archive, config, .. } = self.redriver;
        let puts = planned.iter().map(async |(letter, plan)| {
            let Some(reason) = &plan.archive else { return Ok(()) };
            let put = archive.put(letter, &plan.events, reason, &config.time_zone, self.now);
            match timeout_at(self.end_by, put).await {
                Ok(result) => result.map_err(Failure::NotArchived),
                Err(_) => Err(Failure::OutOfTime),
            }
        });
        stream::iter(puts).buffered(usize::from(MAX_MESSAGES)).collect().await
    }

    /// Deletes the letters that are confirmed elsewhere. For each letter, whether it is deleted.
    async fn delete(
        &self,
        planned: &[(DeadLetter, Plan)],
        moved: &[Result<(), Failure>],
    ) -> Vec<bool> {
        let mut deleted = vec![false; planned.len()];
        let (indices, receipts): (Vec<usize>, Vec<&str>) = (0..planned.len())
            .filter(|&index| moved[index].is_ok())
            .map(|index| (index, planned[index].0.receipt_handle.as_str()))
            .unzip();
        if receipts.is_empty() {
            return deleted;
        }
        for &index in &indices {
            self.met.confirm(&planned[index].0.message_id);
        }
        let delete = self.redriver.dead_letter_queue.delete(&receipts);
        // Without an answer in time nothing is known to be deleted.
        for (index, confirmed) in
            indices.into_iter().zip(timeout_at(self.end_by, delete).await.unwrap_or_default())
        {
            deleted[index] = confirmed;
        }
        deleted
    }
}

/// What a dry run says about a letter.
fn would_be((letter, plan): (DeadLetter, Plan)) -> Settled {
    let fate = plan.archive.map_or(Fate::WouldRedrive, Fate::WouldArchive);
    Settled { letter, events: plan.events, fate }
}
