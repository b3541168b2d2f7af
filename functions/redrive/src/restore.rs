//! Mode `restore`: archived messages back to the work queue, because a person has mended what was
//! wrong with them.

use futures::{StreamExt, stream};
use jiff::Timestamp;
use messages::Event;
use platform::{Message, Queue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{Archive, Error, archive::Stored};

/// Documents under way at once.
const CONCURRENCY: usize = 8;

/// Which documents to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Documents {
    Keys(Vec<String>),
    Prefix(String),
}

/// What became of the documents; each is counted in one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Confirmed by the work queue, and marked.
    pub restored: u64,
    /// The same for what could be decoded. The mark says what could not, and a restore by newer
    /// code tries that again.
    pub restored_in_part: u64,
    /// Marked by an earlier restore, so left alone.
    pub restored_before: u64,
    /// Not confirmed, or not marked: a repeat is harmless.
    pub failed: u64,
    /// No time was left for these.
    pub left: u64,
}

/// The fields of a document that a restore needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    body: String,
    events: Vec<Event>,
    group_id: Option<String>,
    restored: Option<Mark>,
}

/// What was restored of a document: its field `restored`, beside the time in `restoredAt`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    /// Names of the executions that the sent events start.
    executions: Vec<String>,
    /// Whether the body was sent as it came, because nothing in it could be decoded.
    body: bool,
    /// What was not sent, because it could not be decoded: the reasons.
    left: Vec<String>,
}

/// What became of one document.
enum Outcome {
    Restored,
    RestoredInPart,
    RestoredBefore,
    Failed,
    Left,
}

pub(crate) async fn run(
    archive: &Archive,
    work_queue: &Queue,
    documents: &Documents,
    group_key_segments: usize,
    now: Timestamp,
    until: Instant,
) -> Result<Restored, Error> {
    let keys = match documents {
        Documents::Keys(keys) => keys.clone(),
        Documents::Prefix(prefix) => archive.keys(prefix).await.map_err(Error::Archive)?,
    };
    let outcomes = stream::iter(keys).map(async |key| {
        if Instant::now() >= until {
            return Outcome::Left;
        }
        match one(archive, work_queue, &key, group_key_segments, now, until).await {
            Ok(Some(mark)) if mark.left.is_empty() || mark.body => {
                info!(archive.key = key, "restored");
                Outcome::Restored
            }
            Ok(Some(mark)) => {
                warn!(archive.key = key, error = mark.left.join("; "), "restored in part");
                Outcome::RestoredInPart
            }
            Ok(None) => Outcome::RestoredBefore,
            Err(problem) => {
                error!(archive.key = key, error = problem, "not restored");
                Outcome::Failed
            }
        }
    });
    let mut restored = Restored::default();
    let mut outcomes = std::pin::pin!(outcomes.buffer_unordered(CONCURRENCY));
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Outcome::Restored => restored.restored += 1,
            Outcome::RestoredInPart => restored.restored_in_part += 1,
            Outcome::RestoredBefore => restored.restored_before += 1,
            Outcome::Failed => restored.failed += 1,
            Outcome::Left => restored.left += 1,
        }
    }
    Ok(restored)
}

/// Sends what one document holds and was not sent before, and marks it once that is confirmed. None
/// if there is nothing to send.
async fn one(
    archive: &Archive,
    work_queue: &Queue,
    key: &str,
    group_key_segments: usize,
    now: Timestamp,
    until: Instant,
) -> Result<Option<Mark>, String> {
    let Stored { mut document, e_tag } = archive.get(key).await.map_err(|e| e.to_string())?;
    let read = Document::deserialize(&document).map_err(|e| e.to_string())?;
    let (events, left) = content(&read);
    let mut mark = read.restored.unwrap_or_default();
    let events: Vec<Event> = events
        .into_iter()
        // Its failures so far are forgiven, and its redrives start anew with the attributes.
        .map(Event::forgiven)
        .filter(|event| !mark.executions.contains(&event.execution_name()))
        .collect();

    let mut messages = Vec::new();
    for event in &events {
        messages.push(Message {
            body: event.to_json().map_err(|e| e.to_string())?,
            group_id: read.group_id.clone().or_else(|| Some(event.group(group_key_segments))),
            deduplication_id: work_queue
                .is_fifo()
                .then(|| format!("{}-restored-{}", event.execution_name(), now.as_second())),
            ..Message::default()
        });
    }
    if messages.is_empty() && mark.executions.is_empty() && !mark.body {
        // Nothing in it could be decoded. The consumer of today may be able to.
        mark.body = true;
        messages.push(Message {
            body: read.body,
            group_id: read.group_id.or_else(|| Some("restored".to_owned())),
            deduplication_id: work_queue.is_fifo().then(|| format!("restored-{}", now.as_second())),
            ..Message::default()
        });
    }
    if messages.is_empty() {
        return Ok(None);
    }
    for confirmation in work_queue.send(messages, until).await {
        confirmation.map_err(|e| e.to_string())?;
    }
    mark.executions.extend(events.iter().map(Event::execution_name));
    mark.left = left;
    document["restoredAt"] = Value::String(now.to_string());
    document["restored"] = serde_json::to_value(&mark).map_err(|e| e.to_string())?;
    archive.replace(key, &document, &e_tag).await.map_err(|e| e.to_string())?;
    Ok(Some(mark))
}

/// The events of a document, and why the rest of its body is none. Today's decoder may find more in
/// the body than the one that archived it, and that one may have asked Step Functions.
fn content(document: &Document) -> (Vec<Event>, Vec<String>) {
    let mut events = document.events.clone();
    let mut left = Vec::new();
    for decoded in messages::decode(&document.body) {
        match decoded {
            Ok(event) if events.iter().any(|known| known.id == event.id) => {}
            Ok(event) => events.push(event),
            Err(error) if error.input_left_out_of.is_some() && !document.events.is_empty() => {}
            Err(error) => left.push(error.to_string()),
        }
    }
    (events, left)
}
