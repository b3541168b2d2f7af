//! The input of an execution.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{Event, Object, SpecVersion, is_zero};
use crate::id::EventId;
use crate::numbers::holds_fragile_number;

/// What the consumer gives to an execution beside the event.
#[derive(Debug)]
pub enum Content {
    /// `data.content`: the object itself.
    Inline(Box<RawValue>),
    /// Nothing: the execution reads the object.
    ByReference,
    /// `data.overwritten`: the object cannot be read any more, since a newer write, which has its
    /// own event, replaced it in an unversioned bucket.
    Overwritten,
}

/// The input of an execution: the event, and in its `data` the [`Content`].
///
/// It names the fields of the event again. To take the event in whole would need `serde(flatten)`,
/// which makes every message slower to read.
#[derive(Debug, Serialize)]
pub struct ExecutionInput<'a> {
    specversion: SpecVersion,
    id: &'a EventId,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: &'a str,
    time: Timestamp,
    #[serde(skip_serializing_if = "is_zero")]
    attempt: u32,
    #[serde(skip_serializing_if = "is_zero")]
    restored: u32,
    #[serde(skip_serializing_if = "is_zero")]
    redrives: u32,
    data: ExecutionData<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecutionData<'a> {
    #[serde(flatten)]
    object: &'a Object,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, RawValue>>,
    /// The JSON text of each member of the content that holds a number which Step Functions may
    /// round, so that an execution can pass it on as the device wrote it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    content_text: BTreeMap<String, &'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    overwritten: bool,
}

impl<'a> ExecutionInput<'a> {
    pub fn new(event: &'a Event, content: &'a Content) -> Self {
        let (content, overwritten) = match content {
            Content::Inline(content) => (Some(&**content), false),
            Content::ByReference => (None, false),
            Content::Overwritten => (None, true),
        };
        Self {
            specversion: event.specversion,
            id: &event.id,
            source: &event.source,
            event_type: &event.event_type,
            subject: &event.subject,
            time: event.time,
            attempt: event.attempt,
            restored: event.restored,
            redrives: event.redrives,
            data: ExecutionData {
                object: &event.data,
                content: content.map(Cow::Borrowed),
                content_text: content.map(texts).unwrap_or_default(),
                overwritten,
            },
        }
    }

    /// The same, for where there is no room for both: what is in `data.contentText` is left out of
    /// `data.content`.
    pub fn without_repetition(mut self) -> Result<Self, serde_json::Error> {
        if let Some(content) = &self.data.content
            && !self.data.content_text.is_empty()
        {
            let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(content.get())?;
            members.retain(|name, _| !self.data.content_text.contains_key(name));
            let rest = serde_json::value::to_raw_value(&members)?;
            self.data.content = Some(Cow::Owned(rest));
        }
        Ok(self)
    }

    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// The text of the members that hold a fragile number. Only an object has members; and what is no
/// object has no name by which an execution could ask for its text.
fn texts(content: &RawValue) -> BTreeMap<String, &str> {
    if !holds_fragile_number(content.get()) {
        return BTreeMap::new();
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(content.get()).unwrap_or_default();
    let texts = members.into_iter().map(|(name, value)| (name, value.get()));
    texts.filter(|(_, text)| holds_fragile_number(text)).collect()
}
