//! What people do to a stack while it is at work.

use std::{rc::Rc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testing::{Execution, SimulatedQueue};
use tokio::{task::spawn_local, time::sleep};

use crate::{Fault, ledger::Holder, state::Start, world::World};

/// How often a person asks for the same restore, some minutes apart, until it succeeds.
const RESTORE_TRIES: u32 = 20;

impl World {
    /// On every busy day, an operator may invoke the redrive by hand, whatever else is under way.
    pub(crate) async fn operates(self: Rc<Self>) {
        let begin = self.state().now();
        for day in 0..self.plan().busy_nights() {
            let day = begin + SignedDuration::from_hours(24) * i32::try_from(day).unwrap_or(0);
            self.waits_until(day).await;
            if self.setting.has_ledger() && self.state().happens(Fault::Purge) {
                spawn_local(self.clone().purges(Duration::from_hours(24)));
            }
            for request in [Fault::RedriveByHand, Fault::Restore, Fault::ManagedMove] {
                if self.state().happens(request) {
                    spawn_local(self.clone().requests(request));
                }
            }
        }
    }

    /// Somebody empties the work queue. The bucket still has what the messages were about.
    async fn purges(self: Rc<Self>, within: Duration) {
        self.waits(Duration::ZERO, within).await;
        let queue = self.aws.work_queue();
        let ids: Vec<String> = queue.messages().into_iter().map(|message| message.id).collect();
        let mut state = self.state();
        let now = state.now();
        state.ledger_due = Some(now);
        for id in ids {
            let writes = state.ledger.writes_of(&id);
            for &write in &writes {
                state.ledger.holds(&Holder::Listing, &[write]);
            }
            state.ledger.dequeues(now, &id, "somebody purges the work queue");
            state.order.leaves(&id);
            state.note(writes, format!("somebody purges the work queue, and {id} with it"));
        }
        drop(state);
        queue.is_purged();
    }

    async fn requests(self: Rc<Self>, request: Fault) {
        self.waits(Duration::ZERO, Duration::from_hours(24)).await;
        let is_alarmed = request == Fault::RedriveByHand && self.state().rng.bool();
        if is_alarmed {
            self.waits_for_a_letter().await;
        }
        let now = self.state().now();
        let (mut event, mut before) = match request {
            Fault::Restore => (json!({ "mode": "restore", "prefix": "dead-letters/" }), now),
            Fault::ManagedMove => (json!({ "mode": "managed" }), now),
            _ if is_alarmed => (json!({ "before": "now" }), now),
            _ => self.selection(now),
        };
        let mut queue = self.functions().redrivers.len() - 1;
        match request {
            Fault::ManagedMove if self.state().has_redriven_natively => return,
            Fault::ManagedMove => {
                let mut state = self.state();
                state.has_moved = true;
                // SQS does not count.
                state.ledger.has_other_limits = true;
            }
            Fault::RedriveByHand => queue = self.state().rng.usize(..=queue),
            _ => {}
        }
        if self.state().rng.u8(..4) == 0 && request != Fault::ManagedMove {
            event["dryRun"] = json!(true);
            before = Timestamp::MIN;
        }
        let event = event.to_string();
        self.state().note(Vec::new(), format!("an operator invokes the redrive with {event}"));
        // A restore that has failed, or has failed for some documents, is asked for again: it may have
        // put something back without having come to mark its document.
        let tries = if request == Fault::Restore { RESTORE_TRIES } else { 1 };
        for _ in 0..tries {
            let is_done = self.invokes_redrive("redrive by hand", queue, &event, before).await;
            self.notes_moved();
            if is_done {
                // What was put back can be lost like anything else.
                let may_be_lost = request == Fault::Restore && self.setting.has_ledger();
                if may_be_lost && self.state().happens_with(Fault::Purge, 0.5) {
                    self.clone().purges(Duration::from_secs(10)).await;
                }
                break;
            }
            self.waits(Duration::from_mins(1), Duration::from_hours(1)).await;
        }
    }

    /// An alarm rings while a letter is new, and somebody comes at once.
    async fn waits_for_a_letter(&self) {
        let letters =
            || self.dead_letter_queues().map(|queue| queue.messages().len()).sum::<usize>();
        let (before, tomorrow) = (letters(), self.state().now() + SignedDuration::from_hours(24));
        while letters() <= before && self.state().now() < tomorrow {
            self.waits(Duration::from_mins(1), Duration::from_mins(2)).await;
        }
    }

    /// Which letters a person wants to be redriven, and from before which time these are.
    fn selection(&self, now: Timestamp) -> (Value, Timestamp) {
        let mut state = self.state();
        let hours = state.rng.u32(1..=48);
        let earlier = now - SignedDuration::from_hours(i64::from(hours));
        let (mut event, before) = match state.rng.u8(..3) {
            0 => (json!({ "before": "now" }), now),
            1 => (json!({ "before": earlier.to_string() }), earlier),
            _ => (json!({ "olderThanHours": hours }), earlier),
        };
        match state.rng.u8(..8) {
            0 => event["keyPrefix"] = json!("devices/0/"),
            1 => event["errorClass"] = json!("DynamoDB.ResourceNotFoundException"),
            2 => event["maxMessages"] = json!(3),
            3 => {
                event["maxRedrives"] = json!(1);
                state.ledger.has_other_limits = true;
            }
            4 => event["canaryMessages"] = json!(0),
            _ => {}
        }
        (event, before)
    }

    /// Some time after an execution has failed, a person has Step Functions redrive it, if it is the
    /// last one of its write, and nothing but a dead letter waits to start another.
    pub(crate) async fn redrives_natively(self: Rc<Self>, start: Start) {
        self.waits(Duration::from_mins(1), Duration::from_hours(12)).await;
        {
            let mut state = self.state();
            let write = &state.ledger.writes[start.write];
            let is_elsewhere = |holder: &Holder| match holder {
                Holder::Message(id) => !self.is_dead_letter(id, attempt_in(&start.input)),
                _ => true,
            };
            let is_busy = state.redrives > 0 || state.has_moved;
            let is_last = write.executions.last().is_some_and(|last| last.name == start.name);
            if is_busy
                || !is_last
                || write.holders.iter().any(is_elsewhere)
                || write.has_succeeded()
            {
                return;
            }
            state.has_redriven_natively = true;
            state.ledger.goes_on(&start.name, start.write);
            state.tells(&start.name);
            let text = format!("a person has Step Functions redrive {}", start.name);
            state.note(vec![start.write], text);
            state.count("executions redriven natively");
            let execution = Execution::new(&start.name, &start.input, start.at);
            self.aws.step_functions().has(execution);
        }
        sleep(Duration::from_secs(2)).await;
        let ending = self.ending(&start);
        self.finishes(&start, ending).await;
    }

    /// Whether a message is a dead letter that no later attempt has put there.
    fn is_dead_letter(&self, id: &str, attempt: u64) -> bool {
        let mut letters = self.dead_letter_queues().flat_map(SimulatedQueue::messages);
        letters.any(|message| message.id == id && attempt_in(&message.body) <= attempt)
    }
}

/// The attempt of an event; none of what is no event.
fn attempt_in(body: &str) -> u64 {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    body["attempt"].as_u64().unwrap_or_default()
}
