//! The one place that talks to the archive: a document for each event that is given up.

use std::collections::BTreeMap;

use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::list_objects_v2::ListObjectsV2Error,
    primitives::ByteStream,
};
use aws_smithy_types::base64;
use jiff::{Timestamp, tz::TimeZone};
use messages::Event;
use platform::{Attribute, InWords};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{DeadLetter, plan::Reason};

/// Where the documents are.
pub(crate) const FOLDER: &str = "dead-letters/";

/// How often a message is entered into a document that others change at the same time.
const ATTEMPTS: usize = 5;

#[derive(Debug, Clone)]
pub struct Archive {
    client: Client,
    bucket: String,
}

/// A letter that is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenUp<'a> {
    pub(crate) letter: &'a DeadLetter,
    /// What could be decoded of it.
    pub(crate) events: &'a [Event],
    /// Whether the work queue has taken these events, and only the rest is given up.
    pub(crate) redriven: bool,
    pub(crate) reason: &'a Reason,
}

/// All that is known of a message that was given up, and of those about the same attempt of the same
/// event that were given up later.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    /// Of the first event, if one could be decoded.
    id: Option<&'a str>,
    message_id: &'a str,
    class: &'a str,
    message: &'a str,
    enqueued_at: Timestamp,
    archived_at: Timestamp,
    receive_count: u64,
    redrives: u64,
    group_id: Option<&'a str>,
    attributes: BTreeMap<&'a str, AttributeDocument<'a>>,
    /// As it was in the queue. SQS bodies are Unicode, so JSON can hold any of them.
    body: &'a str,
    events: &'a [Event],
    /// Names of the executions that the work queue has taken when the rest was archived.
    redriven: Vec<String>,
    messages: [MessageDocument<'a>; 1],
}

/// One of the messages about the event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageDocument<'a> {
    id: &'a str,
    class: &'a str,
    message: &'a str,
    enqueued_at: Timestamp,
    archived_at: Timestamp,
    receive_count: u64,
    redrives: u64,
    attributes: BTreeMap<&'a str, AttributeDocument<'a>>,
    /// Only if it is another one than that of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct AttributeDocument<'a> {
    #[serde(rename = "type")]
    data_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// In Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<String>,
}

/// A document as it is in the archive, and the entity tag of just this state of it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) document: Value,
    pub(crate) e_tag: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot read or write a document: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the archive has no document {0}")]
    Missing(String),
    /// Somebody else wrote the document in between. It has to be read again.
    #[error("the archive's document {0} was changed at the same time")]
    Changed(String),
    #[error("the archive refused {key}: {error}")]
    Refused { key: String, error: String },
}

impl Archive {
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into() }
    }

    /// Writes the document of a letter, or enters the letter into the document of its event, and
    /// returns once S3 has confirmed it, or has confirmed that the letter is in there already.
    ///
    /// There is one document for each attempt of an event and day, whatever number of messages was
    /// about it, and nothing that is in a document is ever lost: it changes only from the state that
    /// was read. What is in the way and is no document stays, and the letter gets another name.
    pub(crate) async fn put(
        &self,
        given_up: GivenUp<'_>,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Result<(), ArchiveError> {
        let GivenUp { letter, events, .. } = given_up;
        let document = serde_json::to_vec(&given_up.document(now))?;
        // The day of the message, not of the run: a repeat on another day finds its document.
        let day = day(letter.sent, zone);
        let key = |name: &str| format!("{FOLDER}{day}/{name}.json");
        let name = events.first().map_or_else(|| letter.message_id.clone(), Event::execution_name);
        let of_event = key(&name);
        for _ in 0..ATTEMPTS {
            if self.create(&of_event, &document).await? {
                return Ok(());
            }
            let Stored { document, e_tag } = match self.get(&of_event).await {
                Ok(stored) if stored.document["messageId"].is_string() => stored,
                Ok(_) | Err(ArchiveError::Json(_)) => break,
                Err(ArchiveError::Missing(_)) => continue,
                Err(error) => return Err(error),
            };
            let Some(entered) = given_up.entered_into(document, now)? else { return Ok(()) };
            match self.replace(&of_event, &entered, &e_tag).await {
                Err(ArchiveError::Changed(_)) => {}
                result => return result,
            }
        }
        // What has this message's id is this message.
        self.create(&key(&format!("{name}-{}", letter.message_id)), &document).await.map(|_| ())
    }

    /// Whether the object was created; `false` if there is one already.
    async fn create(&self, key: &str, document: &[u8]) -> Result<bool, ArchiveError> {
        let answer = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .if_none_match("*")
            .content_type("application/json")
            .body(ByteStream::from(document.to_vec()))
            .send()
            .await;
        match answer.map_err(|error| refused(key, &error)) {
            Ok(_) => Ok(true),
            Err(ArchiveError::Changed(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All keys under a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Result<Vec<String>, ArchiveError> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let mut pages = list.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused(prefix, &error))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|o| o.key));
        }
        Ok(keys)
    }

    /// The key after which the documents of this day and of later ones are.
    pub(crate) fn before_day(time: Timestamp, zone: &TimeZone) -> String {
        format!("{FOLDER}{}", day(time, zone))
    }

    /// Keys of documents after this one, by day, and whether these are all.
    pub(crate) async fn page(
        &self,
        after: &str,
    ) -> Result<(Vec<String>, bool), SdkError<ListObjectsV2Error>> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(FOLDER);
        let page = list.start_after(after).send().await?;
        let keys = page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
        Ok((keys.collect(), page.is_truncated != Some(true)))
    }

    /// The events that this document is the end of: those that neither the redrive nor a restore
    /// has sent. None if it is no document.
    pub(crate) async fn given_up_in(&self, key: &str) -> Result<Vec<Event>, ArchiveError> {
        let document = match self.get(key).await {
            Ok(stored) => stored.document,
            Err(ArchiveError::Json(_) | ArchiveError::Missing(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let events: Vec<Event> =
            serde_json::from_value(document["events"].clone()).unwrap_or_default();
        let sent = [&document["redriven"], &document["restored"]["executions"]];
        let sent: Vec<&str> = sent
            .into_iter()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let is_sent = |event: &Event| sent.contains(&event.execution_name().as_str());
        Ok(events.into_iter().filter(|event| !is_sent(event)).collect())
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Stored, ArchiveError> {
        let (bytes, e_tag) = self.read(key).await?;
        Ok(Stored { document: serde_json::from_slice(&bytes)?, e_tag })
    }

    /// What was saved under this key.
    pub(crate) async fn bytes(&self, key: &str) -> Result<Vec<u8>, ArchiveError> {
        self.read(key).await.map(|(bytes, _)| bytes)
    }

    async fn read(&self, key: &str) -> Result<(Vec<u8>, String), ArchiveError> {
        let answer = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let answer = answer.map_err(|error| refused(key, &error))?;
        let e_tag = answer.e_tag.unwrap_or_default();
        let bytes = answer.body.collect().await.map_err(|error| ArchiveError::Refused {
            key: key.to_owned(),
            error: error.to_string(),
        })?;
        Ok((bytes.to_vec(), e_tag))
    }

    /// Writes what is no document of a dead letter, instead of what was there.
    pub(crate) async fn save(&self, key: &str, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        put.body(ByteStream::from(bytes)).send().await.map_err(|error| refused(key, &error))?;
        Ok(())
    }

    /// Writes a document over the one that was read.
    pub(crate) async fn replace(
        &self,
        key: &str,
        document: &Value,
        e_tag: &str,
    ) -> Result<(), ArchiveError> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .if_match(e_tag)
            .content_type("application/json")
            .body(ByteStream::from(serde_json::to_vec(document)?))
            .send()
            .await
            .map_err(|error| refused(key, &error))?;
        Ok(())
    }
}

/// How the day of a time is written in keys, as Athena reads partitions.
pub(crate) fn day(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("date=%Y-%m-%d").to_string()
}

impl<'a> GivenUp<'a> {
    fn document(self, now: Timestamp) -> Document<'a> {
        let Self { letter, events, redriven, reason } = self;
        let redriven = if redriven { events } else { &[] };
        Document {
            id: events.first().map(|event| event.id.as_str()),
            message_id: &letter.message_id,
            class: &reason.class,
            message: &reason.message,
            enqueued_at: letter.sent,
            archived_at: now,
            receive_count: letter.receive_count,
            redrives: letter.redrives(events),
            group_id: letter.group_id.as_deref(),
            attributes: attributes(letter),
            body: &letter.body,
            events,
            redriven: redriven.iter().map(Event::execution_name).collect(),
            messages: [self.message(None, now)],
        }
    }

    fn message(self, body: Option<&'a str>, now: Timestamp) -> MessageDocument<'a> {
        let Self { letter, events, reason, .. } = self;
        MessageDocument {
            id: &letter.message_id,
            class: &reason.class,
            message: &reason.message,
            enqueued_at: letter.sent,
            archived_at: now,
            receive_count: letter.receive_count,
            redrives: letter.redrives(events),
            attributes: attributes(letter),
            body,
        }
    }

    /// A document with this letter in it. None if it is in there already.
    fn entered_into(
        self,
        mut document: Value,
        now: Timestamp,
    ) -> Result<Option<Value>, serde_json::Error> {
        let Self { letter, events, redriven, .. } = self;
        let is_it = |id: &Value| id.as_str() == Some(letter.message_id.as_str());
        let listed = document["messages"].as_array().cloned().unwrap_or_default();
        if is_it(&document["messageId"]) || listed.iter().any(|message| is_it(&message["id"])) {
            return Ok(None);
        }
        let is_other = document["body"].as_str() != Some(letter.body.as_str());
        let message = self.message(is_other.then_some(letter.body.as_str()), now);
        append(&mut document["messages"], [serde_json::to_value(message)?]);

        let mut known: Vec<Event> = serde_json::from_value(document["events"].clone())?;
        let known_names = names(&known);
        known.extend(events.iter().filter(|e| !known_names.contains(&e.execution_name())).cloned());
        document["events"] = serde_json::to_value(known)?;
        if redriven {
            append(&mut document["redriven"], names(events).into_iter().map(Value::String));
        }
        // What was sent after a restore has died again since, and may be restored once more.
        let restored: Option<Timestamp> =
            document["restoredAt"].as_str().and_then(|time| time.parse().ok());
        if restored.is_some_and(|restored| letter.sent > restored)
            && let Some(fields) = document.as_object_mut()
        {
            fields.remove("restored");
            fields.remove("restoredAt");
        }
        Ok(Some(document))
    }
}

/// Extends a list, which a document of an older version need not have.
fn append(list: &mut Value, values: impl IntoIterator<Item = Value>) {
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.extend(values);
    }
}

fn names(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::execution_name).collect()
}

fn attributes(letter: &DeadLetter) -> BTreeMap<&str, AttributeDocument<'_>> {
    let attributes = letter.attributes.iter().map(|(name, attribute)| {
        let Attribute { data_type, text, binary } = attribute;
        let binary = binary.as_deref().map(base64::encode);
        (name.as_str(), AttributeDocument { data_type, text: text.as_deref(), binary })
    });
    attributes.collect()
}

fn refused<E>(key: &str, error: &SdkError<E>) -> ArchiveError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some("NoSuchKey") => ArchiveError::Missing(key.to_owned()),
        Some("PreconditionFailed" | "ConditionalRequestConflict") => {
            ArchiveError::Changed(key.to_owned())
        }
        _ => ArchiveError::Refused { key: key.to_owned(), error: InWords(error).to_string() },
    }
}
