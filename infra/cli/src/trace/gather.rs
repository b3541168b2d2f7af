//! Asks AWS for all that is known of one write.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_sfn::types::HistoryEvent;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use messages::EventId;
use serde_json::Value;

use super::{
    story::{Document, Execution, Facts, Item, Step, Story, Version},
    target::Target,
};
use crate::{
    aws::{FUNCTIONS, Stack, timestamp},
    failure::Failure,
};

/// For how long after its event a message can be in a queue, and so what day a document can have:
/// the nights of all redrives, the retention of a letter, and some more for a restore.
const DOCUMENT_DAYS: i64 = 60;

/// Calls under way at once.
const CONCURRENCY: usize = 8;

/// What Step Functions remembers an execution for.
const REMEMBERED: Duration = Duration::from_hours(90 * 24);

/// Lines of a history that are told: an execution over a large file has thousands.
const MAX_STEPS: usize = 40;

pub(super) struct Gatherer<'a> {
    stack: &'a Stack,
    bucket: &'a str,
    archive: &'a str,
    machine: &'a str,
    with_logs: bool,
    now: Timestamp,
}

/// A write to be told about.
#[derive(Debug, Default)]
pub(super) struct Subject {
    id: Option<String>,
    key: Option<String>,
    version: Option<Version>,
    gaps: Vec<String>,
}

impl<'a> Gatherer<'a> {
    pub(super) fn new(stack: &'a Stack, with_logs: bool, now: Timestamp) -> Result<Self, Failure> {
        Ok(Self {
            stack,
            bucket: stack.output("UploadBucketName")?,
            archive: stack.output("ArchiveBucketName")?,
            machine: stack.output("StateMachineArn")?,
            with_logs,
            now,
        })
    }

    /// The writes that a target means, newest first.
    pub(super) async fn subjects(&self, target: &Target) -> Result<Vec<Subject>, Failure> {
        let (bucket, key) = match target {
            Target::Object { bucket, key } => (bucket.as_deref(), key),
            Target::Event(id) => return Ok(vec![self.of_event(id.as_str()).await?]),
        };
        if let Some(other) = bucket.filter(|bucket| *bucket != self.bucket) {
            return Err(Failure::Usage(format!(
                "stack `{}` watches the bucket {}, not {other}: name the other stack with --stack",
                self.stack.name, self.bucket
            )));
        }
        let versions = self.versions(key).await?;
        if versions.is_empty() {
            return Err(Failure::Usage(format!(
                "the bucket {} has no object with the key `{key}`, and no version of one",
                self.bucket
            )));
        }
        Ok(versions.into_iter().map(|version| self.of_version(key, version)).collect())
    }

    fn of_version(&self, key: &str, version: Version) -> Subject {
        let id = version.id.as_deref();
        let id = id.map(|version| EventId::of_write(self.bucket, key, version).to_string());
        let mut gaps = Vec::new();
        if id.is_none() {
            gaps.push(
                "The version has no id, since the bucket had no versioning when it was written; the id of \
                 its event needs the sequencer, which only the event has."
                    .to_owned(),
            );
        }
        Subject { id, key: Some(key.to_owned()), version: Some(version), gaps }
    }

    /// A write of which only the id is known. The first execution says which object it is about.
    async fn of_event(&self, id: &str) -> Result<Subject, Failure> {
        let mut subject = Subject { id: Some(id.to_owned()), ..Subject::default() };
        let Some((_, input)) = self.execution(id, 0).await? else { return Ok(subject) };
        let text = |pointer: &str| input.pointer(pointer).and_then(Value::as_str);
        subject.key = text("/data/key").map(str::to_owned);
        if let (Some(key), Some(version)) = (&subject.key, text("/data/versionId")) {
            let versions = self.versions(key).await?;
            subject.version = versions.into_iter().find(|it| it.id.as_deref() == Some(version));
        }
        Ok(subject)
    }

    /// The versions of one object, newest first.
    async fn versions(&self, key: &str) -> Result<Vec<Version>, Failure> {
        let mut versions = Vec::new();
        let list = self.stack.s3.list_object_versions().bucket(self.bucket).prefix(key);
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let page = list
                .clone()
                .set_key_marker(key_marker)
                .set_version_id_marker(version_marker)
                .send()
                .await
                .map_err(Failure::of("s3:ListBucketVersions"))?;
            let listed = page.versions.unwrap_or_default();
            // The keys are in order, and that of the prefix itself is the first.
            let is_over = listed.iter().any(|version| version.key() != Some(key));
            versions.extend(listed.iter().filter(|version| version.key() == Some(key)).map(|it| {
                Version {
                    id: it.version_id().filter(|id| *id != "null").map(str::to_owned),
                    written: it.last_modified().and_then(timestamp).unwrap_or_default(),
                    bytes: it.size().and_then(|size| size.try_into().ok()).unwrap_or_default(),
                    is_latest: it.is_latest().unwrap_or_default(),
                }
            }));
            (key_marker, version_marker) = (page.next_key_marker, page.next_version_id_marker);
            if is_over || key_marker.is_none() {
                break;
            }
        }
        versions.sort_by(|a, b| b.written.cmp(&a.written).then(b.is_latest.cmp(&a.is_latest)));
        Ok(versions)
    }

    pub(super) async fn story(&self, subject: Subject) -> Result<Story, Failure> {
        let Subject { id, key, version, gaps } = subject;
        let mut facts = Facts { id, key, version, gaps, ..Facts::default() };
        if let Some(id) = facts.id.clone() {
            let written = facts.version.as_ref().map(|version| version.written);
            let (executions, documents) = tokio::join!(
                Box::pin(self.executions(&id)),
                Box::pin(self.documents(&id, written)),
            );
            let executions = part(executions, "Step Functions", &mut facts.gaps)?;
            let (executions, mut inputs): (Vec<_>, Vec<_>) = executions.into_iter().unzip();
            facts.executions = executions;
            facts.documents = part(documents, "The archive", &mut facts.gaps)?;
            let input = inputs.pop().unwrap_or_default();
            let key = input.pointer("/data/key").and_then(Value::as_str);
            facts.key = facts.key.take().or_else(|| key.map(str::to_owned));
            facts.item = part(self.item(&input).await, "The table", &mut facts.gaps)?;
            self.limits_of_step_functions(&mut facts);
        }
        if self.with_logs {
            self.logs(&mut facts).await?;
        } else {
            facts.gaps.push("The logs were not read (--without-logs).".to_owned());
        }
        Ok(Story::of(facts))
    }

    fn limits_of_step_functions(&self, facts: &mut Facts) {
        let written = facts.version.as_ref().map(|version| version.written);
        let is_old = written.is_some_and(|at| crate::output::since(at, self.now) > REMEMBERED);
        if is_old && facts.executions.is_empty() {
            let gap = "It was written more than 90 days ago: Step Functions remembers no execution for longer.";
            facts.gaps.push(gap.to_owned());
        }
    }

    /// All attempts. Attempt N is made only after the one before it has failed, or was archived.
    async fn executions(&self, id: &str) -> Result<Vec<(Execution, Value)>, Failure> {
        let mut found = Vec::new();
        for attempt in 0.. {
            let Some((mut execution, input)) = self.execution(id, attempt).await? else { break };
            execution.steps = self.steps(&execution.name).await?;
            found.push((execution, input));
        }
        Ok(found)
    }

    fn execution_arn(&self, name: &str) -> String {
        format!("{}:{name}", self.machine.replacen(":stateMachine:", ":execution:", 1))
    }

    async fn execution(
        &self,
        id: &str,
        attempt: u32,
    ) -> Result<Option<(Execution, Value)>, Failure> {
        let name = if attempt == 0 { id.to_owned() } else { format!("{id}-r{attempt}") };
        let answer = self
            .stack
            .sfn
            .describe_execution()
            .execution_arn(self.execution_arn(&name))
            .send()
            .await;
        let described = match answer {
            Ok(described) => described,
            Err(error) if error.code() == Some("ExecutionDoesNotExist") => return Ok(None),
            Err(error) => return Err(Failure::of("states:DescribeExecution")(error)),
        };
        let json = |text: Option<&str>| -> Value {
            text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let outcome = json(described.output())["outcome"].as_str().map(str::to_owned);
        let execution = Execution {
            name,
            attempt,
            status: described.status().as_str().to_owned(),
            started: timestamp(described.start_date()).unwrap_or_default(),
            ended: described.stop_date().and_then(timestamp),
            outcome,
            error: described.error().map(str::to_owned),
            cause: described.cause().map(str::to_owned),
            steps: Vec::new(),
        };
        Ok(Some((execution, json(described.input()))))
    }

    async fn steps(&self, name: &str) -> Result<Vec<Step>, Failure> {
        let mut pages = self
            .stack
            .sfn
            .get_execution_history()
            .execution_arn(self.execution_arn(name))
            .include_execution_data(false)
            .into_paginator()
            .send();
        let mut steps = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(Failure::of("states:GetExecutionHistory"))?;
            steps.extend(page.events.iter().filter_map(step));
            if steps.len() > MAX_STEPS {
                steps.truncate(MAX_STEPS);
                if let Some(last) = steps.last_mut() {
                    "…".clone_into(&mut last.what);
                }
                break;
            }
        }
        Ok(steps)
    }

    /// The item of the device that an input is about.
    async fn item(&self, input: &Value) -> Result<Option<Item>, Failure> {
        let device = input.pointer("/data/content/deviceId").and_then(Value::as_str);
        let table = self.stack.optional_output("DeviceStateTableName");
        let (Some(device), Some(table)) = (device, table) else { return Ok(None) };
        let answer = self
            .stack
            .dynamodb
            .get_item()
            .table_name(table)
            .key("deviceId", AttributeValue::S(device.to_owned()))
            .consistent_read(true)
            .projection_expression("lastEventId, objectKey, writtenAt")
            .send()
            .await
            .map_err(Failure::of("dynamodb:GetItem"))?;
        Ok(answer.item.map(|item| {
            let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
            Item {
                device: device.to_owned(),
                last_event_id: text("lastEventId").cloned().unwrap_or_default(),
                object_key: text("objectKey").cloned().unwrap_or_default(),
                written_at: text("writtenAt").and_then(|time| time.parse().ok()),
            }
        }))
    }

    /// The documents about an event. Their names begin with its id, below the day of their message.
    async fn documents(
        &self,
        id: &str,
        written: Option<Timestamp>,
    ) -> Result<Vec<Document>, Failure> {
        let found: Vec<Vec<Document>> = stream::iter(days(written, self.now))
            .map(|day| self.documents_of(day, id))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut documents: Vec<_> = found.into_iter().flatten().collect();
        documents.sort_by_key(|document| document.archived);
        Ok(documents)
    }

    async fn documents_of(
        &self,
        day: jiff::civil::Date,
        id: &str,
    ) -> Result<Vec<Document>, Failure> {
        let prefix = format!("dead-letters/date={day}/{id}");
        let list = self.stack.s3.list_objects_v2().bucket(self.archive).prefix(prefix);
        let page = list.send().await.map_err(Failure::of("s3:ListBucket"))?;
        let mut documents = Vec::new();
        for key in page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key) {
            let object = self.stack.s3.get_object().bucket(self.archive).key(&key).send().await;
            let object = object.map_err(Failure::of("s3:GetObject"))?;
            let unreadable = |why: String| Failure::Unreadable {
                of: "the archive",
                why: format!("{key}: {why}"),
            };
            let bytes =
                object.body.collect().await.map_err(|error| unreadable(error.to_string()))?;
            let document: Value = serde_json::from_slice(&bytes.into_bytes())
                .map_err(|error| unreadable(error.to_string()))?;
            documents.push(read_document(key, &document));
        }
        Ok(documents)
    }

    async fn logs(&self, facts: &mut Facts) -> Result<(), Failure> {
        let Some(text) = facts.id.clone().or_else(|| facts.key.clone()) else { return Ok(()) };
        let written = facts.version.as_ref().map(|version| version.written);
        let first = facts.executions.first().map(|execution| execution.started);
        // Two weeks back, where nothing says when it began.
        let back = written
            .or(first)
            .map_or(Duration::from_hours(14 * 24), |at| crate::output::since(at, self.now))
            + Duration::from_mins(5);
        let logs = FUNCTIONS.iter().map(async |(output, name)| {
            (*name, self.stack.log_lines(output, name, &text, back).await)
        });
        for (name, found) in futures::future::join_all(logs).await {
            let found = part(found, &format!("The log of the {name}"), &mut facts.gaps)?;
            if found.cut_short {
                facts
                    .gaps
                    .push(format!("The log of the {name} is too long to be read to its end."));
            }
            facts.lines.extend(found.lines.into_iter().filter(|line| {
                let is_about_it = facts.id.as_deref().is_none_or(|id| line.text("event.id") == id);
                is_about_it && !line.text("message").is_empty()
            }));
        }
        facts.lines.sort_by_key(|line| line.at);
        if facts.key.is_none() {
            let named =
                facts.lines.iter().map(|line| line.text("object.key")).find(|it| !it.is_empty());
            facts.key = named.map(str::to_owned);
        }
        Ok(())
    }
}

/// What one of the places has answered, or nothing and a gap that says why.
fn part<T: Default>(
    answer: Result<T, Failure>,
    whose: &str,
    gaps: &mut Vec<String>,
) -> Result<T, Failure> {
    match answer {
        Err(error) if !error.is_of_everything() => {
            gaps.push(format!("{whose} cannot be asked: {error}."));
            Ok(T::default())
        }
        answer => answer,
    }
}

/// The days on which a message about a write can have been sent, in every time zone.
fn days(written: Option<Timestamp>, now: Timestamp) -> Vec<jiff::civil::Date> {
    let day = |time: Timestamp| time.to_zoned(jiff::tz::TimeZone::UTC).date();
    let last = day(now).saturating_add(jiff::Span::new().days(1));
    let earliest = last.saturating_sub(jiff::Span::new().days(DOCUMENT_DAYS - 1));
    let first = written.map(|time| day(time).saturating_sub(jiff::Span::new().days(1)));
    let first = first.unwrap_or(earliest);
    let most = usize::try_from(DOCUMENT_DAYS).unwrap_or_default();
    first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last).take(most).collect()
}

fn read_document(key: String, document: &Value) -> Document {
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let time = |field: &str| document[field].as_str().and_then(|time| time.parse().ok());
    let attempt = &document["events"][0]["attempt"];
    Document {
        key,
        attempt: attempt.as_u64().and_then(|attempt| attempt.try_into().ok()).unwrap_or_default(),
        class: text("class"),
        message: text("message"),
        archived: time("archivedAt").unwrap_or_default(),
        restored: time("restoredAt"),
    }
}

/// One line for what happened in an execution, if it is worth one.
fn step(event: &HistoryEvent) -> Option<Step> {
    let what = if let Some(entered) = event.state_entered_event_details() {
        entered.name().to_owned()
    } else if let Some(failed) = event.task_failed_event_details() {
        problem("a task failed", failed.error(), failed.cause())
    } else if let Some(failed) = event.evaluation_failed_event_details() {
        problem("an expression failed", failed.error(), failed.cause())
    } else if let Some(failed) = event.map_run_failed_event_details() {
        problem("the map run failed", failed.error(), failed.cause())
    } else if let Some(late) = event.task_timed_out_event_details() {
        problem("a task timed out", late.error(), late.cause())
    } else {
        return None;
    };
    Some(Step { at: timestamp(event.timestamp())?, what })
}

fn problem(what: &str, error: Option<&str>, cause: Option<&str>) -> String {
    let mut text = what.to_owned();
    for part in [error, cause].into_iter().flatten() {
        text.extend([": ", &crate::output::shortened(part, 120)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_has_the_id_that_its_notification_has() {
        let notification = json!({ "Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
            "eventName": "ObjectCreated:CompleteMultipartUpload", "eventTime": "2026-11-20T21:00:00Z",
            "s3": {
                "bucket": { "name": "b" },
                "object": { "key": "devices/a+b%2Bc/%EC%83%81.json", "versionId": "v", "sequencer": "A" }
            }
        }] });
        let event = messages::decode(&notification.to_string()).remove(0).unwrap();
        assert_eq!(event.data.key, "devices/a b+c/상.json");
        assert_eq!(EventId::of_write("b", "devices/a b+c/상.json", "v"), event.id);
    }

    #[test]
    fn documents_are_looked_for_from_the_day_before_the_write_to_tomorrow() {
        let now = "2026-11-20T21:00:00Z".parse().unwrap();
        let days_since = |time: &str| days(Some(time.parse().unwrap()), now);
        let three = days_since("2026-11-20T01:00:00Z");
        assert_eq!(
            three.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["2026-11-19", "2026-11-20", "2026-11-21"]
        );
        assert_eq!(days_since("2020-01-01T00:00:00Z").len(), 60);
        assert_eq!(days(None, now).last().unwrap().to_string(), "2026-11-21");
    }
}
