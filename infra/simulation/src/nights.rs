//! The nightly redrive, and what SQS deletes by itself.

use std::{rc::Rc, time::Duration};

use futures::future::join_all;
use platform::Deadline;
use serde_json::json;
use testing::sample_json;
use tokio::time::{Instant, sleep};

use crate::{
    Fault,
    world::{World, next_time_of_day},
};

/// 06:00 in Seoul is 21:00 in UTC.
const NIGHT_SECONDS: i64 = 21 * 3600;

/// `RedriveTimeoutSeconds`.
const TIMEOUT: Duration = Duration::from_mins(15);

/// How long after its begin a night is surely over, its retries too.
const NIGHT: Duration = Duration::from_hours(2);

impl World {
    /// Waits for the next night, and lets the rule invoke the redrive, once or twice.
    pub(crate) async fn passes_a_night(self: &Rc<Self>) {
        let night = next_time_of_day(self.state().now(), NIGHT_SECONDS);
        self.waits_until(night).await;
        let runs = 1 + usize::from(self.state().happens(Fault::TwoRuns));
        self.state().count("nights");
        self.state().note(Vec::new(), format!("a night with {runs} runs of the redrive"));
        join_all((0..runs).map(|_| self.redrives())).await;
        self.notes_expired();
        self.waits_until(night + NIGHT).await;
    }

    /// One asynchronous invocation of the redrive with its two retries.
    async fn redrives(&self) {
        let mut event = sample_json("scheduled-event.json");
        event["time"] = json!(format!("{:.0}", self.aws.now()));
        let event = event.to_string();
        for minutes in [0, 1, 2] {
            sleep(Duration::from_mins(minutes)).await;
            let deadline = Deadline::at(Instant::now() + TIMEOUT);
            let handler = self.redriver.handle(&event, deadline, self.aws.now());
            let result = self.invokes("redrive", Vec::new(), TIMEOUT, handler).await;
            let text = match &result {
                Ok(Ok(redrive::Answer::Report(report))) => {
                    format!("the redrive reports: {}", report.summary)
                }
                Ok(Ok(_)) => "the redrive answers".to_owned(),
                Ok(Err(error)) => format!("the redrive fails: {error}"),
                Err(broken) => format!("the redrive ends: {broken:?}"),
            };
            self.state().note(Vec::new(), text);
            if matches!(result, Ok(Ok(_))) {
                return;
            }
        }
    }

    /// Enters what SQS has deleted because of its age.
    fn notes_expired(&self) {
        for queue in [self.aws.work_queue(), self.aws.dead_letter_queue()] {
            for message in queue.expired() {
                let how = format!("SQS deletes {} from {}, too old", message.id, queue.name());
                let mut state = self.state();
                let now = state.now();
                state.ledger.dequeues(now, &message.id, &how);
            }
        }
    }
}
