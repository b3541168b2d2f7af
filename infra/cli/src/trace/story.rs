//! What is known of one write, and what follows from that. Nothing here asks anybody.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    aws::LogLine,
    output::{BAD, CAUTION, GOOD, QUIET, STRONG, columns, paint, shortened, since, span},
};

/// All that is known of one version of an object.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts {
    pub(super) id: Option<String>,
    pub(super) key: Option<String>,
    pub(super) version: Option<Version>,
    /// Oldest attempt first.
    pub(super) executions: Vec<Execution>,
    pub(super) item: Option<Item>,
    pub(super) documents: Vec<Document>,
    #[serde(skip)]
    pub(super) lines: Vec<LogLine>,
    /// What could not be found out, in sentences.
    pub(super) gaps: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) id: Option<String>,
    pub(super) written: Timestamp,
    pub(super) bytes: u64,
    pub(super) is_latest: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Execution {
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) status: String,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) outcome: Option<String>,
    pub(super) error: Option<String>,
    pub(super) cause: Option<String>,
    /// Its states, and what went wrong in them.
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    pub(super) at: Timestamp,
    pub(super) what: String,
}

/// What the table has of the device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) device: String,
    pub(super) last_event_id: String,
    pub(super) object_key: String,
    pub(super) written_at: Option<Timestamp>,
}

/// A document of the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) key: String,
    pub(super) attempt: u32,
    pub(super) class: String,
    pub(super) message: String,
    pub(super) archived: Timestamp,
    pub(super) restored: Option<Timestamp>,
}

/// Where an object is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub(super) enum Place {
    InTable {
        device: String,
    },
    /// The table had it, until a newer write of the device came.
    Replaced {
        by: String,
    },
    /// A newer write of the device was in the table already.
    Superseded {
        by: String,
    },
    /// It was processed by a state machine that has no table of ours.
    Succeeded {
        outcome: String,
    },
    Running {
        execution: String,
    },
    /// Its execution has failed, and the dead letter about that waits for the redrive.
    Failed {
        error: String,
    },
    Aborted {
        execution: String,
    },
    DeadLetter {
        class: String,
    },
    Archived {
        class: String,
        message: String,
        document: String,
    },
    /// A message with a delay waits in the work queue.
    Deferred {
        until: Option<Timestamp>,
        cause: String,
    },
    /// A message waits in the work queue.
    Queued {
        since: Timestamp,
    },
    /// Nothing is known of it but that it is in the bucket.
    NotSeen {
        written: Timestamp,
    },
    /// Nobody can tell.
    Unknown,
}

/// The facts, and where the object is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Story {
    pub(super) place: Place,
    #[serde(flatten)]
    pub(super) facts: Facts,
}

/// A notification takes seconds, rarely a minute.
const NOTIFIED_WITHIN: Duration = Duration::from_mins(5);

impl Story {
    pub(super) fn of(facts: Facts) -> Self {
        Self { place: facts.place(), facts }
    }

    pub(super) fn needs_somebody(&self) -> bool {
        match &self.place {
            Place::Failed { .. }
            | Place::Aborted { .. }
            | Place::DeadLetter { .. }
            | Place::Archived { .. }
            | Place::Unknown => true,
            Place::NotSeen { written } => since(*written, Timestamp::now()) > NOTIFIED_WITHIN,
            Place::InTable { .. }
            | Place::Replaced { .. }
            | Place::Superseded { .. }
            | Place::Succeeded { .. }
            | Place::Running { .. }
            | Place::Deferred { .. }
            | Place::Queued { .. } => false,
        }
    }
}

impl Facts {
    fn place(&self) -> Place {
        let succeeded = self.executions.iter().rev().find(|it| it.status == "SUCCEEDED");
        if let Some(execution) = succeeded {
            return self.after_success(execution);
        }
        let last = self.executions.last();
        if let Some(execution) =
            last.filter(|it| it.status == "RUNNING" || it.status == "PENDING_REDRIVE")
        {
            return Place::Running { execution: execution.name.clone() };
        }
        // What a function has done since the last execution began.
        let began = last.map(|execution| execution.started);
        let line = self.lines.iter().rev().find(|line| {
            MOVES.contains(&line.text("message")) && began.is_none_or(|began| line.at > began)
        });
        let document = self.documents.iter().max_by_key(|document| document.archived);
        if let Some(document) = document
            && began.is_none_or(|began| document.archived > began)
            && document.restored.is_none()
        {
            return Place::Archived {
                class: document.class.clone(),
                message: document.message.clone(),
                document: document.key.clone(),
            };
        }
        let restored = document.and_then(|document| document.restored);
        match line {
            Some(line) => Self::after_line(line),
            None => match (restored, last) {
                (Some(at), _) if began.is_none_or(|began| at > began) => {
                    Place::Queued { since: at }
                }
                (_, Some(execution)) if execution.status == "ABORTED" => {
                    Place::Aborted { execution: execution.name.clone() }
                }
                (_, Some(execution)) => Place::Failed {
                    error: execution.error.clone().unwrap_or_else(|| execution.status.clone()),
                },
                (_, None) => match &self.version {
                    Some(version) => Place::NotSeen { written: version.written },
                    None => Place::Unknown,
                },
            },
        }
    }

    fn after_success(&self, execution: &Execution) -> Place {
        let outcome = execution.outcome.clone().unwrap_or_else(|| "succeeded".to_owned());
        match &self.item {
            Some(item) if Some(&item.last_event_id) == self.id.as_ref() => {
                Place::InTable { device: item.device.clone() }
            }
            Some(item) if outcome == "written" => Place::Replaced { by: item.object_key.clone() },
            Some(item) => Place::Superseded { by: item.object_key.clone() },
            None if outcome == "superseded" => Place::Superseded { by: "a newer write".to_owned() },
            None => Place::Succeeded { outcome },
        }
    }

    fn after_line(line: &LogLine) -> Place {
        match line.text("message") {
            "dead-lettered" => Place::DeadLetter { class: line.text("error.class").to_owned() },
            "deferred" => {
                let delay = line.fields.get("delay.seconds").and_then(serde_json::Value::as_u64);
                let until = line.at.checked_add(Duration::from_secs(delay.unwrap_or_default()));
                Place::Deferred { until: until.ok(), cause: line.text("cause").to_owned() }
            }
            // Its execution has an entry among the executions, unless those cannot be asked for.
            "started" | "duplicate" => Place::Succeeded { outcome: "started".to_owned() },
            _ => Place::Queued { since: line.at },
        }
    }
}

/// The lines that say that an event went from one place to another.
const MOVES: [&str; 10] = [
    "forwarded",
    "split off",
    "started",
    "duplicate",
    "deferred",
    "dead-lettered",
    "redriven",
    "restored",
    "restored in part",
    "a write is missing: it has no execution, no dead letter and no document",
];

/// Something that happened.
struct Happening {
    at: Timestamp,
    who: &'static str,
    what: String,
}

impl Facts {
    /// All that happened, in the order of time.
    fn happenings(&self) -> Vec<Happening> {
        let mut all = Vec::new();
        let mut add = |at, who, what: String| all.push(Happening { at, who, what });
        if let Some(version) = &self.version {
            let id = version.id.as_deref().map(|id| format!(", version {id}")).unwrap_or_default();
            add(version.written, "S3", format!("written, {} bytes{id}", version.bytes));
        }
        for line in &self.lines {
            add(line.at, line.function, said(line));
        }
        for execution in &self.executions {
            add(
                execution.started,
                "execution",
                format!("{} started", paint(STRONG, &execution.name)),
            );
            for step in &execution.steps {
                add(step.at, "", format!("  {}", step.what));
            }
            if let Some(ended) = execution.ended {
                add(ended, "execution", ended_as(execution));
            }
        }
        if let Some(item) = &self.item
            && Some(&item.last_event_id) == self.id.as_ref()
            && let Some(at) = item.written_at
        {
            add(at, "table", format!("device {} has this state", item.device));
        }
        for document in &self.documents {
            let reason = format!("{}: {}", document.class, shortened(&document.message, 120));
            add(document.archived, "archive", format!("{reason} ({})", document.key));
            if let Some(at) = document.restored {
                add(at, "archive", "restored".to_owned());
            }
        }
        // Steps of an execution keep their order within one instant.
        all.sort_by_key(|happening| happening.at);
        all
    }
}

fn ended_as(execution: &Execution) -> String {
    let Execution { status, outcome, error, cause, .. } = execution;
    if status == "SUCCEEDED" {
        let outcome = outcome.as_deref().map(|outcome| format!(" as {outcome}"));
        return format!("{}{}", paint(GOOD, "succeeded"), outcome.unwrap_or_default());
    }
    let mut text = paint(BAD, status.to_lowercase().replace('_', " "));
    for part in [error, cause].into_iter().flatten() {
        text.extend([": ", &shortened(part, 160)]);
    }
    text
}

/// A log line in words.
fn said(line: &LogLine) -> String {
    let mut text = line.text("message").to_owned();
    let number = |field: &str| line.fields.get(field).and_then(serde_json::Value::as_u64);
    if let Some(receives) = number("message.receive_count") {
        text.extend([", receive ".to_owned(), receives.to_string()]);
    }
    if let Some(delay) = number("delay.seconds") {
        text.extend([", again in ".to_owned(), delay.to_string(), " s".to_owned()]);
    }
    for field in ["cause", "error.class", "error"] {
        let value = line.text(field);
        if !value.is_empty() {
            text.extend([": ", &shortened(value, 160)]);
        }
    }
    text
}

impl Place {
    /// The first line of a story.
    fn in_words(&self, now: Timestamp, zone: &TimeZone) -> String {
        let at = |time: &Timestamp| crate::output::clock(*time, now, zone);
        match self {
            Self::InTable { device } => {
                format!(
                    "{}: device {device} has the state of this version",
                    paint(GOOD, "in the table")
                )
            }
            Self::Replaced { by } => format!(
                "{}: it was in the table until a newer write came, of {by}",
                paint(GOOD, "written and replaced")
            ),
            Self::Superseded { by } => format!(
                "{}: it was processed, and the table has the state of {by}, which is newer",
                paint(GOOD, "superseded")
            ),
            Self::Succeeded { outcome } => format!("{}: {outcome}", paint(GOOD, "processed")),
            Self::Running { execution } => {
                format!("{}: execution {execution}", paint(CAUTION, "running"))
            }
            Self::Failed { error } => format!(
                "{} with {error}, and on its way back: the dead letter about it waits for the redrive",
                paint(BAD, "failed")
            ),
            Self::Aborted { execution } => {
                format!("{}: a person ended execution {execution}", paint(BAD, "aborted"))
            }
            Self::DeadLetter { class } => format!(
                "{}: {class}; the next redrive tries it again, or archives it",
                paint(BAD, "in the dead-letter queue")
            ),
            Self::Archived { class, message, document } => format!(
                "{}: {class}: {}; `sluice dead-letters restore {document}` brings it back",
                paint(BAD, "archived"),
                shortened(message, 160)
            ),
            Self::Deferred { until, cause } => {
                let until = until.as_ref().map_or_else(|| "later".to_owned(), at);
                format!(
                    "{} until {until}: {cause}; it waits in the work queue",
                    paint(CAUTION, "deferred")
                )
            }
            Self::Queued { since } => {
                format!(
                    "{} since {}: no execution yet",
                    paint(CAUTION, "in the work queue"),
                    at(since)
                )
            }
            Self::NotSeen { written } if since(*written, now) <= NOTIFIED_WITHIN => {
                format!("{}: no function has seen it yet", paint(CAUTION, "just written"))
            }
            Self::NotSeen { .. } => format!(
                "{}: it has no execution and no document, and no function has logged it; `sluice reconcile` tells whether it is missing, and --fix starts it",
                paint(BAD, "waiting or missing")
            ),
            Self::Unknown => paint(BAD, "nothing is known of it"),
        }
    }
}

impl Story {
    pub(super) fn render(&self, now: Timestamp, zone: &TimeZone) -> String {
        let facts = &self.facts;
        let mut text = self.place.in_words(now, zone);
        text.push('\n');
        let key = facts.key.as_deref().unwrap_or("an object of unknown key");
        let latest = match &facts.version {
            Some(version) if !version.is_latest => " (not the newest version)",
            _ => "",
        };
        text.extend([&paint(STRONG, key), latest, "\n"]);
        if let Some(id) = &facts.id {
            text.extend(["event ", id, "\n"]);
        }
        text.push('\n');
        let mut day = None;
        let rows = facts.happenings().into_iter().map(|Happening { at, who, what }| {
            let time = at.to_zoned(zone.clone());
            let format = if day == Some(time.date()) {
                "           %H:%M:%S%.3f"
            } else {
                "%Y-%m-%d %H:%M:%S%.3f"
            };
            day = Some(time.date());
            vec![paint(QUIET, time.strftime(format)), who.to_owned(), what]
        });
        text.push_str(&columns(&rows.collect::<Vec<_>>(), &[]));
        for end in self.ends(now) {
            text.extend(["\n  ", &paint(QUIET, end)]);
        }
        text
    }

    /// Where the trail ends, and why.
    fn ends(&self, now: Timestamp) -> Vec<String> {
        let mut ends = self.facts.gaps.clone();
        match &self.place {
            Place::Queued { since: at } => ends.push(format!(
                "The trail ends in the work queue, {} ago: SQS does not say what a queue holds.",
                span(since(*at, now))
            )),
            Place::Deferred { .. } => ends.push(
                "The trail ends in the work queue: SQS does not say what a queue holds.".to_owned(),
            ),
            Place::DeadLetter { .. } | Place::Failed { .. } => ends.push(format!(
                "The trail ends in the dead-letter queue: `sluice dead-letters show {}` looks for it there.",
                self.facts.id.as_deref().unwrap_or_default()
            )),
            _ => {}
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "60a564b35e9db02ade816b779bdb953583907372";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_154_400 + second).unwrap()
    }

    fn line(second: i64, function: &'static str, mut fields: serde_json::Value) -> LogLine {
        let fields = fields.as_object_mut().unwrap().clone();
        LogLine { at: at(second), function, fields }
    }

    fn facts() -> Facts {
        Facts {
            id: Some(ID.to_owned()),
            key: Some("devices/42/state.json".to_owned()),
            version: Some(Version {
                id: Some("v1".into()),
                written: at(0),
                bytes: 60,
                is_latest: true,
            }),
            lines: vec![line(1, "forwarder", json!({ "message": "forwarded" }))],
            ..Facts::default()
        }
    }

    fn execution(attempt: u32, status: &str, started: i64) -> Execution {
        Execution {
            name: if attempt == 0 { ID.to_owned() } else { format!("{ID}-r{attempt}") },
            attempt,
            status: status.to_owned(),
            started: at(started),
            ended: (status != "RUNNING").then(|| at(started + 1)),
            ..Execution::default()
        }
    }

    fn document(archived: i64, restored: Option<i64>) -> Document {
        Document {
            key: "dead-letters/date=2026-11-20/x.json".into(),
            class: "NotJson".into(),
            message: "expected value".into(),
            archived: at(archived),
            restored: restored.map(at),
            ..Document::default()
        }
    }

    #[test]
    fn the_first_line_says_where_the_object_is() {
        let item = |last: &str| Item {
            device: "42".into(),
            last_event_id: last.into(),
            object_key: "devices/42/other.json".into(),
            written_at: Some(at(4)),
        };
        let dead =
            line(2, "consumer", json!({ "message": "dead-lettered", "error.class": "NotJson" }));
        let deferred = line(
            2,
            "consumer",
            json!({
                "message": "deferred", "cause": "ThrottlingException", "delay.seconds": 20
            }),
        );
        let redriven = line(9, "redrive", json!({ "message": "redriven" }));
        let with = |lines: &[&LogLine]| {
            let mut facts = facts();
            facts.lines.extend(lines.iter().copied().cloned());
            facts
        };
        let failed = Execution { error: Some("E".into()), ..execution(0, "FAILED", 3) };
        for (facts, expected) in [
            (facts(), "in the work queue since"),
            (Facts { lines: vec![], ..facts() }, "waiting or missing"),
            (Facts { lines: vec![], version: None, ..facts() }, "nothing is known of it"),
            (with(&[&deferred]), "deferred until"),
            (with(&[&dead]), "in the dead-letter queue: NotJson"),
            (with(&[&dead, &redriven]), "in the work queue since"),
            (
                Facts { executions: vec![execution(0, "RUNNING", 3)], ..facts() },
                "running: execution",
            ),
            (Facts { executions: vec![failed.clone()], ..facts() }, "failed with E"),
            (Facts { executions: vec![execution(0, "ABORTED", 3)], ..facts() }, "aborted"),
            (
                Facts { executions: vec![failed.clone()], ..with(&[&redriven]) },
                "in the work queue since",
            ),
            (
                Facts { executions: vec![failed.clone(), execution(1, "SUCCEEDED", 9)], ..facts() },
                "processed",
            ),
            (
                Facts {
                    executions: vec![execution(0, "SUCCEEDED", 3)],
                    item: Some(item(ID)),
                    ..facts()
                },
                "in the table: device 42",
            ),
            (
                Facts {
                    executions: vec![execution(0, "SUCCEEDED", 3)],
                    item: Some(item("x")),
                    ..facts()
                },
                "superseded: it was processed, and the table has the state of devices/42/other.json",
            ),
            (
                Facts {
                    executions: vec![Execution {
                        outcome: Some("written".into()),
                        ..execution(0, "SUCCEEDED", 3)
                    }],
                    item: Some(item("x")),
                    ..facts()
                },
                "written and replaced: it was in the table until a newer write came",
            ),
            (
                Facts { documents: vec![document(8, None)], ..with(&[&dead]) },
                "archived: NotJson: expected value",
            ),
            // A document of an earlier failure, which a person has put back.
            (
                Facts { documents: vec![document(8, Some(20))], ..facts() },
                "in the work queue since",
            ),
            (
                Facts {
                    documents: vec![document(8, Some(20))],
                    executions: vec![execution(0, "RUNNING", 21)],
                    ..facts()
                },
                "running",
            ),
        ] {
            let words = facts.place().in_words(at(3_600), &TimeZone::UTC);
            let words = anstream::adapter::strip_str(&words).to_string();
            assert!(words.starts_with(expected), "{words}, expected {expected}");
        }
    }

    #[test]
    fn a_story_is_told_in_the_order_of_time_with_its_end() {
        let mut execution = execution(0, "FAILED", 3);
        execution.error = Some("InvalidDeviceState".into());
        execution.steps = vec![Step { at: at(3), what: "CheckEvent".into() }];
        let facts = Facts {
            executions: vec![execution],
            gaps: vec!["The log of the consumer may not be read.".into()],
            ..facts()
        };
        let text = Story::of(facts).render(at(3_600), &TimeZone::UTC);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            format!(
                "failed with InvalidDeviceState, and on its way back: the dead letter about it waits for the redrive\n\
                 devices/42/state.json\nevent {ID}\n\n  \
                 2026-11-20 06:00:00.000  S3         written, 60 bytes, version v1\n             \
                 06:00:01.000  forwarder  forwarded\n             \
                 06:00:03.000  execution  {ID} started\n             \
                 06:00:03.000               CheckEvent\n             \
                 06:00:04.000  execution  failed: InvalidDeviceState\n\n  \
                 The log of the consumer may not be read.\n  \
                 The trail ends in the dead-letter queue: `sluice dead-letters show {ID}` looks for it there."
            )
        );
    }

    #[test]
    fn an_object_that_was_just_written_is_no_reproach() {
        let facts = Facts { lines: vec![], ..facts() };
        let words = facts.place().in_words(at(60), &TimeZone::UTC);
        assert!(words.contains("just written"), "{words}");
    }
}
