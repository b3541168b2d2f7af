//! The state of the simulated AWS, and its clock.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest, Md5};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    Weather,
    fault::{Fault, Rule},
    s3, sqs, step_functions,
};

/// A call that reached the simulated AWS. Each attempt of the SDK is a call of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub at: Timestamp,
    /// As AWS calls it: `SendMessageBatch`.
    pub operation: String,
    /// The parameters of the call under the names that AWS gives them.
    pub input: Value,
    /// `OK`, the code of an error, or `reset`. None while, or because, there is no answer.
    pub answer: Option<String>,
}

#[derive(Debug)]
pub(crate) struct World {
    start: Timestamp,
    epoch: Instant,
    pub(crate) rng: Rng,
    pub(crate) latency: RangeInclusive<Duration>,
    pub(crate) weather: Weather,
    pub(crate) rules: Vec<Rule>,
    pub(crate) entry_rules: Vec<sqs::EntryRule>,
    pub(crate) calls: Vec<Call>,
    pub(crate) queues: BTreeMap<String, sqs::Queue>,
    pub(crate) messages_made: u64,
    /// Messages that SQS has moved and nobody has asked for yet.
    pub(crate) moved: Vec<sqs::Moved>,
    pub(crate) step_functions: step_functions::State,
    pub(crate) buckets: BTreeMap<String, s3::Bucket>,
    /// Objects or versions on a page of a listing, at most.
    pub(crate) listed_at_once: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Sqs,
    StepFunctions,
    S3,
}

/// A call, decoded.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) service: Service,
    pub(crate) operation: String,
    pub(crate) input: Value,
    /// The content of a `PutObject`.
    pub(crate) body: Vec<u8>,
}

/// What a service answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// An error that a service answers with.
#[derive(Debug)]
pub(crate) struct ServiceError {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl World {
    pub(crate) fn new(seed: u64, start: Timestamp) -> Self {
        Self {
            start,
            epoch: Instant::now(),
            rng: Rng::with_seed(seed),
            latency: Duration::from_millis(5)..=Duration::from_millis(15),
            weather: Weather::default(),
            rules: Vec::new(),
            entry_rules: Vec::new(),
            calls: Vec::new(),
            queues: BTreeMap::new(),
            messages_made: 0,
            moved: Vec::new(),
            step_functions: step_functions::State::default(),
            buckets: BTreeMap::new(),
            listed_at_once: s3::PAGE,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.start + self.epoch.elapsed()
    }

    /// When it will be this time.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let since_start = at.duration_since(self.start);
        self.epoch + Duration::try_from(since_start).unwrap_or_default()
    }

    /// Does what time alone has done since the last look.
    pub(crate) fn settle(&mut self) {
        sqs::settle(self);
    }

    pub(crate) fn draw_latency(&mut self) -> Duration {
        let (least, most) = (*self.latency.start(), *self.latency.end());
        least + most.saturating_sub(least).mul_f64(self.rng.f64())
    }

    /// What goes wrong with this call, if anything does.
    pub(crate) fn fault(&mut self, request: &Request) -> Option<Fault> {
        if let Some(fault) = self.rules.iter_mut().rev().find_map(|rule| rule.takes(request)) {
            return Some(fault);
        }
        if self.weather == Weather::default() {
            return None;
        }
        let throttled = match request.service {
            Service::Sqs => "RequestThrottled",
            Service::StepFunctions => "ThrottlingException",
            Service::S3 => "SlowDown",
        };
        let random = self.rng.f64();
        self.weather.fault(random, throttled)
    }

    /// Lets the service do what it is asked to do.
    pub(crate) fn serve(&mut self, request: &Request) -> Result<Answer, ServiceError> {
        match request.service {
            Service::Sqs => sqs::serve(self, request).map(Answer::json),
            Service::StepFunctions => step_functions::serve(self, request).map(Answer::json),
            Service::S3 => s3::serve(self, request),
        }
    }
}

impl Request {
    /// The texts that tell what a call is about.
    pub(crate) fn texts(&self) -> Vec<&str> {
        let entries = self.input["Entries"].as_array().into_iter().flatten();
        let of_entries = entries.filter_map(|entry| entry["MessageBody"].as_str());
        let of_call = ["input", "executionArn", "Key"];
        of_call.iter().filter_map(|name| self.input[name].as_str()).chain(of_entries).collect()
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.input[name].as_str().unwrap_or_default()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.input[name].as_u64()
    }
}

impl Answer {
    #[expect(clippy::needless_pass_by_value, reason = "it is a constructor")]
    pub(crate) fn json(value: Value) -> Self {
        let headers = vec![("content-type", "application/x-amz-json-1.0".to_owned())];
        Self { status: 200, headers, body: value.to_string().into_bytes() }
    }
}

impl ServiceError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    /// The HTTP status that comes with a code.
    pub(crate) fn status(&self, service: Service) -> u16 {
        match self.code.as_str() {
            "InternalFailure" | "InternalError" | "InternalServerError" => 500,
            "ServiceUnavailable" | "SlowDown" => 503,
            _ if service != Service::S3 => 400,
            "AccessDenied" | "InvalidAccessKeyId" | "InvalidObjectState" => 403,
            "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" => 404,
            "MethodNotAllowed" => 405,
            "PreconditionFailed" => 412,
            _ => 400,
        }
    }
}

/// A point in time as AWS writes it in JSON: seconds since the Unix epoch, with a fraction.
pub(crate) fn epoch_seconds(time: Timestamp) -> Value {
    let millis = SignedDuration::from_millis(time.as_millisecond());
    serde_json::json!(millis.as_secs_f64())
}

/// The MD5 of something in hexadecimal, as SQS and S3 give it.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}
