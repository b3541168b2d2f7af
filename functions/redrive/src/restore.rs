//! Mode `restore`: archived messages back to the work queue, because a person has mended what was
//! wrong with them.

use futures::{StreamExt, stream};
use jiff::Timestamp;
use messages::Event;
use platform::{Message, Pacer, Queue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::{
    Archive, Error,
    archive::{ArchiveError, Stored},
};

/// Documents under way at once.
const CONCURRENCY: usize = 8;

/// Documents of which the answer says what is wrong.
const MAX_PROBLEMS: usize = 10;

/// What to restore, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestoreRequest {
    pub(crate) documents: Documents,
    pub(crate) dry_run: bool,
    /// Messages; none for no limit.
    pub(crate) max_per_second: Option<u32>,
    /// Documents; none for no limit.
    pub(crate) max_messages: Option<u64>,
}

/// Which documents to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Documents {
    Keys(Vec<String>),
    Prefix(String),
}

/// What became of the documents; each is counted in one of these. In a dry run, what would have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    pub dry_run: bool,
    /// In words.
    pub summary: String,
    /// Confirmed by the work queue, and marked.
    pub restored: u64,
    /// The same for what could be decoded. The mark says what could not, and a restore by newer
    /// code tries that again.
    pub restored_in_part: u64,
    /// Marked by an earlier restore, so left alone.
    pub restored_before: u64,
    /// What could be decoded was redriven when the rest was archived, and the rest cannot be
    /// decoded by this code either.
    pub nothing_to_send: u64,
    /// Not confirmed, or not marked: a repeat is harmless.
    pub failed: u64,
    /// No time was left for these, or `maxMessages` were restored.
    pub left: u64,
    /// What is wrong with the first of those that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// A document that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub key: String,
    pub problem: String,
}

/// The fields of a document that a restore needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    message_id: String,
    body: String,
    events: Vec<Event>,
    group_id: Option<String>,
    #[serde(default)]
    redriven: Vec<String>,
    #[serde(default)]
    messages: Vec<Listed>,
    restored: Option<Mark>,
}

/// A message that is listed in a document.
#[derive(Debug, Deserialize)]
struct Listed {
    body: Option<String>,
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
    NothingToSend,
    Failed(Problem),
    Left,
}

/// Restores documents.
pub(crate) struct Restorer<'a> {
    pub(crate) archive: &'a Archive,
    pub(crate) work_queue: &'a Queue,
    pub(crate) group_key_segments: usize,
    pub(crate) now: Timestamp,
    /// Nothing is begun after this.
    pub(crate) until: Instant,
}

impl Restorer<'_> {
    /// Restores all documents that were asked for, several at a time. What goes wrong with one is
    /// in the answer and has nothing to do with the others.
    pub(crate) async fn run(&self, request: &RestoreRequest) -> Result<Restored, Error> {
        let mut restored = Restored { dry_run: request.dry_run, ..Restored::default() };
        let mut keys = match &request.documents {
            Documents::Keys(keys) => keys.clone(),
            Documents::Prefix(prefix) => self.archive.keys(prefix).await.map_err(Error::Archive)?,
        };
        if let (true, Documents::Prefix(prefix)) = (keys.is_empty(), &request.documents) {
            let problem = "the archive has no document with this prefix".to_owned();
            restored.problems.push(Problem { key: prefix.clone(), problem });
        }
        let most = request.max_messages.and_then(|most| usize::try_from(most).ok());
        let most = most.unwrap_or(usize::MAX);
        restored.left = keys.len().saturating_sub(most) as u64;
        keys.truncate(most);
        let pacer = request.max_per_second.map(Pacer::new);
        let outcomes = stream::iter(keys).map(async |key| {
            if Instant::now() >= self.until {
                return Outcome::Left;
            }
            match self.one(&key, request.dry_run, pacer.as_ref()).await {
                Ok(outcome) => outcome,
                Err(problem) => {
                    error!(archive.key = key, error = problem, "not restored");
                    Outcome::Failed(Problem { key, problem })
                }
            }
        });
        let mut outcomes = std::pin::pin!(outcomes.buffer_unordered(CONCURRENCY));
        while let Some(outcome) = outcomes.next().await {
            restored.add(outcome);
        }
        restored.summary = restored.in_words();
        Ok(restored)
    }

    /// Sends what one document holds and was not sent before, and marks it once that is confirmed.
    async fn one(
        &self,
        key: &str,
        dry_run: bool,
        pacer: Option<&Pacer>,
    ) -> Result<Outcome, String> {
        let Stored { mut document, e_tag } = match self.archive.get(key).await {
            Ok(stored) => stored,
            Err(ArchiveError::Missing(_)) => {
                return Err("the archive has no document with this key".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        };
        let read = Document::deserialize(&document).map_err(|e| e.to_string())?;
        let (events, left) = content(&read);
        let is_decodable = !events.is_empty();
        let mut mark = read.restored.clone().unwrap_or_default();
        let events: Vec<Event> = events
            .into_iter()
            .filter(|event| !read.redriven.contains(&event.execution_name()))
            // Its failures so far are forgiven, and its redrives start anew with the attributes.
            .map(Event::forgiven)
            .filter(|event| !mark.executions.contains(&event.execution_name()))
            .collect();
        let mut messages = events
            .iter()
            .map(|event| self.message(&read, event))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.to_string())?;
        if !is_decodable && !mark.body {
            // Nothing in it could be decoded. The consumer of today may be able to.
            mark.body = true;
            messages.push(self.as_it_came(&read));
        }
        if messages.is_empty() {
            let is_marked = read.restored.is_some();
            return Ok(if is_marked { Outcome::RestoredBefore } else { Outcome::NothingToSend });
        }
        let outcome =
            if left.is_empty() || mark.body { Outcome::Restored } else { Outcome::RestoredInPart };
        if dry_run {
            return Ok(outcome);
        }
        if let Some(pacer) = pacer
            && timeout_at(self.until, pacer.turns(messages.len())).await.is_err()
        {
            return Ok(Outcome::Left);
        }
        for confirmation in self.work_queue.send(messages, self.until).await {
            confirmation.map_err(|e| e.to_string())?;
        }
        mark.executions.extend(events.iter().map(Event::execution_name));
        mark.left = left;
        document["restoredAt"] = Value::String(self.now.to_string());
        document["restored"] = serde_json::to_value(&mark).map_err(|e| e.to_string())?;
        self.archive.replace(key, &document, &e_tag).await.map_err(|e| e.to_string())?;
        log(key, events.first().or(read.events.first()), &mark, &outcome);
        Ok(outcome)
    }

    fn message(&self, document: &Document, event: &Event) -> Result<Message, serde_json::Error> {
        let mut message = Message::of_event(event, self.group_key_segments)?;
        if document.group_id.is_some() {
            message.group_id.clone_from(&document.group_id);
        }
        message.deduplication_id = Some(self.deduplication_id(&event.execution_name()));
        Ok(message)
    }

    /// The body of a document. It is the only one of its group, so that SQS takes no two of them for
    /// one.
    fn as_it_came(&self, document: &Document) -> Message {
        let id = &document.message_id;
        Message {
            body: document.body.clone(),
            group_id: Some(document.group_id.clone().unwrap_or_else(|| id.clone())),
            deduplication_id: Some(self.deduplication_id(id)),
            ..Message::default()
        }
    }

    /// A restore within five minutes of the last send is no repeat of it.
    fn deduplication_id(&self, of: &str) -> String {
        format!("{of}-restored-{}", self.now.as_second())
    }
}

impl Restored {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Restored => self.restored += 1,
            Outcome::RestoredInPart => self.restored_in_part += 1,
            Outcome::RestoredBefore => self.restored_before += 1,
            Outcome::NothingToSend => self.nothing_to_send += 1,
            Outcome::Left => self.left += 1,
            Outcome::Failed(problem) => {
                self.failed += 1;
                if self.problems.len() < MAX_PROBLEMS {
                    self.problems.push(problem);
                }
            }
        }
    }

    fn in_words(&self) -> String {
        let verb = if self.dry_run { "would be restored" } else { "restored" };
        let mut parts = vec![format!("{} {verb}", self.restored)];
        for (count, what) in [
            (self.restored_in_part, if self.dry_run { "would be in part" } else { "in part" }),
            (self.restored_before, "had been restored before"),
            (self.nothing_to_send, "hold nothing that was not redriven or can be decoded"),
            (self.failed, "failed"),
            (self.left, "left"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        parts.join(", ")
    }
}

fn log(key: &str, event: Option<&Event>, mark: &Mark, outcome: &Outcome) {
    let id = event.map(|event| event.id.as_str());
    let object = event.map(|event| event.data.key.as_str());
    if matches!(outcome, Outcome::RestoredInPart) {
        let left = mark.left.join("; ");
        warn!(
            event.id = id,
            object.key = object,
            archive.key = key,
            error = left,
            "restored in part"
        );
    } else {
        info!(event.id = id, object.key = object, archive.key = key, "restored");
    }
}

/// The events of a document, and why the rest of its bodies is none. Today's decoder may find more in
/// a body than the one that archived it, and that one may have asked Step Functions.
fn content(document: &Document) -> (Vec<Event>, Vec<String>) {
    let mut events = document.events.clone();
    let mut left = Vec::new();
    let others = document.messages.iter().filter_map(|message| message.body.as_deref());
    for body in [document.body.as_str()].into_iter().chain(others) {
        for decoded in messages::decode(body) {
            match decoded {
                Ok(event) if events.iter().any(|known| known.id == event.id) => {}
                Ok(event) => events.push(event),
                Err(error) if error.input_left_out_of.is_some() && !document.events.is_empty() => {}
                Err(error) => left.push(error.to_string()),
            }
        }
    }
    (events, left)
}
