//! Step Functions: the executions of the stack's state machine.

use std::{rc::Rc, time::Duration};

use serde_json::{Value, json};
use testing::{Execution, Status, sample_json};
use tokio::{task::spawn_local, time::sleep};

use crate::{
    Fault,
    ledger::{End, Holder, Kind},
    state::Start,
    world::{BUCKET, World},
};

/// How an execution ends.
#[derive(Debug)]
pub(crate) enum Ending {
    Succeeds,
    /// By a person, and of that nothing tells.
    IsAborted,
    /// With an error of which the machine sends a letter itself.
    FailsWithLetter(&'static str),
    /// With an error that only a status change tells of.
    Fails(Status, &'static str),
}

impl World {
    pub(crate) async fn runs_executions(self: Rc<Self>) {
        loop {
            self.starts.notified().await;
            let starts = std::mem::take(&mut self.state().starts);
            for start in starts {
                spawn_local(self.clone().executes(start));
            }
        }
    }

    async fn executes(self: Rc<Self>, start: Start) {
        let (time, mishap) = self.draws_mishap();
        sleep(time).await;
        let ending = mishap.unwrap_or_else(|| self.ending(&start));
        let has_failed = !matches!(ending, Ending::Succeeds | Ending::IsAborted);
        self.finishes(&start, ending).await;
        // Executions of an EXPRESS machine cannot be redriven.
        if has_failed && !self.setting.is_express && self.state().happens(Fault::NativeRedrive) {
            self.redrives_natively(start).await;
        }
    }

    pub(crate) async fn finishes(&self, start: &Start, ending: Ending) {
        let letters = 1 + u32::from(self.state().happens(Fault::LetterTwice));
        match ending {
            Ending::Succeeds => self.ends(start, Status::Succeeded, None),
            Ending::IsAborted => self.ends(start, Status::Aborted, None),
            Ending::FailsWithLetter(error) => {
                let letter = letter(start, error).to_string();
                for _ in 0..letters {
                    self.sends("the machine", &self.letters, &letter, error);
                }
                self.ends(start, Status::Failed, Some("DeadLetterSent"));
            }
            Ending::Fails(status, error) => {
                let holder = Holder::StatusChange(start.name.clone());
                self.state().ledger.holds(&holder, &[start.write]);
                self.ends(start, status, Some(error));
                if self.setting.has_ledger() && self.state().happens(Fault::NeverDelivered) {
                    let mut state = self.state();
                    let now = state.now();
                    let how = "EventBridge forgets a status change";
                    state.ledger.holds(&Holder::Listing, &[start.write]);
                    state.ledger.lets_go(now, &holder, &[start.write], how);
                    state.ledger_due = Some(now);
                    return state.note(vec![start.write], how);
                }
                for _ in 0..letters {
                    self.waits(Duration::from_millis(200), Duration::from_mins(2)).await;
                    let change = self.status_change(start, status, error).to_string();
                    self.sends("EventBridge", &self.letters, &change, "");
                }
                let mut state = self.state();
                let now = state.now();
                state.ledger.lets_go(now, &holder, &[start.write], "EventBridge has delivered");
            }
        }
    }

    fn draws_mishap(&self) -> (Duration, Option<Ending>) {
        let mut state = self.state();
        let quick = state.between(Duration::from_millis(100), Duration::from_secs(3));
        // An EXPRESS machine takes five minutes at most, and has to handle its own failures.
        if self.setting.is_express {
            let time = if state.happens(Fault::LongExecution) { 300.0 } else { 1.0 };
            return (quick.mul_f64(time / 3.0), None);
        }
        // Of six deferrals here, one leaves a copy more, by all that may go wrong with it. A message
        // that waits for a place may be deferred a hundred times in a day, and would fill the queue.
        let (longest, timeout) = match self.setting.max_running {
            0 => (Duration::from_hours(20), Duration::from_hours(24)),
            _ => (Duration::from_mins(5), Duration::from_mins(10)),
        };
        if state.happens(Fault::ExecutionTimesOut) {
            return (timeout, Some(Ending::Fails(Status::TimedOut, "States.Timeout")));
        }
        let time = if state.happens(Fault::LongExecution) {
            state.between(Duration::from_mins(1), longest)
        } else {
            quick
        };
        if time != quick && state.happens(Fault::Abort) {
            return (time, Some(Ending::IsAborted));
        }
        if state.happens(Fault::RuntimeFailure) {
            return (time, Some(Ending::Fails(Status::Failed, "States.Runtime")));
        }
        if state.happens(Fault::TaskFailure) {
            let failed = Ending::FailsWithLetter("DynamoDB.ResourceNotFoundException");
            return (time + Duration::from_secs(3), Some(failed));
        }
        (time, None)
    }

    /// As `infra/state-machine.asl.json` has it.
    pub(crate) fn ending(&self, start: &Start) -> Ending {
        let input: Value = serde_json::from_str(&start.input).unwrap_or_default();
        if input["data"]["overwritten"] == true {
            return Ending::Succeeds;
        }
        let state = self.state();
        let write = &state.ledger.writes[start.write];
        match input["data"].get("content") {
            Some(content) if !content["deviceId"].is_string() => {
                return Ending::FailsWithLetter("InvalidDeviceState");
            }
            None if self.setting.is_versioned && write.is_gone => {
                return Ending::FailsWithLetter("States.ItemReaderFailed");
            }
            None => match self.aws.s3().object(BUCKET, &write.key) {
                None if !self.setting.is_versioned => {
                    return Ending::FailsWithLetter("States.ItemReaderFailed");
                }
                _ if write.kind == Kind::NotJson => {
                    return Ending::FailsWithLetter("States.ItemReaderFailed");
                }
                _ if write.kind == Kind::NotAState => {
                    return Ending::FailsWithLetter("InvalidDeviceState");
                }
                _ => {}
            },
            Some(_) => {}
        }
        if state.outage(Fault::TableGone, "").is_some() {
            return Ending::FailsWithLetter("DynamoDB.ResourceNotFoundException");
        }
        Ending::Succeeds
    }

    fn ends(&self, start: &Start, status: Status, error: Option<&str>) {
        let now = self.aws.now();
        let execution = Execution::new(&start.name, &start.input, start.at).ended(now, status);
        let error = error.map(str::to_owned);
        self.aws.step_functions().has(Execution { error, ..execution });
        let mut state = self.state();
        state.count(format!("executions {status:?}"));
        state.note(vec![start.write], format!("{} ends: {status:?}", start.name));
        let end = match status {
            Status::Succeeded => End::Succeeded,
            Status::Aborted => End::Aborted,
            _ => End::Failed,
        };
        state.tells(&start.name);
        let now = state.now();
        state.ledger.ends(now, &start.name, start.write, end);
    }

    fn status_change(&self, start: &Start, status: Status, error: &str) -> Value {
        let mut change = sample_json("step-functions-status-failed.json");
        let arn = Execution::new(&start.name, &start.input, start.at).arn;
        let machine = self.aws.step_functions().state_machine_arn();
        let detail = &mut change["detail"];
        detail["executionArn"] = json!(arn);
        detail["stateMachineArn"] = json!(machine);
        detail["name"] = json!(start.name);
        let is_failed = status == Status::Failed;
        detail["status"] = json!(if is_failed { "FAILED" } else { "TIMED_OUT" });
        detail["input"] = json!(start.input);
        detail["error"] = json!(error);
        detail["cause"] = json!("simulated");
        change
    }
}

/// What the machine sends to the dead-letter queue.
fn letter(start: &Start, error: &str) -> Value {
    let mut event: Value = serde_json::from_str(&start.input).unwrap_or_default();
    drop(event["data"].as_object_mut().map(|data| data.remove("content")));
    json!({
        "failedExecution": { "name": start.name, "error": error, "cause": "simulated" },
        "event": event,
    })
}
