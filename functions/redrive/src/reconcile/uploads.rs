//! The one place that lists the bucket of the uploads.

use aws_sdk_s3::{
    Client,
    error::{BuildError, SdkError},
    operation::list_object_versions::{ListObjectVersionsError, ListObjectVersionsOutput},
    types::EncodingType,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ranges::Range;
use crate::executions::timestamp;

/// Versions on one page: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>.
pub(super) const PAGE: u64 = 1_000;

/// The objects that are uploads: those that the stack is notified of.
#[derive(Debug, Clone)]
pub struct Uploads {
    pub client: Client,
    pub bucket: String,
    pub region: String,
    pub key_prefix: String,
    pub key_suffix: String,
    /// None for no limit.
    pub max_bytes: Option<u64>,
}

/// A version of an object, as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: String,
    /// None for an object that was written without versioning.
    pub(super) version_id: Option<String>,
    pub(super) e_tag: String,
    pub(super) size: u64,
    pub(super) at: Timestamp,
}

/// A place in the listing: what follows comes after this version, or without one after all versions
/// of this key, which need not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) key: Option<String>,
    pub(super) version_id: Option<String>,
}

/// A page of the listing, and where the next one begins.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) written: Vec<Written>,
    pub(super) next: Option<Place>,
}

impl Place {
    pub(super) fn behind(key: String) -> Self {
        Self { key: Some(key), version_id: None }
    }
}

impl Uploads {
    /// All objects of a bucket.
    pub fn new(client: Client, bucket: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
            region: region.into(),
            key_prefix: String::new(),
            key_suffix: String::new(),
            max_bytes: None,
        }
    }

    /// A page of at most 1,000 versions of a range, by key and of each key the newest first. S3 lists
    /// keys in the order of their UTF-8 bytes, and that is how texts compare.
    pub(super) async fn page(
        &self,
        prefix: &str,
        range: &Range,
    ) -> Result<Page, SdkError<ListObjectVersionsError>> {
        let after = &range.after;
        let answer = self
            .client
            .list_object_versions()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_key_marker(after.key.clone())
            .set_version_id_marker(after.version_id.clone())
            // XML cannot hold every character that a key may hold.
            .encoding_type(EncodingType::Url)
            .send()
            .await?;
        let mut page = read_page(answer).map_err(|problem| {
            let problem = format!("the listing of the bucket cannot be read: {problem}");
            SdkError::construction_failure(BuildError::other(problem))
        })?;
        page.written.retain(|written| range.holds(&written.key));
        Ok(page)
    }

    /// Whether S3 notifies of writes like this one.
    pub(super) fn include(&self, written: &Written) -> bool {
        written.key.starts_with(&self.key_prefix)
            && written.key.ends_with(&self.key_suffix)
            && self.max_bytes.is_none_or(|max| written.size <= max)
    }
}

fn read_page(answer: ListObjectVersionsOutput) -> Result<Page, &'static str> {
    let is_encoded = answer.encoding_type == Some(EncodingType::Url);
    // S3 encodes keys here as it does in notifications.
    let key = |key: Option<String>| {
        let key = key.ok_or("a version has no key")?;
        if is_encoded { messages::form_decode(&key) } else { Ok(key) }
    };
    let written = answer.versions.unwrap_or_default().into_iter().map(|version| {
        let at = version.last_modified.as_ref().and_then(timestamp);
        Ok::<_, &str>(Written {
            key: key(version.key)?,
            version_id: version.version_id.filter(|id| id != "null"),
            e_tag: version.e_tag.unwrap_or_default().trim_matches('"').to_owned(),
            size: version.size.and_then(|size| size.try_into().ok()).unwrap_or(0),
            at: at.ok_or("a version has no time")?,
        })
    });
    let written = written.collect::<Result<_, _>>()?;
    let next = match answer.is_truncated {
        Some(true) => Some(Place {
            key: Some(key(answer.next_key_marker)?),
            version_id: answer.next_version_id_marker,
        }),
        _ => None,
    };
    Ok(Page { written, next })
}
