use std::time::Duration;

use jiff::Timestamp;
use platform::{Deadline, Metrics, Queue};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    Archive, Config, DeadLetterQueue, Error, Executions, Ledger, Moved, Report, Restored, Stopped,
    Uploads, managed, metrics,
    reconcile::Reconciler,
    request::{Request, Selection},
    restore::Restorer,
    run::Run,
};

/// Time reserved for releasing the letters that stay, and for the report.
const END_RESERVE: Duration = Duration::from_secs(10);
const ANSWER_RESERVE: Duration = Duration::from_secs(1);

/// Moves dead letters back to the work queue, or to the archive.
#[derive(Debug, Clone)]
pub struct Redriver {
    pub config: Config,
    pub metrics: Metrics,
    pub dead_letter_queue: DeadLetterQueue,
    pub work_queue: Queue,
    pub archive: Archive,
    pub executions: Executions,
    /// Where letters of this stack are too: those of no queue, where this one is about a FIFO queue,
    /// and the other way round.
    pub other_dead_letter_queue: Option<DeadLetterQueue>,
    /// What is uploaded, to be compared with what became of it.
    pub uploads: Option<Uploads>,
}

/// What the function answers, by mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Report(Box<Report>),
    Moved(Moved),
    Restored(Restored),
    Ledger(Box<Ledger>),
}

impl Redriver {
    /// Does one run. `event` is the rule's event or a person's request; a request that cannot be
    /// read is an error before anything is touched.
    pub async fn handle(
        &self,
        event: &str,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let stop_by = deadline.before(END_RESERVE);
        let end_by = deadline.before(ANSWER_RESERVE);
        match Request::read(event, &self.config, now)? {
            Request::Selective(selection) => {
                // Boxed like the others: nested, these futures overflow the compiler's depth limit.
                let run = Box::pin(self.redrive(&selection, now, stop_by, end_by));
                run.await.map(Box::new).map(Answer::Report)
            }
            Request::Managed { max_per_second } => {
                let work_queue = self.work_queue.url();
                let queue = &self.dead_letter_queue;
                let run = Box::pin(managed::run(queue, work_queue, max_per_second, stop_by));
                run.await.map(Answer::Moved)
            }
            Request::MoveState => managed::state(&self.dead_letter_queue).await.map(Answer::Moved),
            Request::CancelMove => {
                managed::cancel(&self.dead_letter_queue).await.map(Answer::Moved)
            }
            Request::Restore(request) => {
                let restorer = Restorer {
                    archive: &self.archive,
                    work_queue: &self.work_queue,
                    group_key_segments: self.config.group_key_segments,
                    now,
                    until: stop_by,
                };
                let run = Box::pin(restorer.run(&request));
                run.await.map(Answer::Restored)
            }
            Request::Reconcile(request) => {
                let uploads = self.uploads.as_ref().ok_or_else(|| {
                    let problem = "mode `reconcile`: this function has no UPLOAD_BUCKET";
                    Error::Request(problem.to_owned())
                })?;
                let reconciler = Reconciler { redriver: self, uploads, now, stop_by, end_by };
                let run = Box::pin(reconciler.run(request));
                run.await.map(Box::new).map(Answer::Ledger)
            }
        }
    }

    async fn redrive(
        &self,
        selection: &Selection,
        now: Timestamp,
        stop_by: Instant,
        end_by: Instant,
    ) -> Result<Report, Error> {
        let begin = Instant::now();
        let run = Run::new(self, selection, now, stop_by, end_by);
        let (mut report, error) = run.finish().await;
        report.duration_ms = begin.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        match error {
            // Nothing was read at all: this was no run.
            Some(error) if report.seen == 0 => Err(error),
            error => {
                metrics::publish(&self.metrics, now, &report);
                log(&report);
                match error {
                    None => Ok(report),
                    Some(error) => {
                        Err(Error::Incomplete { source: Box::new(error), report: Box::new(report) })
                    }
                }
            }
        }
    }
}

fn log(report: &Report) {
    let text = serde_json::to_string(report).unwrap_or_default();
    if report.stopped == Stopped::Canary {
        warn!(report = text, "redrive held letters back, since their canaries came to nothing");
    } else if report.failed > 0 {
        warn!(report = text, redrive.failed = report.failed, "redrive left failures behind");
    } else if report.moved_nothing {
        info!(report = text, "redrive moved nothing");
    } else {
        info!(report = text, redrive.redriven = report.redriven, "redrive done");
    }
}
