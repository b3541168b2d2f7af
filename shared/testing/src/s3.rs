//! S3: objects, their versions, and conditional writes.

use std::collections::BTreeMap;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use jiff::{Timestamp, fmt::rfc2822};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::{
    Aws,
    world::{Answer, Request, Service, ServiceError, World, md5_hex},
};

/// Keys on one page of a listing, unless a test asks for fewer.
pub(crate) const PAGE: usize = 1_000;

/// An object, in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub version_id: Option<String>,
    /// Without the quotes around it.
    pub e_tag: String,
    pub content: Vec<u8>,
    /// As `GLACIER`; none for `STANDARD`.
    pub storage_class: Option<String>,
    pub written: Timestamp,
    /// Whether it stands for a deletion.
    pub is_delete_marker: bool,
}

/// Objects by key; of each its versions, the oldest first. One without an id is overwritten.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    objects: BTreeMap<String, Vec<Object>>,
}

/// S3. A bucket exists once something is said of it.
#[derive(Debug, Clone)]
pub struct SimulatedS3 {
    aws: Aws,
}

impl Object {
    /// With the MD5 of its content as its entity tag, and no version id.
    pub fn new(key: &str, content: &[u8]) -> Self {
        Self {
            key: key.to_owned(),
            version_id: None,
            e_tag: md5_hex(content),
            content: content.to_vec(),
            storage_class: None,
            written: Timestamp::MIN,
            is_delete_marker: false,
        }
    }

    pub fn version(self, id: &str) -> Self {
        Self { version_id: Some(id.to_owned()), ..self }
    }

    /// With another entity tag, as of an object that was uploaded in parts.
    pub fn e_tag(self, e_tag: &str) -> Self {
        Self { e_tag: e_tag.to_owned(), ..self }
    }

    /// In another class than `STANDARD`. One in `GLACIER` or `DEEP_ARCHIVE` cannot be read.
    pub fn stored_as(self, class: &str) -> Self {
        Self { storage_class: Some(class.to_owned()), ..self }
    }

    /// Its content as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.content).expect("JSON")
    }
}

impl SimulatedS3 {
    pub(crate) fn new(aws: &Aws) -> Self {
        Self { aws: aws.clone() }
    }

    pub fn client(&self) -> aws_sdk_s3::Client {
        self.aws.s3_client()
    }

    pub fn has_bucket(&self, bucket: &str) {
        self.aws.world().buckets.entry(bucket.to_owned()).or_default();
    }

    /// An object with this content, instead of an older one.
    pub fn holds(&self, bucket: &str, key: &str, content: &[u8]) {
        self.has(bucket, Object::new(key, content));
    }

    /// An object. With a version id it stands beside the older versions, else instead of them.
    pub fn has(&self, bucket: &str, object: Object) {
        let mut world = self.aws.world();
        let now = world.now();
        world.buckets.entry(bucket.to_owned()).or_default().put(Object { written: now, ..object });
    }

    /// The object is deleted, and no version stays.
    pub fn loses(&self, bucket: &str, key: &str) {
        if let Some(bucket) = self.aws.world().buckets.get_mut(bucket) {
            bucket.objects.remove(key);
        }
    }

    /// The current version of an object.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Object> {
        self.aws.world().buckets.get(bucket)?.current(key).cloned()
    }

    /// The current versions of all objects of a bucket, by key.
    pub fn objects(&self, bucket: &str) -> Vec<Object> {
        let world = self.aws.world();
        let bucket = world.buckets.get(bucket);
        let keys = bucket.into_iter().flat_map(|bucket| bucket.objects.keys());
        keys.filter_map(|key| bucket?.current(key).cloned()).collect()
    }

    /// All objects of a bucket as JSON, by key.
    pub fn documents(&self, bucket: &str) -> BTreeMap<String, Value> {
        self.objects(bucket).iter().map(|object| (object.key.clone(), object.json())).collect()
    }

    /// A page of a listing shows no more than this. S3 may always show less than 1,000.
    pub fn lists_at_once(&self, most: usize) {
        self.aws.world().listed_at_once = most;
    }

    /// Reads of `key` are answered with this error.
    pub fn fails(&self, key: &str, code: &str) {
        self.aws.when("GetObject").about(key).fails(code);
    }

    /// The keys that were read.
    pub fn read_keys(&self) -> Vec<String> {
        let calls = self.aws.calls_of("GetObject");
        calls.iter().filter_map(|call| call["Key"].as_str().map(str::to_owned)).collect()
    }
}

impl Bucket {
    fn put(&mut self, object: Object) {
        let versions = self.objects.entry(object.key.clone()).or_default();
        versions.retain(|version| version.version_id != object.version_id);
        versions.push(object);
    }

    fn current(&self, key: &str) -> Option<&Object> {
        self.objects.get(key)?.last().filter(|object| !object.is_delete_marker)
    }

    /// The object that a read asks for.
    fn find(&self, key: &str, version_id: Option<&str>) -> Result<&Object, ServiceError> {
        let Some(version_id) = version_id else {
            return self.current(key).ok_or_else(|| {
                ServiceError::new("NoSuchKey", "The specified key does not exist.")
            });
        };
        let mut versions = self.objects.get(key).into_iter().flatten();
        let is_it = |object: &&Object| object.version_id.as_deref() == Some(version_id);
        match versions.find(is_it) {
            Some(object) if object.is_delete_marker => Err(ServiceError::new(
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
            )),
            Some(object) => Ok(object),
            None => {
                Err(ServiceError::new("NoSuchVersion", "The specified version does not exist."))
            }
        }
    }
}

/// Reads a request: the bucket is in the host name or is the first segment of the path, the key is
/// the rest of the path, and everything else is in the query and the headers.
pub(crate) fn decode(request: &HttpRequest, body: Vec<u8>) -> Request {
    let uri = request.uri();
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let text = |encoded: &str| percent_decode_str(encoded).decode_utf8_lossy().into_owned();
    let (bucket, key) = match host.split_once(".s3.") {
        Some((bucket, _)) => (bucket, path),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    let mut input = Map::new();
    input.insert("Bucket".to_owned(), json!(bucket));
    if !key.is_empty() {
        input.insert("Key".to_owned(), json!(text(key)));
    }
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('=').or(Some((pair, ""))))
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    for (parameter, name) in [
        ("versionId", "VersionId"),
        ("prefix", "Prefix"),
        ("continuation-token", "ContinuationToken"),
        ("start-after", "StartAfter"),
        ("max-keys", "MaxKeys"),
        ("key-marker", "KeyMarker"),
        ("version-id-marker", "VersionIdMarker"),
        ("encoding-type", "EncodingType"),
    ] {
        if let Some(value) = query.get(parameter) {
            input.insert(name.to_owned(), json!(value));
        }
    }
    for (header, name) in [("if-match", "IfMatch"), ("if-none-match", "IfNoneMatch")] {
        if let Some(value) = request.headers().get(header) {
            input.insert(name.to_owned(), json!(value));
        }
    }
    let operation = match (request.method(), key.is_empty()) {
        ("GET", true) if query.contains_key("list-type") => "ListObjectsV2",
        ("GET", true) if query.contains_key("versions") => "ListObjectVersions",
        ("GET", false) => "GetObject",
        ("HEAD", false) => "HeadObject",
        ("PUT", false) => "PutObject",
        (method, _) => panic!("{method} {uri} is not simulated"),
    };
    let is_chunked = request
        .headers()
        .get("x-amz-content-sha256")
        .is_some_and(|digest| digest.starts_with("STREAMING-"));
    let body = if is_chunked { unchunked(&body) } else { body };
    let (operation, input) = (operation.to_owned(), Value::Object(input));
    Request { service: Service::S3, operation, input, body }
}

/// The content of a body in chunks, each behind its length: the encoding `aws-chunked`.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let head = String::from_utf8_lossy(&body[..end]).into_owned();
        let length = head.split(';').next().unwrap_or_default();
        let length = usize::from_str_radix(length, 16).expect("the length of a chunk");
        if length == 0 {
            break;
        }
        content.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 2 + length + 2..];
    }
    content
}

pub(crate) fn serve(world: &mut World, request: &Request) -> Result<Answer, ServiceError> {
    let (now, most) = (world.now(), world.listed_at_once);
    let Some(bucket) = world.buckets.get_mut(request.text("Bucket")) else {
        return Err(ServiceError::new("NoSuchBucket", "The specified bucket does not exist."));
    };
    match request.operation.as_str() {
        "GetObject" => read(bucket, request, true),
        "HeadObject" => read(bucket, request, false),
        "PutObject" => write(bucket, request, now),
        "ListObjectsV2" => Ok(list(bucket, request, most)),
        "ListObjectVersions" => Ok(list_versions(bucket, request, most)),
        other => panic!("{other} is not simulated"),
    }
}

fn read(bucket: &Bucket, request: &Request, whole: bool) -> Result<Answer, ServiceError> {
    let object = bucket.find(request.text("Key"), request.input["VersionId"].as_str())?;
    if request.input["IfMatch"].as_str().is_some_and(|tag| !is_tag(tag, object)) {
        return Err(precondition_failed());
    }
    let class = object.storage_class.as_deref();
    if whole && matches!(class, Some("GLACIER" | "DEEP_ARCHIVE")) {
        let message = "The operation is not valid for the object's storage class";
        return Err(ServiceError::new("InvalidObjectState", message));
    }
    let mut headers = vec![
        ("etag", format!("\"{}\"", object.e_tag)),
        ("content-length", object.content.len().to_string()),
        ("last-modified", http_date(object.written)),
    ];
    headers.extend(object.version_id.clone().map(|id| ("x-amz-version-id", id)));
    headers.extend(class.map(|class| ("x-amz-storage-class", class.to_owned())));
    let body = if whole { object.content.clone() } else { Vec::new() };
    Ok(Answer { status: 200, headers, body })
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
fn write(bucket: &mut Bucket, request: &Request, now: Timestamp) -> Result<Answer, ServiceError> {
    let key = request.text("Key");
    let existing = bucket.current(key);
    if request.input["IfNoneMatch"] == "*" && existing.is_some() {
        return Err(precondition_failed());
    }
    if let Some(tag) = request.input["IfMatch"].as_str() {
        match existing {
            None => {
                return Err(ServiceError::new("NoSuchKey", "The specified key does not exist."));
            }
            Some(object) if !is_tag(tag, object) => return Err(precondition_failed()),
            Some(_) => {}
        }
    }
    let object = Object { written: now, ..Object::new(key, &request.body) };
    let headers = vec![("etag", format!("\"{}\"", object.e_tag))];
    bucket.put(object);
    Ok(Answer { status: 200, headers, body: Vec::new() })
}

fn list(bucket: &Bucket, request: &Request, most: usize) -> Answer {
    let prefix = request.text("Prefix");
    let after = request.text("ContinuationToken").max(request.text("StartAfter"));
    let most = page_size(request, most);
    let keys = bucket.objects.keys().filter(|key| key.starts_with(prefix) && key.as_str() > after);
    let mut objects = keys.filter_map(|key| bucket.current(key));
    let page: Vec<&Object> = objects.by_ref().take(most).collect();
    let is_truncated = objects.next().is_some();
    let token = page.last().filter(|_| is_truncated).map(|last| {
        let key = escaped(&last.key);
        format!("<NextContinuationToken>{key}</NextContinuationToken>")
    });
    let contents: Vec<String> = page.iter().map(|object| listed(object)).collect();
    let xml = format!(
        "<ListBucketResult><KeyCount>{}</KeyCount><IsTruncated>{is_truncated}</IsTruncated>{}{}\
         </ListBucketResult>",
        page.len(),
        contents.concat(),
        token.unwrap_or_default(),
    );
    let headers = vec![("content-type", "application/xml".to_owned())];
    Answer { status: 200, headers, body: xml.into_bytes() }
}

fn page_size(request: &Request, most: usize) -> usize {
    request.text("MaxKeys").parse().map_or(most, |asked: usize| asked.min(most))
}

/// All versions by key, and of each key the newest first:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>
fn list_versions(bucket: &Bucket, request: &Request, most: usize) -> Answer {
    let prefix = request.text("Prefix");
    let (key_marker, version_marker) = (request.text("KeyMarker"), request.text("VersionIdMarker"));
    let keys = bucket.objects.iter().filter(|(key, _)| key.starts_with(prefix));
    let versions = keys.flat_map(|(_, versions)| versions.iter().rev());
    let is_at = |object: &Object| {
        object.key == key_marker && object.version_id.as_deref() == Some(version_marker)
    };
    let mut is_behind_marker = false;
    let mut rest = versions.filter(|object| {
        let is_behind = object.key.as_str() > key_marker || is_behind_marker;
        is_behind_marker |= !version_marker.is_empty() && is_at(object);
        is_behind
    });
    let page: Vec<&Object> = rest.by_ref().take(page_size(request, most)).collect();
    let is_truncated = rest.next().is_some();
    let is_encoded = request.text("EncodingType") == "url";
    let key_of = |object: &Object| {
        if is_encoded { form_encoded(&object.key) } else { escaped(&object.key) }
    };
    let listed = page.iter().map(|object| {
        let tag = if object.is_delete_marker { "DeleteMarker" } else { "Version" };
        let Object { e_tag, content, written, .. } = object;
        let (key, size) = (key_of(object), content.len());
        let version = object.version_id.as_deref().unwrap_or("null");
        format!(
            "<{tag}><Key>{key}</Key><VersionId>{version}</VersionId>\
             <LastModified>{}</LastModified><ETag>&quot;{e_tag}&quot;</ETag><Size>{size}</Size></{tag}>",
            // Whole seconds, as S3 has it.
            written.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        )
    });
    let listed = listed.collect::<String>();
    let next = page.last().filter(|_| is_truncated).map(|last| {
        let version = last.version_id.as_deref().unwrap_or("null");
        let key = key_of(last);
        format!(
            "<NextKeyMarker>{key}</NextKeyMarker>\
             <NextVersionIdMarker>{version}</NextVersionIdMarker>"
        )
    });
    let encoding = if is_encoded { "<EncodingType>url</EncodingType>" } else { "" };
    let xml = format!(
        "<ListVersionsResult>{encoding}<IsTruncated>{is_truncated}</IsTruncated>{}{listed}\
         </ListVersionsResult>",
        next.unwrap_or_default(),
    );
    let headers = vec![("content-type", "application/xml".to_owned())];
    Answer { status: 200, headers, body: xml.into_bytes() }
}

fn listed(object: &Object) -> String {
    let Object { e_tag, content, written, .. } = object;
    let (key, size) = (escaped(&object.key), content.len());
    format!(
        "<Contents><Key>{key}</Key><LastModified>{written}</LastModified>\
         <ETag>&quot;{e_tag}&quot;</ETag><Size>{size}</Size></Contents>"
    )
}

pub(crate) fn error_answer(request: &Request, status: u16, error: &ServiceError) -> Answer {
    let (code, message) = (escaped(&error.code), escaped(&error.message));
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    // The answer to a HEAD has no body, and so no code.
    let body = if request.operation == "HeadObject" { Vec::new() } else { body.into_bytes() };
    let headers = vec![("content-type", "application/xml".to_owned())];
    Answer { status, headers, body }
}

fn is_tag(tag: &str, object: &Object) -> bool {
    tag.trim_matches('"') == object.e_tag
}

fn precondition_failed() -> ServiceError {
    let message = "At least one of the pre-conditions you specified did not hold";
    ServiceError::new("PreconditionFailed", message)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// As S3 encodes keys for XML: like a form.
fn form_encoded(key: &str) -> String {
    utf8_percent_encode(key, NON_ALPHANUMERIC).to_string().replace("%20", "+").replace("%2F", "/")
}

fn http_date(time: Timestamp) -> String {
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}
