//! The one place that talks to the archive: a document for each message that is given up.

use std::collections::BTreeMap;

use aws_sdk_s3::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata},
    primitives::ByteStream,
};
use aws_smithy_types::base64;
use jiff::{Timestamp, tz::TimeZone};
use messages::Event;
use platform::Attribute;
use serde::Serialize;
use serde_json::Value;

use crate::{DeadLetter, plan::Reason};

/// Where the documents are.
pub(crate) const FOLDER: &str = "dead-letters/";

#[derive(Debug, Clone)]
pub struct Archive {
    client: Client,
    bucket: String,
}

/// All that is known of a message that was given up.
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
    #[error("the archive refused {key}: {error}")]
    Refused { key: String, error: String },
}

impl Archive {
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into() }
    }

    /// Writes the document of a letter and returns once S3 has confirmed it, or has confirmed that
    /// it was there already. A document is never overwritten.
    pub(crate) async fn put(
        &self,
        letter: &DeadLetter,
        events: &[Event],
        reason: &Reason,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Result<(), ArchiveError> {
        let id = events.first().map(|event| event.id.as_str());
        let attributes = letter.attributes.iter().map(|(name, attribute)| {
            let Attribute { data_type, text, binary } = attribute;
            let binary = binary.as_deref().map(base64::encode);
            (name.as_str(), AttributeDocument { data_type, text: text.as_deref(), binary })
        });
        let document = serde_json::to_vec(&Document {
            id,
            message_id: &letter.message_id,
            class: &reason.class,
            message: &reason.message,
            enqueued_at: letter.sent,
            archived_at: now,
            receive_count: letter.receive_count,
            redrives: letter.redrives(events),
            group_id: letter.group_id.as_deref(),
            attributes: attributes.collect(),
            body: &letter.body,
            events,
        })?;
        // The day of the message, not of the run: a repeat on another day finds its document.
        let date = letter.sent.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string();
        let key = |name: &str| format!("{FOLDER}date={date}/{name}.json");
        let first = key(id.unwrap_or(&letter.message_id));
        if self.create(&first, &document).await? || self.is_of(&first, &letter.message_id).await? {
            return Ok(());
        }
        // Another message about the same event. What has this message's id is this message.
        let second = key(&format!("{}-{}", id.unwrap_or_default(), letter.message_id));
        self.create(&second, &document).await.map(|_| ())
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
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("PreconditionFailed") => Ok(false),
            Err(error) => Err(refused(key, DisplayErrorContext(&error))),
        }
    }

    /// All keys under a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Result<Vec<String>, ArchiveError> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let mut pages = list.into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| refused(prefix, DisplayErrorContext(&error)))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|o| o.key));
        }
        Ok(keys)
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Stored, ArchiveError> {
        let answer = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let answer = answer.map_err(|error| refused(key, DisplayErrorContext(&error)))?;
        let e_tag = answer.e_tag.unwrap_or_default();
        let bytes = answer.body.collect().await.map_err(|error| refused(key, error))?;
        Ok(Stored { document: serde_json::from_slice(&bytes.into_bytes())?, e_tag })
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
            .map_err(|error| refused(key, DisplayErrorContext(&error)))?;
        Ok(())
    }

    /// Whether the document at `key` is about this message.
    async fn is_of(&self, key: &str, message_id: &str) -> Result<bool, ArchiveError> {
        Ok(self.get(key).await?.document["messageId"] == message_id)
    }
}

fn refused(key: &str, error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Refused { key: key.to_owned(), error: error.to_string() }
}
