//! One decoder for every envelope in which an S3 event can reach a function or a queue.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{Event, S3Event};

/// How many steps deep an event may stand. AWS itself makes seven:
/// `Records[0].body.requestPayload.Records[0].Sns.Message.Records[0]`.
const MAX_NESTING: usize = 16;

/// Decodes any envelope into its events, in order: one result for each S3 event it holds.
///
/// None for `s3:TestEvent`, which S3 sends once when a notification is configured. Envelopes nest:
/// S3 notification, SNS (to Lambda, to SQS, raw), EventBridge S3 event, SQS records, Lambda
/// on-failure destination record, Step Functions status change, the state machine's own dead
/// letter, and the [`Event`] itself. A failed execution comes back as its event's next attempt.
///
/// Keys are decoded exactly once: S3 notifications form-encode them, EventBridge does not.
pub fn decode(body: &str) -> Vec<Result<Event, DecodeError>> {
    let mut events = Vec::new();
    if let Err(error) = envelope(body, &Place::ROOT, &mut events) {
        events.push(Err(error));
    }
    events
}

/// Decodes the input of an execution that failed: its events, each as its next attempt.
pub fn decode_failed_input(input: &str) -> Vec<Result<Event, DecodeError>> {
    let mut events = Vec::new();
    if let Err(error) = next_attempts(input, &Place::ROOT, &mut events) {
        events.push(Err(error));
    }
    events
}

/// What cannot be decoded, where it stands, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode {envelope}: {problem} at `{path}`")]
pub struct DecodeError {
    /// The innermost envelope that was recognised.
    pub envelope: &'static str,
    /// JSON path from the outermost envelope, such as `requestPayload.Records[0].s3.object.key`.
    pub path: String,
    /// What was found, and what was expected.
    pub problem: String,
    /// ARN of an execution, if nothing is wrong but that its input is not here: Step Functions
    /// leaves a large one out of a status change. Who may ask Step Functions can go on with
    /// [`decode_failed_input`].
    pub input_left_out_of: Option<String>,
}

type Events = Vec<Result<Event, DecodeError>>;
type Outcome<T> = Result<T, DecodeError>;

/// The fields by which an envelope is told from another; none of their values is looked at yet.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow, rename = "Records")]
    records: Option<Vec<&'a RawValue>>,
    #[serde(borrow, rename = "detail-type")]
    detail_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "TopicArn")]
    topic_arn: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestPayload")]
    request_payload: Option<&'a RawValue>,
    #[serde(borrow, rename = "failedExecution")]
    failed_execution: Option<&'a RawValue>,
    #[serde(borrow, rename = "Event")]
    event: Option<&'a RawValue>,
}

fn envelope(json: &str, at: &Place<'_>, events: &mut Events) -> Outcome<()> {
    const ANY: &str = "a message";
    if at.depth > MAX_NESTING {
        return Err(at.error(ANY, "expected fewer envelopes in each other"));
    }
    let probe: Probe<'_> = parse(ANY, json, at)?;
    if probe.specversion.is_some() {
        events.push(Ok(parse("a CloudEvent", json, at)?));
        Ok(())
    } else if let Some(records) = probe.records {
        // One record that cannot be decoded does not take its neighbours with it.
        for (index, json) in records.iter().enumerate() {
            if let Err(error) = record(json.get(), &at.index("Records", index), events) {
                events.push(Err(error));
            }
        }
        Ok(())
    } else if probe.detail_type.is_some() {
        event_bridge(json, at, events)
    } else if probe.topic_arn.is_some() {
        sns(json, at, events)
    } else if let Some(payload) = probe.request_payload {
        envelope(payload.get(), &at.field("requestPayload"), events)
    } else if probe.failed_execution.is_some() {
        failed_execution(json, at, events)
    } else if probe.event.is_some_and(|event| event.get() == r#""s3:TestEvent""#) {
        Ok(())
    } else {
        Err(at.error(
            ANY,
            "expected an S3 notification, an SNS notification, an EventBridge event, a Lambda \
             destination record or a CloudEvent",
        ))
    }
}

/// An element of `Records`, by its event source. (SNS capitalises the field, S3 and SQS do not.)
fn record(json: &str, at: &Place<'_>, events: &mut Events) -> Outcome<()> {
    const RECORD: &str = "a record";
    #[derive(Deserialize)]
    struct Record<'a> {
        #[serde(borrow, alias = "EventSource")]
        #[serde(rename = "eventSource")]
        event_source: Cow<'a, str>,
        #[serde(borrow, rename = "Sns")]
        sns: Option<&'a RawValue>,
        #[serde(borrow)]
        body: Option<Cow<'a, str>>,
    }
    let record: Record<'_> = parse(RECORD, json, at)?;
    match (&*record.event_source, record.sns, record.body) {
        ("aws:s3", _, _) => {
            events.push(Ok(s3_record(json, at)?));
            Ok(())
        }
        ("aws:sns", Some(notification), _) => sns(notification.get(), &at.field("Sns"), events),
        ("aws:sqs", _, Some(body)) => envelope(&body, &at.field("body"), events),
        (source, _, _) => Err(at.field("eventSource").error(
            RECORD,
            format!(
                "expected `aws:s3`, `aws:sns` with `Sns` or `aws:sqs` with `body`, found `{source}`"
            ),
        )),
    }
}

/// One record of an S3 notification: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>.
/// Restore, tagging, ACL and lifecycle events have no sequencer, and may have no size and no eTag.
fn s3_record(json: &str, at: &Place<'_>) -> Outcome<Event> {
    const S3: &str = "an S3 notification";

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version<'a> {
        #[serde(borrow)]
        event_version: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record<'a> {
        #[serde(borrow)]
        aws_region: Cow<'a, str>,
        event_time: Timestamp,
        #[serde(borrow)]
        event_name: Cow<'a, str>,
        #[serde(borrow)]
        s3: Entity<'a>,
    }
    #[derive(Deserialize)]
    struct Entity<'a> {
        #[serde(borrow)]
        bucket: Named<'a>,
        #[serde(borrow)]
        object: Object<'a>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Object<'a> {
        #[serde(borrow)]
        key: Cow<'a, str>,
        size: Option<u64>,
        e_tag: Option<String>,
        version_id: Option<String>,
        sequencer: Option<String>,
    }

    // Before anything else: a later major version may have a different shape altogether.
    let version: Version<'_> = parse(S3, json, at)?;
    if !version.event_version.starts_with("2.") {
        return Err(at.field("eventVersion").error(
            S3,
            format!(
                "expected version 2.x, found `{}`: this needs a newer Sluice",
                version.event_version
            ),
        ));
    }
    let record: Record<'_> = parse(S3, json, at)?;
    let place = at.field("s3");
    let object = record.s3.object;
    let key = form_decode(&object.key)
        .map_err(|problem| place.field("object").field("key").error(S3, problem))?;
    event(
        S3,
        &place,
        S3Event {
            region: &record.aws_region,
            name: Cow::Borrowed(record.event_name.trim_start_matches("s3:")),
            time: record.event_time,
            bucket: &record.s3.bucket.name,
            key,
            version_id: object.version_id,
            e_tag: object.e_tag,
            size: object.size,
            sequencer: object.sequencer,
        },
    )
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// An SNS notification, as the `Sns` of a Lambda record or as the body of an SQS message.
fn sns(json: &str, at: &Place<'_>, events: &mut Events) -> Outcome<()> {
    #[derive(Deserialize)]
    struct Notification<'a> {
        #[serde(borrow, rename = "Message")]
        message: Cow<'a, str>,
    }
    let notification: Notification<'_> = parse("an SNS notification", json, at)?;
    envelope(&notification.message, &at.field("Message"), events)
}

/// An event from an EventBridge bus, by its source.
fn event_bridge(json: &str, at: &Place<'_>, events: &mut Events) -> Outcome<()> {
    const EVENT: &str = "an EventBridge event";
    #[derive(Deserialize)]
    struct Source<'a> {
        #[serde(borrow)]
        source: Cow<'a, str>,
    }
    match &*parse::<Source<'_>>(EVENT, json, at)?.source {
        "aws.s3" => {
            events.push(Ok(event_bridge_s3(json, at)?));
            Ok(())
        }
        "aws.states" => status_change(json, at, events),
        source => Err(at
            .field("source")
            .error(EVENT, format!("expected `aws.s3` or `aws.states`, found `{source}`"))),
    }
}

/// An S3 event from EventBridge: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>.
fn event_bridge_s3(json: &str, at: &Place<'_>) -> Outcome<Event> {
    const EVENT: &str = "an EventBridge S3 event";

    #[derive(Deserialize)]
    struct S3<'a> {
        #[serde(borrow, rename = "detail-type")]
        detail_type: Cow<'a, str>,
        time: Timestamp,
        #[serde(borrow)]
        region: Cow<'a, str>,
        #[serde(borrow)]
        detail: Detail<'a>,
    }
    #[derive(Deserialize)]
    struct Detail<'a> {
        #[serde(borrow)]
        bucket: Named<'a>,
        object: Object,
        #[serde(borrow)]
        reason: Option<Cow<'a, str>>,
        #[serde(borrow, rename = "deletion-type")]
        deletion_type: Option<Cow<'a, str>>,
    }
    #[derive(Deserialize)]
    struct Object {
        key: String,
        size: Option<u64>,
        etag: Option<String>,
        #[serde(rename = "version-id")]
        version_id: Option<String>,
        sequencer: Option<String>,
    }

    let s3: S3<'_> = parse(EVENT, json, at)?;
    let detail = s3.detail;
    let name =
        s3_event_name(&s3.detail_type, detail.reason.as_deref(), detail.deletion_type.as_deref())
            .ok_or_else(|| {
            at.field("detail-type")
                .error(EVENT, format!("expected an S3 event, found `{}`", s3.detail_type))
        })?;
    event(
        EVENT,
        &at.field("detail"),
        S3Event {
            region: &s3.region,
            name: Cow::Owned(name),
            time: s3.time,
            bucket: &detail.bucket.name,
            key: detail.object.key,
            version_id: detail.object.version_id,
            e_tag: detail.object.etag,
            size: detail.object.size,
            sequencer: detail.object.sequencer,
        },
    )
}

/// The S3 event name that a direct notification of the same event has.
fn s3_event_name(
    detail_type: &str,
    reason: Option<&str>,
    deletion: Option<&str>,
) -> Option<String> {
    let removal = match deletion {
        Some("Delete Marker Created") => "DeleteMarkerCreated",
        _ => "Delete",
    };
    Some(match (detail_type, reason) {
        ("Object Created", Some("PutObject") | None) => "ObjectCreated:Put".into(),
        ("Object Created", Some("POST Object")) => "ObjectCreated:Post".into(),
        ("Object Created", Some("CopyObject")) => "ObjectCreated:Copy".into(),
        // `CompleteMultipartUpload`, and what S3 may add.
        ("Object Created", Some(reason)) => format!("ObjectCreated:{}", reason.replace(' ', "")),
        ("Object Deleted", Some("Lifecycle Expiration")) => {
            format!("LifecycleExpiration:{removal}")
        }
        ("Object Deleted", _) => format!("ObjectRemoved:{removal}"),
        ("Object Restore Initiated", _) => "ObjectRestore:Post".into(),
        ("Object Restore Completed", _) => "ObjectRestore:Completed".into(),
        ("Object Restore Expired", _) => "ObjectRestore:Delete".into(),
        ("Object Storage Class Changed", _) => "LifecycleTransition".into(),
        ("Object Access Tier Changed", _) => "IntelligentTiering".into(),
        ("Object ACL Updated", _) => "ObjectAcl:Put".into(),
        ("Object Tags Added", _) => "ObjectTagging:Put".into(),
        ("Object Tags Deleted", _) => "ObjectTagging:Delete".into(),
        _ => return None,
    })
}

/// A Step Functions status change: the execution's input, as the next attempt of its events.
fn status_change(json: &str, at: &Place<'_>, events: &mut Events) -> Outcome<()> {
    const STATUS: &str = "a Step Functions status change";

    #[derive(Deserialize)]
    struct Change<'a> {
        #[serde(borrow)]
        detail: Detail<'a>,
    }
    #[derive(Deserialize)]
    struct Detail<'a> {
        #[serde(borrow)]
        status: Cow<'a, str>,
        #[serde(borrow, rename = "executionArn")]
        execution_arn: Option<Cow<'a, str>>,
        #[serde(borrow)]
        input: Option<Cow<'a, str>>,
    }

    let Detail { status, execution_arn, input } = parse::<Change<'_>>(STATUS, json, at)?.detail;
    let place = at.field("detail");
    // A further attempt of an execution that runs or has succeeded would be a second start.
    if !matches!(&*status, "FAILED" | "TIMED_OUT" | "ABORTED") {
        return Err(place.field("status").error(
            STATUS,
            format!("expected `FAILED`, `TIMED_OUT` or `ABORTED`, found `{status}`"),
        ));
    }
    let place = place.field("input");
    // Without `inputDetails.included`: where there is an input, it is the input.
    let input = input.ok_or_else(|| DecodeError {
        input_left_out_of: execution_arn.map(Cow::into_owned),
        ..place
            .error(STATUS, "expected the input, which Step Functions leaves out when it is large")
    })?;
    next_attempts(&input, &place, events)
}

/// What the state machine sends to the dead-letter queue before it fails.
fn failed_execution(json: &str, at: &Place<'_>, events: &mut Events) -> Outcome<()> {
    #[derive(Deserialize)]
    struct DeadLetter<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
    }
    let letter: DeadLetter<'_> = parse("a failed execution", json, at)?;
    next_attempts(letter.event.get(), &at.field("event"), events)
}

fn next_attempts(json: &str, at: &Place<'_>, events: &mut Events) -> Outcome<()> {
    let mut failed = Vec::new();
    envelope(json, at, &mut failed)?;
    events.extend(failed.into_iter().map(|event| event.map(Event::next_attempt)));
    Ok(())
}

/// The last check of every route: what names the event must be there and unambiguous.
fn event(envelope: &'static str, at: &Place<'_>, s3: S3Event<'_>) -> Outcome<Event> {
    for (part, text) in [
        ("event name", Some(&*s3.name)),
        ("bucket name", Some(s3.bucket)),
        ("version id", s3.version_id.as_deref()),
        ("sequencer", s3.sequencer.as_deref()),
    ] {
        if text.is_some_and(|text| text.contains('\0')) {
            return Err(at.error(envelope, format!("expected a {part} without NUL")));
        }
    }
    if s3.key.is_empty() || s3.bucket.is_empty() {
        return Err(at.error(envelope, "expected a bucket name and a key, found an empty one"));
    }
    Ok(s3.into())
}

/// Decodes a key as S3 encodes it in notifications: `application/x-www-form-urlencoded`, in UTF-8.
pub fn form_decode(key: &str) -> Result<String, &'static str> {
    let spaced = key.replace('+', " ");
    percent_decode(spaced.as_bytes())
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| "expected a form-encoded key in UTF-8")
}

/// Parses strictly by type and leniently by field; on an error, parses again to learn the path.
fn parse<'a, T: Deserialize<'a>>(
    envelope: &'static str,
    json: &'a str,
    at: &Place<'_>,
) -> Outcome<T> {
    serde_json::from_str(json).map_err(|error| {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            Err(error) => DecodeError {
                envelope,
                path: at.join(&error.path().to_string()),
                problem: error.into_inner().to_string(),
                input_left_out_of: None,
            },
            // What follows the document is wrong, not the document.
            Ok(_) => at.error(envelope, error.to_string()),
        }
    })
}

/// A place in a document, as a list from the inside out, so that nothing is written down until
/// there is an error to report.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    field: &'static str,
    index: Option<usize>,
    /// Distance from the outermost document.
    depth: usize,
}

impl Place<'_> {
    const ROOT: Place<'static> = Place { parent: None, field: "", index: None, depth: 0 };

    fn field(&self, field: &'static str) -> Place<'_> {
        Place { parent: Some(self), field, index: None, depth: self.depth + 1 }
    }

    fn index(&self, field: &'static str, index: usize) -> Place<'_> {
        Place { index: Some(index), ..self.field(field) }
    }

    fn error(&self, envelope: &'static str, problem: impl Into<String>) -> DecodeError {
        DecodeError {
            envelope,
            path: self.join("."),
            problem: problem.into(),
            input_left_out_of: None,
        }
    }

    /// The path of something inside; `.` is the place itself.
    fn join(&self, inside: &str) -> String {
        let place = self.to_string();
        match (place.is_empty(), inside) {
            (true, _) => inside.to_owned(),
            (false, ".") => place,
            (false, _) => format!("{place}.{inside}"),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if parent.parent.is_some() {
                f.write_str(".")?;
            }
        }
        f.write_str(self.field)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}
