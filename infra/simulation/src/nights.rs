//! The nightly redrive, and what SQS deletes by itself.

use std::{rc::Rc, time::Duration};

use futures::future::join_all;
use jiff::{Timestamp, tz::TimeZone};
use platform::Deadline;
use serde_json::json;
use testing::{SimulatedQueue, sample_json};
use tokio::time::{Instant, sleep};

use crate::{
    Fault,
    state::Caller,
    world::{Ended, World},
};

/// `RedriveSchedule`, in the time zone of the stack.
const NIGHT_HOUR: i8 = 6;

/// `RedriveTimeoutSeconds`.
const TIMEOUT: Duration = Duration::from_mins(15);

/// `ReconcileSchedule`, after the redrive.
const LEDGER: Duration = Duration::from_hours(1);

/// When the ledger of a month is made: after a few quiet nights, in which every letter that is left
/// comes back. A letter vouches for its write, and may turn out to be an old duplicate.
pub(crate) const SETTLED: Duration = Duration::from_hours(4 * 24);

/// How long after its begin a night is surely over, its retries too.
const NIGHT: Duration = Duration::from_hours(2);

impl World {
    /// Waits for the next night, and lets the rule invoke the redrive, once or twice, and of an
    /// ordered stack both of them.
    pub(crate) async fn passes_a_night(self: &Rc<Self>) {
        let night = {
            let state = self.state();
            next_night(state.now(), &state.time_zone)
        };
        self.waits_until(night).await;
        let runs = 1 + usize::from(self.state().happens(Fault::TwoRuns));
        self.state().count("nights");
        self.state().note(Vec::new(), format!("a night with {runs} runs of the redrive"));
        let queues = self.dead_letter_queues().enumerate();
        let queues = queues.filter(|(_, queue)| self.is_worth_a_run(queue)).map(|(index, _)| index);
        let runs = queues.flat_map(|queue| (0..runs).map(move |_| self.redrives(queue)));
        join_all(runs).await;
        self.notes_moved();
        self.notes_expired();
        self.reconciles(night + LEDGER).await;
        self.waits_until(night + NIGHT).await;
    }

    /// The runs of the schedule of the ledger. The first one that comes to its end makes it.
    async fn reconciles(&self, time: Timestamp) {
        let loses = [Fault::NeverDelivered, Fault::Purge];
        let may_lose = loses.iter().any(|fault| self.state().plan.faults.contains(fault));
        if !may_lose || !self.setting.has_ledger() {
            return;
        }
        let event = json!({ "mode": "reconcile", "nightly": true, "fix": true }).to_string();
        for minutes in [0, 20, 40] {
            self.waits_until(time + Duration::from_mins(minutes)).await;
            self.invokes_redrive("ledger", 0, &event, Timestamp::MIN).await;
        }
        let is_due = {
            let state = self.state();
            state.ledger_due.is_some_and(|due| due <= state.now())
        };
        if is_due {
            self.reconciles_all(time + Duration::from_mins(50)).await;
        }
    }

    /// After a loss, and once a month, an operator makes ledgers of all writes, until one closes: what
    /// was lost may be about a write that was restored, and that no nightly ledger looks back to.
    async fn reconciles_all(&self, time: Timestamp) {
        self.waits_until(time).await;
        let since = self.state().start.to_string();
        let event = json!({ "mode": "reconcile", "since": since, "fix": true }).to_string();
        let is_closed = self.invokes_redrive("ledger by hand", 0, &event, Timestamp::MIN).await;
        if is_closed {
            let mut state = self.state();
            let monthly = state.quiet_from + SETTLED;
            state.ledger_due = Some(monthly).filter(|monthly| *monthly > state.now());
        }
    }

    /// Most runs that would find their queue empty are left out: they take most of the time of a
    /// simulated month, and nothing comes of them.
    fn is_worth_a_run(&self, letters: &SimulatedQueue) -> bool {
        !letters.messages().is_empty() || self.state().rng.u8(..8) == 0
    }

    /// One asynchronous invocation of the redrive with its two retries.
    async fn redrives(&self, queue: usize) {
        let mut event = sample_json("scheduled-event.json");
        event["time"] = json!(format!("{:.0}", self.aws.now()));
        let event = event.to_string();
        for minutes in [0, 1, 2] {
            sleep(Duration::from_mins(minutes)).await;
            let today = self.aws.now().to_zoned(self.state().time_zone.clone()).start_of_day();
            let before = today.map(|today| today.timestamp()).unwrap_or_default();
            if self.invokes_redrive("redrive", queue, &event, before).await {
                return;
            }
        }
    }

    /// Invokes the redrive of one of the dead-letter queues with an event by which it may take
    /// letters from before a time; whether it succeeds in all of what it was asked for.
    pub(crate) async fn invokes_redrive(
        &self,
        name: &'static str,
        queue: usize,
        event: &str,
        before: Timestamp,
    ) -> bool {
        let deadline = Deadline::at(Instant::now() + TIMEOUT);
        let functions = self.functions();
        let handler = functions.redrivers[queue].handle(event, deadline, self.aws.now());
        let caller = Caller { function: name, takes_before: Some(before), ..Caller::default() };
        self.state().redrives += 1;
        let Ended { result, .. } = self.invokes(caller, TIMEOUT, handler).await;
        self.state().redrives -= 1;
        let text = match &result {
            Ok(Ok(redrive::Answer::Report(report))) => format!("reports: {}", report.summary),
            Ok(Ok(redrive::Answer::Restored(restored))) => {
                format!("restores: {}", restored.summary)
            }
            Ok(Ok(redrive::Answer::Moved(moved))) => format!("moves: {}", moved.status),
            Ok(Ok(redrive::Answer::Ledger(ledger))) => format!("says: {}", ledger.summary),
            Ok(Err(error)) => format!("fails: {error}"),
            Err(broken) => format!("ends: {broken:?}"),
        };
        self.state().note(Vec::new(), format!("the {name} {text}"));
        match result {
            Ok(Ok(redrive::Answer::Restored(restored))) => restored.failed == 0,
            Ok(Ok(redrive::Answer::Ledger(ledger))) => ledger.closed,
            Ok(answer) => answer.is_ok(),
            Err(_) => false,
        }
    }

    /// Enters what SQS has deleted because of its age.
    fn notes_expired(&self) {
        let work = self.aws.work_queue();
        for queue in [&work].into_iter().chain(self.dead_letter_queues()) {
            for message in queue.expired() {
                let how = format!("SQS deletes {} from {}, too old", message.id, queue.name());
                let mut state = self.state();
                let now = state.now();
                state.ledger.dequeues(now, &message.id, &how);
            }
        }
    }
}

/// The next time that it is six in the morning somewhere.
fn next_night(now: Timestamp, zone: &TimeZone) -> Timestamp {
    let today = now.to_zoned(zone.clone()).date();
    let nights = [Some(today), today.tomorrow().ok()].into_iter().flatten();
    let nights = nights.filter_map(|date| date.at(NIGHT_HOUR, 0, 0, 0).to_zoned(zone.clone()).ok());
    nights.map(|night| night.timestamp()).find(|night| *night > now).unwrap_or(now)
}
