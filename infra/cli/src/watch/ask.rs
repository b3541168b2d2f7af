//! Asks AWS again and again.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sfn::types::{ExecutionListItem, ExecutionStatus};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    aws::{Depth, LogLine, Stack, timestamp},
    failure::Failure,
    newcomers::Newcomers,
    output::since,
    status::{Executions, Known, Rest},
    trace,
};

/// Something to show.
#[derive(Debug)]
pub(super) enum News {
    Look(Look),
    /// `failed` are the newest executions that have ended badly.
    Rest {
        rest: Box<Rest>,
        oldest: Known<u64>,
        failed: Known<Vec<Failed>>,
    },
    Story {
        of: String,
        text: Result<String, Failure>,
    },
}

/// What is asked every time.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Timestamp,
    pub(super) work_queue: Known<Depth>,
    /// Of all dead-letter queues together.
    pub(super) dead_letters: Known<Depth>,
    /// Executions that were not there at the last look.
    pub(super) started: Known<u64>,
    /// What the consumer gave up since the last look.
    pub(super) dead_lettered: Known<Vec<Failed>>,
}

/// A message that was given up, or an execution that ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) at: Timestamp,
    pub(super) class: String,
    pub(super) key: Option<String>,
    /// The id of the event, or the name of the execution. What cannot be decoded has neither.
    pub(super) name: Option<String>,
}

/// Alarms, reports and executions by status take several calls each, and change seldom.
const REST_EVERY: Duration = Duration::from_secs(15);

/// How far back the first look goes for failures.
const BACK: Duration = Duration::from_mins(10);

/// How long a log line takes until it can be found, and a new execution until it is listed.
const LOG_DELAY: Duration = Duration::from_secs(20);
const LIST_DELAY: Duration = Duration::from_secs(3);

/// Failed executions that are asked for their errors, of each status.
const NEWEST: i32 = 10;

/// Asks until it is dropped. `wishes` are names of events whose stories are to be told.
pub(super) async fn for_ever(
    stack: &Stack,
    every: Duration,
    found: &mpsc::Sender<News>,
    wishes: mpsc::Receiver<String>,
) {
    futures::join!(
        looks(stack, every, found),
        rests(stack, every.max(REST_EVERY), found),
        stories(stack, found, wishes),
    );
}

async fn looks(stack: &Stack, every: Duration, found: &mpsc::Sender<News>) {
    let mut times = times(every);
    let begin = Timestamp::now();
    let (mut executions, mut letters) = (Newcomers::default(), Newcomers::default());
    let (mut listed, mut read) = (begin, begin.checked_sub(BACK).unwrap_or(begin));
    loop {
        times.tick().await;
        let at = Timestamp::now();
        let (work_queue, dead_letters, started, lines) = futures::join!(
            work_queue(stack),
            dead_letters(stack),
            stack.executions_since(before(listed, LIST_DELAY)),
            stack.log_lines(
                "ConsumerFunctionName",
                "consumer",
                "dead-lettered",
                since(before(read, LOG_DELAY), at),
            ),
        );
        let started = started.map(|all| {
            listed = at;
            let all = all.into_iter().filter(|(_, _, started, _)| *started >= begin);
            executions.new_in(all.map(|(name, _, started, _)| (name, started, ()))).len() as u64
        });
        let dead_lettered = lines.map(|all| {
            read = at;
            letters.new_in(all.lines.iter().filter_map(dead_lettered))
        });
        let look = Look {
            at,
            work_queue: Known::of(work_queue),
            dead_letters: Known::of(dead_letters),
            started: Known::of(started),
            dead_lettered: Known::of(dead_lettered),
        };
        if found.send(News::Look(look)).await.is_err() {
            return;
        }
    }
}

async fn rests(stack: &Stack, every: Duration, found: &mpsc::Sender<News>) {
    let mut times = times(every);
    let mut known = HashMap::new();
    loop {
        times.tick().await;
        let (rest, oldest) = futures::join!(Box::pin(Rest::read(stack)), async {
            stack.oldest_age(stack.output("WorkQueueUrl")?).await
        });
        let failed = match rest.executions.value() {
            Some(counts) => Box::pin(failed(stack, counts, &mut known)).await,
            // The counts say why.
            None => Ok(Vec::new()),
        };
        let news = News::Rest {
            rest: Box::new(rest),
            oldest: Known::of(oldest),
            failed: Known::of(failed),
        };
        if found.send(news).await.is_err() {
            return;
        }
    }
}

async fn stories(stack: &Stack, found: &mpsc::Sender<News>, mut wishes: mpsc::Receiver<String>) {
    while let Some(of) = wishes.recv().await {
        let text = Box::pin(trace::of_event(stack, &of)).await;
        if found.send(News::Story { of, text }).await.is_err() {
            return;
        }
    }
}

/// After a look that took long, the next one follows at the usual distance.
fn times(every: Duration) -> tokio::time::Interval {
    let mut times = interval(every);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    times
}

fn before(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(time)
}

async fn work_queue(stack: &Stack) -> Result<Depth, Failure> {
    stack.depth(stack.output("WorkQueueUrl")?).await
}

async fn dead_letters(stack: &Stack) -> Result<Depth, Failure> {
    let mut all = stack.depth(stack.output("DeadLetterQueueUrl")?).await?;
    if let Some(ordered) = stack.optional_output("OrderedDeadLetterQueueUrl") {
        let more = stack.depth(ordered).await?;
        all.visible += more.visible;
        all.in_flight += more.in_flight;
        all.delayed += more.delayed;
    }
    Ok(all)
}

/// A failure in the words of the consumer, with a name that no other line has.
fn dead_lettered(line: &LogLine) -> Option<(String, Timestamp, Failed)> {
    if line.text("message") != "dead-lettered" {
        return None;
    }
    let text = |field| Some(line.text(field)).filter(|text| !text.is_empty()).map(str::to_owned);
    let (key, name) = (text("object.key"), text("event.id"));
    let class = text("error.class").unwrap_or_else(|| "without a class".to_owned());
    let failed = Failed { at: line.at, class, key, name };
    Some((format!("{} {}", line.at, line.text("message.id")), line.at, failed))
}

/// The newest executions that have ended badly. Each is described once: `known` has those of before.
async fn failed(
    stack: &Stack,
    counts: &Executions,
    known: &mut HashMap<String, Failed>,
) -> Result<Vec<Failed>, Failure> {
    let mut all = HashMap::new();
    for (count, status) in [
        (counts.failed, ExecutionStatus::Failed),
        (counts.timed_out, ExecutionStatus::TimedOut),
        (counts.aborted, ExecutionStatus::Aborted),
    ] {
        if count.count == 0 {
            continue;
        }
        for execution in stack.newest_with(status, NEWEST).await? {
            let failed = match known.remove(&execution.name) {
                Some(failed) => failed,
                None => describe(stack, &execution).await?,
            };
            all.insert(execution.name, failed);
        }
    }
    *known = all;
    Ok(known.values().cloned().collect())
}

async fn describe(stack: &Stack, execution: &ExecutionListItem) -> Result<Failed, Failure> {
    let described = stack.describe(&execution.execution_arn).await?;
    let input = described.input.as_deref().unwrap_or_default();
    let input: Value = serde_json::from_str(input).unwrap_or_default();
    Ok(Failed {
        at: described.stop_date.as_ref().and_then(timestamp).unwrap_or_default(),
        class: described.error.unwrap_or_else(|| described.status.as_str().to_owned()),
        key: input.pointer("/data/key").and_then(Value::as_str).map(str::to_owned),
        name: Some(execution.name.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_dead_letter_is_read_from_the_line_of_the_consumer() {
        let line = |fields: Value| LogLine {
            at: at(1),
            function: "consumer",
            fields: fields.as_object().unwrap().clone(),
        };
        let (name, _, failed) = dead_lettered(&line(json!({
            "message": "dead-lettered", "error.class": "NotJson", "object.key": "devices/1/state.json",
            "event.id": "60a5", "message.id": "m-1"
        })))
        .unwrap();
        assert_eq!(name, "1970-01-01T00:00:01Z m-1");
        assert_eq!(
            failed,
            Failed {
                at: at(1),
                class: "NotJson".into(),
                key: Some("devices/1/state.json".into()),
                name: Some("60a5".into())
            }
        );
        // What cannot be decoded has no event.
        let (_, _, failed) =
            dead_lettered(&line(json!({ "message": "dead-lettered", "error.class": "E" })))
                .unwrap();
        assert_eq!((failed.key, failed.name), (None, None));
        // A line that only speaks of it.
        assert_eq!(dead_lettered(&line(json!({ "message": "2 dead-lettered" }))), None);
    }
}
