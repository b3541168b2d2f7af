use std::{sync::Arc, time::Duration};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use platform::{Deadline, Metrics, Queue};
use tokio::time::Instant;

use crate::{
    Config, Outcome, Pace, Running, metrics, record::Record, start::Batch, verdict::Verdict,
};

/// Time reserved for sending copies and dead letters, and for the answer after that.
pub const SETTLE_RESERVE: Duration = Duration::from_secs(4);
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// Starts executions for the messages of the work queue.
///
/// The way of one record: [`Record::decode`] says what it holds, [`Batch::start`] starts it and
/// comes to a verdict, [`Consumer::settle`] does what the verdict asks for and has it confirmed, and
/// the outcome of that is acknowledged, counted and logged.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub config: Config,
    /// What this environment has learnt so far; invocations share it.
    pub pace: Arc<Pace>,
    pub running: Arc<Running>,
    pub metrics: Metrics,
    pub step_functions: aws_sdk_sfn::Client,
    pub s3: aws_sdk_s3::Client,
    pub work_queue: Queue,
    pub dead_letter_queue: Queue,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a record that failed has no message id, so the whole batch has to come back")]
    UnnamedRecord,
}

impl From<Error> for lambda_runtime::Diagnostic {
    fn from(error: Error) -> Self {
        Self { error_type: "UnnamedRecord".to_owned(), error_message: error.to_string() }
    }
}

impl Consumer {
    /// Consumes a batch and names the records that SQS has to deliver again. Every record has
    /// exactly one [`Outcome`]; nothing is acknowledged that is not confirmed to be elsewhere.
    pub async fn handle(
        &self,
        event: SqsEvent,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<SqsBatchResponse, Error> {
        let records: Vec<Record<'_>> = event.records.iter().map(Record::decode).collect();
        let outcomes = self.consume(&records, deadline, now).await;

        metrics::publish(&self.metrics, now, records.iter().zip(&outcomes));
        let mut response = SqsBatchResponse::default();
        for (record, outcome) in records.iter().zip(&outcomes) {
            outcome.report(record);
            if outcome.is_settled() {
                continue;
            }
            match record.message_id() {
                Some(id) => response.add_failure(id),
                // Lambda cannot be told which one failed, so all of them must come back.
                None => return Err(Error::UnnamedRecord),
            }
        }
        Ok(response)
    }

    /// One outcome for each record, in their order.
    async fn consume(
        &self,
        records: &[Record<'_>],
        deadline: Deadline,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let batch = Batch::new(self, deadline.before(SETTLE_RESERVE));
        let settle_by = deadline.before(ANSWER_RESERVE);
        let concurrency = self.config.start_concurrency;
        if self.work_queue.is_fifo() {
            let outcomes = stream::iter(groups(records))
                .map(|group| self.consume_group(&batch, group, records, settle_by, now))
                .buffer_unordered(concurrency);
            return in_order(outcomes.collect::<Vec<_>>().await.concat());
        }
        // Start first, settle last: a crash in between leaves a copy and its original, so the time
        // in between is as short as one call.
        let verdicts: Vec<_> = stream::iter(records.iter().enumerate())
            .map(async |(index, record)| (index, batch.start(record).await))
            .buffer_unordered(concurrency)
            .collect()
            .await;
        self.settle(records.iter().zip(in_order(verdicts)).collect(), settle_by, now).await
    }

    /// One FIFO group, strictly in order: what stands behind a failure must not overtake it. A
    /// group that has to wait comes back after a back-off instead of the queue's whole visibility
    /// timeout.
    async fn consume_group(
        &self,
        batch: &Batch<'_>,
        group: Vec<usize>,
        records: &[Record<'_>],
        settle_by: Instant,
        now: Timestamp,
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(group.len());
        let mut waiting: Vec<&Record<'_>> = Vec::new();
        let mut has_to_wait = false;
        for index in group {
            let record = &records[index];
            if !waiting.is_empty() {
                waiting.push(record);
                let reason = "behind a failed message of its group".to_owned();
                outcomes.push((index, Outcome::Failed { reason }));
                continue;
            }
            let verdict = batch.start_in_order(record).await;
            let was_deferred = matches!(verdict, Verdict::Defer { .. });
            for outcome in self.settle(vec![(record, verdict)], settle_by, now).await {
                if !outcome.is_settled() {
                    waiting.push(record);
                    has_to_wait = was_deferred;
                }
                outcomes.push((index, outcome));
            }
        }
        if let (true, Some(first)) = (has_to_wait, waiting.first()) {
            let receives = first.receive_count().unwrap_or(1).saturating_sub(1);
            let seconds = self.config.backoff.seconds(receives, fastrand::f64());
            let receipts = waiting.iter().filter_map(|record| record.receipt_handle()).collect();
            self.work_queue.show_after(seconds, receipts, settle_by).await;
        }
        outcomes
    }
}

/// The indices of each FIFO group, in order. A record without a group is one of its own.
fn groups(records: &[Record<'_>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let id = record.group();
        match groups.iter_mut().find(|(group, _)| id.is_some() && *group == id) {
            Some((_, indices)) => indices.push(index),
            None => groups.push((id, vec![index])),
        }
    }
    groups.into_iter().map(|(_, indices)| indices).collect()
}

fn in_order<T>(mut indexed: Vec<(usize, T)>) -> Vec<T> {
    indexed.sort_by_key(|(index, _)| *index);
    indexed.into_iter().map(|(_, value)| value).collect()
}
