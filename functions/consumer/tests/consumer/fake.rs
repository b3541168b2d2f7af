use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aws_sdk_s3::operation::{
    get_object::{GetObjectError, GetObjectInput, GetObjectOutput},
    head_object::{HeadObjectInput, HeadObjectOutput},
};
use aws_sdk_sfn::{
    config::{ConfigBag, Intercept, interceptors::BeforeSerializationInterceptorContextRef},
    error::{BoxError, ErrorMetadata},
    operation::{
        describe_execution::DescribeExecutionError,
        start_execution::{StartExecutionError, StartExecutionInput, StartExecutionOutput},
    },
    primitives::DateTime,
};
use aws_sdk_sqs::{
    operation::{
        change_message_visibility_batch::ChangeMessageVisibilityBatchOutput,
        send_message_batch::SendMessageBatchOutput,
    },
    types::{BatchResultErrorEntry, SendMessageBatchRequestEntry, SendMessageBatchResultEntry},
};
use aws_smithy_mocks::{MockResponse, RuleMode, mock, mock_client};
use consumer::{Config, Consumer, InlineContent};
use platform::{Metrics, Queue, Settings};
use serde_json::Value;

/// Step Functions, S3 and SQS: they do what a test tells them by object key, and keep what came.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    pub(crate) lines: Lines,
    pub(crate) fifo: bool,
    pub(crate) concurrency: Option<usize>,
    pub(crate) starts_per_second: Option<u32>,
    pub(crate) inline: Option<(InlineContent, u64)>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Error codes of `StartExecution`, by key.
    start_errors: HashMap<String, &'static str>,
    get_errors: HashMap<String, &'static str>,
    objects: HashMap<String, Vec<u8>>,
    /// HTTP status of `HeadObject`, by key, and storage classes.
    head_statuses: HashMap<String, u16>,
    storage_classes: HashMap<String, &'static str>,
    /// Queues (`work`, `dead`) that reject entries, by key.
    rejected: Vec<(&'static str, String)>,
    /// Names and inputs of the executions that exist, in the order they were started.
    pub(crate) executions: Vec<(String, Value)>,
    /// Keys for which a start was tried, each try once.
    pub(crate) tries: Vec<String>,
    pub(crate) reads: Vec<GetObjectInput>,
    pub(crate) heads: Vec<HeadObjectInput>,
    /// Receipt handles and the seconds until their messages are visible again.
    pub(crate) visible_after: Vec<(String, i32)>,
    pub(crate) work: Vec<SendMessageBatchRequestEntry>,
    pub(crate) dead: Vec<SendMessageBatchRequestEntry>,
}

/// Metrics, line by line.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn read(&self) -> Vec<Value> {
        let bytes = self.0.lock().expect("lock").clone();
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        lines.collect::<Result<_, _>>().expect("lines of JSON")
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn fifo(self) -> Self {
        Self { fifo: true, ..self }
    }

    /// One record after the other.
    pub(crate) fn in_sequence(self) -> Self {
        Self { concurrency: Some(1), ..self }
    }

    pub(crate) fn start_fails(self, key: &str, code: &'static str) -> Self {
        self.state().start_errors.insert(key.to_owned(), code);
        self
    }

    pub(crate) fn start_succeeds(&self, key: &str) {
        self.state().start_errors.remove(key);
    }

    pub(crate) fn start_panics(self, key: &str) -> Self {
        self.start_fails(key, PANIC)
    }

    pub(crate) fn read_fails(self, key: &str, code: &'static str) -> Self {
        self.state().get_errors.insert(key.to_owned(), code);
        self
    }

    pub(crate) fn head_answers(self, key: &str, status: u16) -> Self {
        self.state().head_statuses.insert(key.to_owned(), status);
        self
    }

    pub(crate) fn stored_as(self, key: &str, class: &'static str) -> Self {
        self.state().storage_classes.insert(key.to_owned(), class);
        self
    }

    /// With another treatment of small objects than that of the device machine.
    pub(crate) fn inline(self, content: InlineContent, max_bytes: u64) -> Self {
        Self { inline: Some((content, max_bytes)), ..self }
    }

    /// The event of this key has its execution.
    pub(crate) fn has_execution(self, key: &str) -> Self {
        let message = crate::message(key);
        let name = message["id"].as_str().expect("id").to_owned();
        self.state().executions.push((name, message));
        self
    }

    pub(crate) fn object(self, key: &str, content: &[u8]) -> Self {
        self.state().objects.insert(key.to_owned(), content.to_vec());
        self
    }

    pub(crate) fn queue_rejects(self, queue: &'static str, key: &str) -> Self {
        self.state().rejected.push((queue, key.to_owned()));
        self
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// The keys whose executions exist, in order.
    pub(crate) fn started(&self) -> Vec<String> {
        let state = self.state();
        let key = |(_, input): &(String, Value)| input["data"]["key"].as_str().map(str::to_owned);
        state.executions.iter().map(|execution| key(execution).expect("key")).collect()
    }

    pub(crate) fn consumer(&self) -> Consumer {
        let suffix = if self.fifo { ".fifo" } else { "" };
        let queue =
            |name: &'static str| Queue::new(self.sqs(name), format!("http://x/{name}{suffix}"));
        Consumer {
            metrics: Metrics::to("Sluice", "consumer", self.lines.clone()),
            config: self.config(),
            step_functions: self.step_functions(),
            s3: self.s3(),
            work_queue: queue("work"),
            dead_letter_queue: queue("dead"),
        }
    }

    /// The defaults of the settings, and what the test says.
    fn config(&self) -> Config {
        const ARN: &str = "arn:aws:states:eu-west-1:1:stateMachine:m";
        let lookup = |name: &str| (name == "STATE_MACHINE_ARN").then(|| ARN.into());
        let mut config = Config::read(&Settings::from_lookup(&lookup)).expect("defaults");
        config.inline_object_max_bytes = 1_000;
        config.backoff.base = Duration::from_secs(8);
        config.start_concurrency = self.concurrency.unwrap_or(config.start_concurrency);
        config.start_rate_per_second = self.starts_per_second;
        if let Some((content, max_bytes)) = self.inline {
            (config.inline_content, config.inline_object_max_bytes) = (content, max_bytes);
        }
        config
    }

    fn step_functions(&self) -> aws_sdk_sfn::Client {
        let fake = self.clone();
        let rule = mock!(aws_sdk_sfn::Client::start_execution).then_compute_response(
            move |request: &StartExecutionInput| {
                let input: Value =
                    serde_json::from_str(request.input().expect("input")).expect("JSON");
                let key = input["data"]["key"].as_str().expect("key").to_owned();
                let name = request.name().expect("name").to_owned();
                let mut state = fake.state();
                state.tries.push(key.clone());
                let error = |code: &str| {
                    let meta = ErrorMetadata::builder().code(code).message("as the test says");
                    MockResponse::Error(StartExecutionError::generic(meta.build()))
                };
                if let Some(code) = state.start_errors.get(&key) {
                    return error(code);
                }
                if state.executions.iter().any(|(existing, _)| *existing == name) {
                    return error("ExecutionAlreadyExists");
                }
                state.executions.push((name, input));
                let output = StartExecutionOutput::builder()
                    .execution_arn("arn:aws:states:eu-west-1:1:execution:m:x")
                    .start_date(DateTime::from_secs(0));
                MockResponse::Output(output.build().expect("complete"))
            },
        );
        let fake = self.clone();
        let describe =
            mock!(aws_sdk_sfn::Client::describe_execution).then_compute_response(move |request| {
                let name = request.execution_arn().expect("ARN").rsplit(':').next();
                let state = fake.state();
                if !state.executions.iter().any(|(existing, _)| Some(existing.as_str()) == name) {
                    let meta = ErrorMetadata::builder().code("ExecutionDoesNotExist");
                    return MockResponse::Error(DescribeExecutionError::generic(meta.build()));
                }
                let output =
                    aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput::builder()
                        .execution_arn("arn:aws:states:eu-west-1:1:execution:m:x")
                        .state_machine_arn("arn:aws:states:eu-west-1:1:stateMachine:m")
                        .start_date(DateTime::from_secs(0))
                        .status(aws_sdk_sfn::types::ExecutionStatus::Succeeded);
                MockResponse::Output(output.build().expect("complete"))
            });
        let panics = Panics { state: Arc::clone(&self.state) };
        mock_client!(aws_sdk_sfn, RuleMode::MatchAny, &[&rule, &describe], |config| config
            .retry_config(aws_sdk_sfn::config::retry::RetryConfig::disabled())
            .interceptor(panics.clone()))
    }

    fn s3(&self) -> aws_sdk_s3::Client {
        let fake = self.clone();
        let rule = mock!(aws_sdk_s3::Client::get_object).then_compute_response(
            move |request: &GetObjectInput| {
                let mut state = fake.state();
                state.reads.push(request.clone());
                let key = request.key().expect("key");
                if let Some(code) = state.get_errors.get(key) {
                    let meta = ErrorMetadata::builder().code(*code).message("as the test says");
                    return MockResponse::Error(GetObjectError::generic(meta.build()));
                }
                let content = state.objects.get(key).cloned().unwrap_or_else(|| b"{}".to_vec());
                let length = i64::try_from(content.len()).expect("short");
                let output = GetObjectOutput::builder().content_length(length).body(content.into());
                MockResponse::Output(output.build())
            },
        );
        let fake = self.clone();
        let head = mock!(aws_sdk_s3::Client::head_object).then_compute_response(
            move |request: &HeadObjectInput| {
                let mut state = fake.state();
                state.heads.push(request.clone());
                let key = request.key().expect("key");
                if let Some(status) = state.head_statuses.get(key) {
                    let status = (*status).try_into().expect("a status");
                    // As S3 answers: a status and nothing else.
                    let empty = aws_sdk_s3::primitives::SdkBody::empty();
                    return MockResponse::Http(aws_sdk_s3::config::http::HttpResponse::new(
                        status, empty,
                    ));
                }
                let class = state.storage_classes.get(key).map(|class| (*class).into());
                let output = HeadObjectOutput::builder().set_storage_class(class);
                MockResponse::Output(output.build())
            },
        );
        mock_client!(aws_sdk_s3, RuleMode::MatchAny, &[&rule, &head], |config| config
            .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled()))
    }

    fn sqs(&self, queue: &'static str) -> aws_sdk_sqs::Client {
        let fake = self.clone();
        let rule =
            mock!(aws_sdk_sqs::Client::send_message_batch).then_compute_output(move |request| {
                let mut state = fake.state();
                let mut output = SendMessageBatchOutput::builder()
                    .set_successful(Some(Vec::new()))
                    .set_failed(Some(Vec::new()));
                for entry in request.entries() {
                    let rejects = |(name, key): &(&str, String)| {
                        *name == queue && entry.message_body().contains(key)
                    };
                    output = if state.rejected.iter().any(rejects) {
                        let rejection = BatchResultErrorEntry::builder().id(entry.id());
                        let rejection = rejection.code("InternalError").sender_fault(false);
                        output.failed(rejection.build().expect("complete"))
                    } else {
                        match queue {
                            "work" => state.work.push(entry.clone()),
                            _ => state.dead.push(entry.clone()),
                        }
                        let accepted = SendMessageBatchResultEntry::builder().id(entry.id());
                        let accepted = accepted.message_id("m").md5_of_message_body("d");
                        output.successful(accepted.build().expect("complete"))
                    };
                }
                output.build().expect("complete")
            });
        let fake = self.clone();
        let show = mock!(aws_sdk_sqs::Client::change_message_visibility_batch).then_compute_output(
            move |request| {
                let mut state = fake.state();
                state.visible_after.extend(request.entries().iter().map(|entry| {
                    let seconds = entry.visibility_timeout().expect("seconds");
                    (entry.receipt_handle().to_owned(), seconds)
                }));
                ChangeMessageVisibilityBatchOutput::builder()
                    .set_successful(Some(Vec::new()))
                    .set_failed(Some(Vec::new()))
                    .build()
                    .expect("complete")
            },
        );
        mock_client!(aws_sdk_sqs, RuleMode::MatchAny, &[&rule, &show])
    }
}

/// Not an error code: the call panics.
const PANIC: &str = "panic";

/// Panics inside a call, while no lock of the mocks is held.
#[derive(Clone)]
struct Panics {
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Panics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Panics")
    }
}

impl Intercept for Panics {
    fn name(&self) -> &'static str {
        "Panics"
    }

    fn read_before_execution(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(input) = context.input().downcast_ref::<StartExecutionInput>() else {
            return Ok(());
        };
        let state = self.state.lock().expect("no panic while locked");
        let panics = state
            .start_errors
            .iter()
            .any(|(key, code)| *code == PANIC && input.input().expect("input").contains(key));
        drop(state);
        assert!(!panics, "as the test says");
        Ok(())
    }
}
