use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{EventId, Identity};

/// A message on the work queue: a CloudEvents 1.0 event in its JSON format, for one S3 event.
///
/// Fields may be added, never removed or given a new meaning: a message can sit in a queue for 14
/// days and meet newer code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    pub(crate) specversion: SpecVersion,
    /// Names the event everywhere; see [`EventId`].
    #[cfg_attr(test, schemars(with = "String", regex(pattern = "^[0-9a-f]{40}$")))]
    pub id: EventId,
    /// `aws:s3.<region>.<bucket>`
    pub source: String,
    /// `com.amazonaws.s3.` and the S3 event name, such as `ObjectCreated:Put`, on every route.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The object key.
    pub subject: String,
    /// When S3 saw the request. To the millisecond, or to the second by way of EventBridge.
    pub time: Timestamp,
    /// How many failed executions of this event came before. A failed execution keeps its name for
    /// 90 days, so the next attempt needs a name of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// The attempt with which a person put the event back from the archive: failures before that
    /// are forgiven.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restored: u32,
    /// How often the message that started the execution had been redriven. The message attribute
    /// that counts this does not survive an execution, so the consumer writes it here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redrives: u32,
    /// Which version of which object.
    pub data: Object,
}

/// The version of an object that an [`Event`] is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Object {
    pub bucket: String,
    /// The key as it is in the bucket, in no encoding.
    pub key: String,
    /// Absent for the null version of an unversioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Entity tag, without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Order of the writes to one key: uppercase hex digits, left-padded with zeros to 32, so that
    /// it compares as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum SpecVersion {
    #[serde(rename = "1.0")]
    V1,
}

const TYPE_PREFIX: &str = "com.amazonaws.s3.";

/// What an envelope says about one S3 event, whatever the envelope.
#[derive(Debug)]
pub(crate) struct S3Event<'a> {
    pub(crate) region: &'a str,
    /// S3 event name, such as `ObjectCreated:Put`.
    pub(crate) name: Cow<'a, str>,
    pub(crate) time: Timestamp,
    pub(crate) bucket: &'a str,
    /// Decoded.
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
    pub(crate) e_tag: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) sequencer: Option<String>,
}

/// A version of an object as a listing of its bucket shows it.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    pub region: &'a str,
    pub bucket: &'a str,
    /// In no encoding.
    pub key: &'a str,
    pub version_id: &'a str,
    /// Without quotes.
    pub e_tag: &'a str,
    /// Bytes.
    pub size: u64,
    /// When it was last modified, which for a version is when it was written.
    pub written: Timestamp,
}

impl From<Version<'_>> for Event {
    /// The event of this write. It has the id of the event that S3 has notified of, and no sequencer,
    /// which no listing shows. Nor does a listing show how the object was written: only uploads in
    /// parts are known, by their entity tags.
    fn from(version: Version<'_>) -> Self {
        let Version { region, bucket, key, version_id, e_tag, size, written } = version;
        let name = if e_tag.contains('-') { "CompleteMultipartUpload" } else { "Put" };
        S3Event {
            region,
            name: Cow::Owned(format!("ObjectCreated:{name}")),
            time: written,
            bucket,
            key: key.to_owned(),
            version_id: Some(version_id.to_owned()),
            e_tag: Some(e_tag.to_owned()),
            size: Some(size),
            sequencer: None,
        }
        .into()
    }
}

impl From<S3Event<'_>> for Event {
    fn from(s3: S3Event<'_>) -> Self {
        let sequencer = s3.sequencer.map(|text| format!("{:0>32}", text.to_ascii_uppercase()));
        let version_id = s3.version_id.filter(|version| !version.is_empty() && version != "null");
        let id = EventId::of(Identity {
            family: family(&s3.name),
            bucket: s3.bucket,
            key: &s3.key,
            version: version_id.as_deref().or(sequencer.as_deref()),
            time: &s3.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        Self {
            specversion: SpecVersion::V1,
            id,
            source: format!("aws:s3.{}.{}", s3.region, s3.bucket),
            event_type: format!("{TYPE_PREFIX}{}", s3.name),
            subject: s3.key.clone(),
            time: s3.time,
            attempt: 0,
            restored: 0,
            redrives: 0,
            data: Object {
                bucket: s3.bucket.to_owned(),
                key: s3.key,
                version_id,
                e_tag: s3.e_tag,
                size: s3.size,
                sequencer,
            },
        }
    }
}

impl Event {
    /// The name under which Step Functions deduplicates: the id, or `<id>-r<N>` for attempt N.
    pub fn execution_name(&self) -> String {
        match self.attempt {
            0 => self.id.to_string(),
            attempt => format!("{}-r{attempt}", self.id),
        }
    }

    /// The id and the attempt in the name of an execution. None if no message of Sluice has started
    /// it.
    pub fn read_execution_name(name: &str) -> Option<(EventId, u32)> {
        let (id, attempt) = match name.split_once("-r") {
            None => (name, 0),
            Some((id, attempt)) => (id, attempt.parse().ok().filter(|attempt| *attempt > 0)?),
        };
        Some((EventId::try_from(id.to_owned()).ok()?, attempt))
    }

    /// Whether the event says that an object was written, so that there is content to process.
    pub fn is_object_created(&self) -> bool {
        let name = self.event_type.strip_prefix(TYPE_PREFIX).unwrap_or_default();
        family(name) == "ObjectCreated"
    }

    /// The event after its execution failed: it runs again under a new name, and two redrives of
    /// one failure still have the same name.
    #[must_use]
    pub fn next_attempt(self) -> Self {
        Self { attempt: self.attempt.saturating_add(1), ..self }
    }

    /// The event with its failures so far forgiven, as a person puts it back from the archive.
    #[must_use]
    pub fn forgiven(self) -> Self {
        Self { restored: self.attempt, redrives: 0, ..self }
    }

    /// The message body. SQS takes no U+FFFE and no U+FFFF, which a key may hold, so they are
    /// escaped like the control characters that JSON itself excludes.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let json = serde_json::to_string(self)?;
        if json.contains(['\u{FFFE}', '\u{FFFF}']) {
            return Ok(json.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff"));
        }
        Ok(json)
    }
}

/// The part of an S3 event name before the colon.
fn family(name: &str) -> &str {
    name.split_once(':').map_or(name, |(family, _)| family)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(crate) fn is_zero(attempt: &u32) -> bool {
    *attempt == 0
}
