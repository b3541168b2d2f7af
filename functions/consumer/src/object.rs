use std::path::Path;

use aws_sdk_s3::{
    Client, error::ProvideErrorMetadata, operation::get_object::GetObjectOutput,
    types::StorageClass,
};
use messages::{Content, ErrorClass, Event};

use crate::{Cause, Config, InlineContent, verdict::Verdict};

/// Reads what the execution gets of the object: the very version that the event is about, if it is
/// small enough to be passed inline.
///
/// In an unversioned bucket an object can be overwritten before it is read. Its `ETag` then differs,
/// and the newer content, which has its own event, is not passed off as this one's.
///
/// For an object that goes by reference, it only asks S3 whether the object is still there, so that
/// one that is gone, archived or overwritten is noticed before an execution starts. What happens
/// between that question and the execution's own read, the execution has to notice.
pub(crate) async fn read(s3: &Client, event: &Event, config: &Config) -> Result<Content, Verdict> {
    let limit = config.inline_object_max_bytes;
    // Nothing was written, or nothing of it is wanted.
    if !event.is_object_created() || config.inline_content == InlineContent::Never || limit == 0 {
        return Ok(Content::ByReference);
    }
    // JSON Lines are many device states: the state machine maps over them.
    if is_json_lines(&event.data.key) || event.data.size.is_some_and(|size| size > limit) {
        return Box::pin(ask_after(s3, event)).await;
    }
    get(s3, event, config).await
}

async fn get(s3: &Client, event: &Event, config: &Config) -> Result<Content, Verdict> {
    let object = &event.data;
    let answer = s3
        .get_object()
        .bucket(&object.bucket)
        .key(&object.key)
        .set_version_id(object.version_id.clone())
        .set_if_match(if_match(event))
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.code() == Some("PreconditionFailed") => {
            return Ok(Content::Overwritten);
        }
        Err(error) => return Err(Verdict::of_get_error(&error)),
    };
    // Not every event tells the size.
    let limit = config.inline_object_max_bytes;
    if answer.content_length().is_some_and(|n| u64::try_from(n).is_ok_and(|n| n > limit)) {
        return Ok(Content::ByReference);
    }
    parse(answer, config.inline_content).await
}

async fn parse(answer: GetObjectOutput, wanted: InlineContent) -> Result<Content, Verdict> {
    let bytes = answer.body.collect().await;
    let bytes = bytes.map_err(|error| Verdict::defer(Cause::Unavailable, error))?.to_vec();
    match serde_json::from_slice(&bytes) {
        Ok(content) => Ok(Content::Inline(content)),
        Err(_) if wanted == InlineContent::Preferred => Ok(Content::ByReference),
        // The message ends in "at line 3 column 7".
        Err(error) => Err(Verdict::dead_letter(
            ErrorClass::NotJson,
            format_args!("the object is not JSON: {error}"),
        )),
    }
}

async fn ask_after(s3: &Client, event: &Event) -> Result<Content, Verdict> {
    let object = &event.data;
    let answer = s3
        .head_object()
        .bucket(&object.bucket)
        .key(&object.key)
        .set_version_id(object.version_id.clone())
        .set_if_match(if_match(event))
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let class = answer.storage_class();
            let is_archived =
                matches!(class, Some(StorageClass::Glacier | StorageClass::DeepArchive));
            // "ongoing-request="false", expiry-date=…" once a copy can be read.
            let is_restored =
                answer.restore().is_some_and(|text| text.contains("ongoing-request=\"false\""));
            if is_archived && !is_restored {
                return Err(Verdict::dead_letter(
                    ErrorClass::ObjectArchived,
                    format_args!("the object is in storage class {class:?} and not restored"),
                ));
            }
            Ok(Content::ByReference)
        }
        Err(error)
            if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 412) =>
        {
            Ok(Content::Overwritten)
        }
        Err(error) => Err(Verdict::of_head_error(&error)),
    }
}

/// A version never changes. Without one, only the entity tag tells a write from a later one.
fn if_match(event: &Event) -> Option<String> {
    let unversioned = event.data.version_id.is_none();
    event.data.e_tag.as_ref().filter(|_| unversioned).map(|tag| format!("\"{tag}\""))
}

fn is_json_lines(key: &str) -> bool {
    let extension = Path::new(key).extension();
    extension.is_some_and(|text| {
        text.eq_ignore_ascii_case("jsonl") || text.eq_ignore_ascii_case("ndjson")
    })
}
