//! Mode `restore`: archived messages back to the work queue, because a person has mended what was
//! wrong with them.

use futures::{StreamExt, stream};
use jiff::Timestamp;
use runtime::{Message, Queue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::Event;
use tokio::time::Instant;
use tracing::{error, info};

use crate::{Archive, Error, archive::Stored};

/// Documents under way at once.
const CONCURRENCY: usize = 8;

/// What to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Keys(Vec<String>),
    Prefix(String),
}

/// What became of the documents; each is counted in one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Confirmed by the work queue, and marked.
    pub restored: u64,
    /// Marked by an earlier restore, so left alone.
    pub restored_before: u64,
    /// Not confirmed, or not marked: a repeat is harmless.
    pub failed: u64,
    /// No time was left for these.
    pub left: u64,
}

/// The fields of a document that a restore needs.
#[derive(Debug, Deserialize)]
struct Document {
    body: String,
    events: Vec<Event>,
    #[serde(rename = "groupId")]
    group_id: Option<String>,
}

enum End {
    Restored,
    RestoredBefore,
    Failed,
    Left,
}

pub(crate) async fn run(
    archive: &Archive,
    work_queue: &Queue,
    which: &Which,
    group_key_segments: usize,
    now: Timestamp,
    until: Instant,
) -> Result<Restored, Error> {
    let keys = match which {
        Which::Keys(keys) => keys.clone(),
        Which::Prefix(prefix) => archive.keys(prefix).await.map_err(Error::Archive)?,
    };
    let ends = stream::iter(keys).map(async |key| {
        if Instant::now() >= until {
            return End::Left;
        }
        match one(archive, work_queue, &key, group_key_segments, now, until).await {
            Ok(true) => {
                info!(archive.key = key, "restored");
                End::Restored
            }
            Ok(false) => End::RestoredBefore,
            Err(problem) => {
                error!(archive.key = key, error = problem, "not restored");
                End::Failed
            }
        }
    });
    let mut restored = Restored::default();
    let mut ends = std::pin::pin!(ends.buffer_unordered(CONCURRENCY));
    while let Some(end) = ends.next().await {
        match end {
            End::Restored => restored.restored += 1,
            End::RestoredBefore => restored.restored_before += 1,
            End::Failed => restored.failed += 1,
            End::Left => restored.left += 1,
        }
    }
    Ok(restored)
}

/// Sends what one document holds, and marks it once that is confirmed. `false` if it is marked
/// already.
async fn one(
    archive: &Archive,
    work_queue: &Queue,
    key: &str,
    group_key_segments: usize,
    now: Timestamp,
    until: Instant,
) -> Result<bool, String> {
    let Stored { mut document, e_tag } = archive.get(key).await.map_err(|e| e.to_string())?;
    if document.get("restoredAt").is_some() {
        return Ok(false);
    }
    let read: Document = serde_json::from_value(document.clone()).map_err(|e| e.to_string())?;
    let mut messages = Vec::new();
    for event in read.events {
        // Its failures so far are forgiven, and its redrives start anew with the attributes.
        let event = event.forgiven();
        messages.push(Message {
            body: event.to_json().map_err(|e| e.to_string())?,
            group_id: read.group_id.clone().or_else(|| Some(event.group(group_key_segments))),
            deduplication_id: work_queue
                .is_fifo()
                .then(|| format!("{}-restored-{}", event.execution_name(), now.as_second())),
            ..Message::default()
        });
    }
    if messages.is_empty() {
        // Nothing in it could be decoded. The consumer of today may be able to.
        messages.push(Message {
            body: read.body,
            group_id: read.group_id.or_else(|| Some("restored".to_owned())),
            deduplication_id: work_queue.is_fifo().then(|| format!("restored-{}", now.as_second())),
            ..Message::default()
        });
    }
    for confirmation in work_queue.send(messages, until).await {
        confirmation.map_err(|e| e.to_string())?;
    }
    document["restoredAt"] = Value::String(now.to_string());
    archive.replace(key, &document, &e_tag).await.map_err(|e| e.to_string())?;
    Ok(true)
}
