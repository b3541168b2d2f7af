use std::time::Duration;

use jiff::Timestamp;
use runtime::{Deadline, Metrics, Queue};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    Archive, Config, DeadLetterQueue, Error, Executions, Report, Stopped, metrics,
    request::Request, run::Run,
};

/// Kept for releasing what was left alone and for the report.
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
}

impl Redriver {
    /// Does one run. `event` is the rule's event or a person's request; a request that cannot be
    /// read is an error before anything is touched.
    pub async fn handle(
        &self,
        event: &str,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Report, Error> {
        let begin = Instant::now();
        let request = Request::read(event, &self.config, now)?;
        let run = Run::new(
            self,
            &request,
            now,
            deadline.before(END_RESERVE),
            deadline.before(ANSWER_RESERVE),
        );
        let mut report = run.finish().await?;
        report.duration_ms = begin.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        metrics::publish(&self.metrics, now, &report);
        log(&report);
        Ok(report)
    }
}

fn log(report: &Report) {
    let text = serde_json::to_string(report).unwrap_or_default();
    let nothing = report.moved_nothing();
    if report.stopped == Stopped::Canary {
        warn!(report = text, "redrive stopped: the cause persists");
    } else if report.failed > 0 {
        warn!(report = text, redrive.failed = report.failed, "redrive left failures behind");
    } else if nothing {
        info!(report = text, "redrive moved nothing");
    } else {
        info!(report = text, redrive.redriven = report.redriven, "redrive done");
    }
}
