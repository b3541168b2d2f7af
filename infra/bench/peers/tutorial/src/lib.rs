//! The message, as Sluice has it.

use aws_lambda_events::event::s3::S3EventRecord;
use chrono::SecondsFormat;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub specversion: String,
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub subject: String,
    pub time: String,
    pub data: Object,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    pub bucket: String,
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
}

impl TryFrom<&S3EventRecord> for Event {
    type Error = String;

    fn try_from(record: &S3EventRecord) -> Result<Self, String> {
        let bucket = record.s3.bucket.name.clone().ok_or("no bucket")?;
        let encoded = record.s3.object.key.as_deref().ok_or("no key")?.replace('+', " ");
        let key =
            percent_decode_str(&encoded).decode_utf8().map_err(|e| e.to_string())?.into_owned();
        let name = record.event_name.as_deref().ok_or("no event name")?;
        let name = name.trim_start_matches("s3:");
        let region = record.aws_region.as_deref().ok_or("no region")?;
        let sequencer =
            record.s3.object.sequencer.as_ref().map(|text| format!("{:0>32}", text.to_uppercase()));
        let version_id = record.s3.object.version_id.clone();
        let version = version_id.as_deref().or(sequencer.as_deref()).ok_or("no version")?;
        let family = name.split(':').next().unwrap_or_default();
        let digest = Sha256::digest([family, &bucket, &key, version].join("\0"));
        Ok(Self {
            specversion: "1.0".into(),
            id: digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect(),
            source: format!("aws:s3.{region}.{bucket}"),
            event_type: format!("com.amazonaws.s3.{name}"),
            subject: key.clone(),
            time: record.event_time.to_rfc3339_opts(SecondsFormat::Millis, true),
            data: Object {
                bucket,
                key,
                version_id,
                e_tag: record.s3.object.e_tag.clone(),
                size: record.s3.object.size,
                sequencer,
                content: None,
            },
        })
    }
}
