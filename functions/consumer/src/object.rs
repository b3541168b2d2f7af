use std::path::Path;

use aws_sdk_s3::{Client, error::ProvideErrorMetadata, operation::get_object::GetObjectOutput};
use messages::{ErrorClass, Event};
use serde_json::value::RawValue;

use crate::decision::Decision;

/// What an execution gets of its object.
#[derive(Debug)]
pub(crate) enum Content {
    Inline(Box<RawValue>),
    ByReference,
    Overwritten,
}

/// Reads the very version that the event is about, if it is small enough to be passed inline.
///
/// In an unversioned bucket an object can be overwritten before it is read. Its `ETag` then differs,
/// and the newer content, which has its own event, is not passed off as this one's.
pub(crate) async fn read(s3: &Client, event: &Event, max_bytes: u64) -> Result<Content, Decision> {
    let object = &event.data;
    let too_large = |size: u64| size > max_bytes;
    // JSON Lines are many device states: the state machine maps over them.
    if !event.is_object_created()
        || is_json_lines(&object.key)
        || object.size.is_some_and(too_large)
    {
        return Ok(Content::ByReference);
    }
    let unversioned = object.version_id.is_none();
    let answer = s3
        .get_object()
        .bucket(&object.bucket)
        .key(&object.key)
        .set_version_id(object.version_id.clone())
        .set_if_match(object.e_tag.clone().filter(|_| unversioned).map(|tag| format!("\"{tag}\"")))
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return match error.code() {
                Some("PreconditionFailed") => Ok(Content::Overwritten),
                _ => Err(Decision::of_read_error(&error)),
            };
        }
    };
    // Not every event tells the size.
    if answer.content_length().is_some_and(|length| u64::try_from(length).is_ok_and(too_large)) {
        return Ok(Content::ByReference);
    }
    parse(answer).await
}

fn is_json_lines(key: &str) -> bool {
    Path::new(key).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"))
}

async fn parse(answer: GetObjectOutput) -> Result<Content, Decision> {
    let bytes = answer.body.collect().await.map_err(Decision::fail)?.to_vec();
    match serde_json::from_slice(&bytes) {
        Ok(content) => Ok(Content::Inline(content)),
        // The message ends in "at line 3 column 7".
        Err(error) => Err(Decision::dead_letter(
            ErrorClass::NotJson,
            format!("the object is not JSON: {error}"),
        )),
    }
}
