use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aws_sdk_s3::{
    error::ErrorMetadata,
    operation::{
        get_object::{GetObjectError, GetObjectOutput},
        list_objects_v2::ListObjectsV2Output,
        put_object::{PutObjectError, PutObjectOutput},
    },
};
use aws_sdk_sfn::types::{ExecutionStatus, error::ExecutionDoesNotExist};
use aws_sdk_sqs::{
    Client,
    operation::{
        cancel_message_move_task::CancelMessageMoveTaskOutput,
        change_message_visibility_batch::ChangeMessageVisibilityBatchOutput,
        delete_message_batch::DeleteMessageBatchOutput,
        get_queue_attributes::GetQueueAttributesOutput,
        list_message_move_tasks::ListMessageMoveTasksOutput,
        receive_message::ReceiveMessageOutput,
        send_message_batch::SendMessageBatchOutput,
        start_message_move_task::{StartMessageMoveTaskError, StartMessageMoveTaskOutput},
    },
    primitives::Blob,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchResultEntry,
        DeleteMessageBatchResultEntry, ListMessageMoveTasksResultEntry, Message,
        MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
        SendMessageBatchRequestEntry, SendMessageBatchResultEntry,
    },
};
use aws_smithy_mocks::{MockResponse, RuleMode, mock, mock_client};
use jiff::{Timestamp, tz::TimeZone};
use platform::{Metrics, Queue};
use redrive::{Archive, Config, DeadLetterQueue, Executions, Redriver};
use serde_json::Value;
use tokio::time::Instant;

/// A message of the dead-letter queue.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) sent: Timestamp,
    pub(crate) attributes: HashMap<String, (&'static str, String)>,
    pub(crate) group: Option<String>,
    pub(crate) moved_by_sqs: bool,
    pub(crate) hidden_until: Option<Instant>,
    pub(crate) receives: u32,
}

impl Letter {
    pub(crate) fn new(body: &str) -> Self {
        Self {
            id: String::new(),
            body: body.to_owned(),
            sent: "2026-11-20T14:59:59.999Z".parse().expect("time"),
            attributes: HashMap::new(),
            group: None,
            moved_by_sqs: false,
            hidden_until: None,
            receives: 0,
        }
    }

    pub(crate) fn sent(self, time: &str) -> Self {
        Self { sent: time.parse().expect("time"), ..self }
    }

    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), ("String", value.to_owned()));
        self
    }

    pub(crate) fn binary(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), ("Binary", value.to_owned()));
        self
    }

    pub(crate) fn redrives(mut self, times: u32) -> Self {
        self.attributes.insert("redrives".to_owned(), ("Number", times.to_string()));
        self
    }

    /// By its redrive policy, after too many receives.
    pub(crate) fn moved_by_sqs(self) -> Self {
        Self { moved_by_sqs: true, ..self }
    }

    pub(crate) fn group(self, group: &str) -> Self {
        Self { group: Some(group.to_owned()), ..self }
    }
}

/// Two queues and a bucket. They do what AWS documents, and fail as often as a test says.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    pub(crate) max_per_second: Option<u32>,
    pub(crate) canary_messages: u64,
    fifo: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) letters: Vec<Letter>,
    metrics: Vec<u8>,
    /// The n-th receive fails.
    pub(crate) receive_breaks_at: Option<u32>,
    /// The code with which they fail.
    pub(crate) receive_refused: Option<&'static str>,
    /// Receives fail from the n-th on.
    pub(crate) receive_breaks_from: Option<u32>,
    /// Describe fails from the n-th call on.
    pub(crate) describe_breaks_from: Option<u32>,
    pub(crate) never_started: bool,
    /// Executions of the machine that are as they are, by name.
    pub(crate) executions: HashMap<String, ExecutionStatus>,
    /// Step Functions refuses to tell about any execution, with this code.
    pub(crate) describe_refused: Option<&'static str>,
    /// Says that the queue hides as many messages as it may.
    pub(crate) hidden_messages: Option<u32>,
    /// Executions run until then.
    pub(crate) runs_until: Option<Instant>,
    /// Shown once more although received.
    pub(crate) shown_twice: HashSet<String>,
    pub(crate) work: Vec<SendMessageBatchRequestEntry>,
    pub(crate) archive: BTreeMap<String, Value>,
    pub(crate) calls: BTreeMap<&'static str, u32>,
    /// One in so many entries of these calls fails.
    pub(crate) fails_every: HashMap<&'static str, u32>,
    /// So many entries of these calls fail, less one.
    pub(crate) fails_until: HashMap<&'static str, u32>,
    entries: u32,
    pub(crate) looks_until_moved: u32,
    /// The message with which a move task is refused.
    pub(crate) refuses_move: Option<&'static str>,
    looks: HashMap<String, u32>,
    /// How and when the executions of canaries end and start.
    ends: Option<ExecutionStatus>,
    started: Timestamp,
    /// Inputs of executions, by ARN.
    pub(crate) inputs: HashMap<String, String>,
    /// Messages with this are not taken by the work queue.
    pub(crate) refused: Option<String>,
    /// Calls that fail as a whole, always.
    pub(crate) broken: Vec<&'static str>,
}

impl State {
    fn fails(&mut self, call: &'static str) -> bool {
        self.entries += 1;
        if let Some(left) = self.fails_until.get_mut(call) {
            *left = left.saturating_sub(1);
            return *left > 0;
        }
        self.fails_every.get(call).is_some_and(|every| self.entries.is_multiple_of(*every))
    }

    fn refuses(&self, entry: &SendMessageBatchRequestEntry) -> bool {
        self.refused.as_ref().is_some_and(|text| entry.message_body().contains(text))
    }

    fn called(&mut self, call: &'static str) -> bool {
        *self.calls.entry(call).or_default() += 1;
        self.broken.contains(&call)
    }
}

/// Takes what is written as metrics.
struct Lines(Fake);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.state().metrics.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Fake {
    /// All that was published.
    pub(crate) fn metrics(&self) -> String {
        String::from_utf8(self.state().metrics.clone()).expect("UTF-8")
    }

    pub(crate) fn with(letters: impl IntoIterator<Item = Letter>) -> Self {
        let fake = Self::default();
        for (n, letter) in letters.into_iter().enumerate() {
            let id = if letter.id.is_empty() { format!("message-{n}") } else { letter.id.clone() };
            fake.state().letters.push(Letter { id, ..letter });
        }
        fake
    }

    /// With so many canaries, the executions of which start then and end so.
    pub(crate) fn canaries(self, count: u64, started: Timestamp, ends: ExecutionStatus) -> Self {
        let mut state = self.state();
        (state.started, state.ends) = (started, Some(ends));
        drop(state);
        Self { canary_messages: count, ..self }
    }

    /// With FIFO queues.
    pub(crate) fn fifo(self) -> Self {
        Self { fifo: true, ..self }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Ids of the messages in the dead-letter queue.
    pub(crate) fn left(&self) -> Vec<String> {
        self.state().letters.iter().map(|letter| letter.id.clone()).collect()
    }

    pub(crate) fn visible(&self) -> usize {
        let now = Instant::now();
        let state = self.state();
        state.letters.iter().filter(|letter| letter.hidden_until.is_none_or(|t| t <= now)).count()
    }

    /// Bodies on the work queue.
    pub(crate) fn work(&self) -> Vec<Value> {
        let state = self.state();
        let body = |entry: &SendMessageBatchRequestEntry| {
            serde_json::from_str(entry.message_body()).expect("JSON")
        };
        state.work.iter().map(body).collect()
    }

    /// Keys of the objects that the messages on the work queue are about, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let key = |body: &Value| body["data"]["key"].as_str().expect("key").to_owned();
        let mut keys: Vec<String> = self.work().iter().map(key).collect();
        keys.sort();
        keys
    }

    pub(crate) fn redriver(&self) -> Redriver {
        Redriver {
            metrics: Metrics::to("Sluice", "redrive", Lines(self.clone())),
            config: Config {
                time_zone: TimeZone::get("Asia/Seoul").expect("zone"),
                max_redrives: 5,
                max_messages: None,
                max_per_second: self.max_per_second,
                canary_messages: self.canary_messages,
                group_key_segments: 2,
            },
            dead_letter_queue: DeadLetterQueue::new(self.sqs(), self.url("dead")),
            work_queue: Queue::new(self.sqs(), self.url("work")),
            archive: Archive::new(self.s3(), "archive"),
            executions: Executions::new(
                self.step_functions(),
                "arn:aws:states:eu-west-1:1:stateMachine:m",
            ),
        }
    }

    fn url(&self, name: &str) -> String {
        format!("http://x/{name}{}", if self.fifo { ".fifo" } else { "" })
    }

    #[expect(clippy::too_many_lines, reason = "eight calls, one after the other")]
    fn sqs(&self) -> Client {
        let error =
            |code: &str| ErrorMetadata::builder().code(code).message("as the test says").build();
        let fake = self.clone();
        let receive = mock!(Client::receive_message).then_compute_response(move |request| {
            let mut state = fake.state();
            let broken = state.called("receive");
            let calls = state.calls["receive"];
            if broken
                || state.receive_breaks_at == Some(calls)
                || state.receive_breaks_from.is_some_and(|n| calls >= n)
            {
                let code = if broken {
                    "AWS.SimpleQueueService.NonExistentQueue"
                } else {
                    state.receive_refused.unwrap_or("ServiceUnavailable")
                };
                let error = error(code);
                return MockResponse::Error(
                    aws_sdk_sqs::operation::receive_message::ReceiveMessageError::generic(error),
                );
            }
            let now = Instant::now();
            let hidden = request.visibility_timeout().expect("a visibility timeout");
            let hidden = Duration::from_secs(hidden.try_into().expect("positive"));
            let most = request.max_number_of_messages().expect("a number");
            let is_hidden = |letter: &Letter| letter.hidden_until.is_some_and(|until| until > now);
            // A FIFO queue shows nothing of a group of which something is hidden.
            let blocked: HashSet<_> = if fake.fifo {
                let hidden = state.letters.iter().filter(|letter| is_hidden(letter));
                hidden.map(|letter| letter.group.clone()).collect()
            } else {
                HashSet::new()
            };
            let twice = std::mem::take(&mut state.shown_twice);
            let mut rest = twice.clone();
            let messages = state
                .letters
                .iter_mut()
                .filter(|letter| !is_hidden(letter) && !blocked.contains(&letter.group));
            let messages: Vec<Message> = messages
                .take(most.try_into().expect("positive"))
                .map(|letter| {
                    if !rest.remove(&letter.id) {
                        letter.hidden_until = Some(now + hidden);
                    }
                    letter.receives += 1;
                    sqs_message(letter)
                })
                .collect();
            state.shown_twice = rest;
            MockResponse::Output(
                ReceiveMessageOutput::builder().set_messages(Some(messages)).build(),
            )
        });
        let fake = self.clone();
        let delete = mock!(Client::delete_message_batch).then_compute_output(move |request| {
            let mut state = fake.state();
            state.called("delete");
            let mut output = DeleteMessageBatchOutput::builder()
                .set_successful(Some(Vec::new()))
                .set_failed(Some(Vec::new()));
            for entry in request.entries() {
                output = if state.fails("delete") {
                    output.failed(rejection(entry.id()))
                } else {
                    let is_it = |letter: &Letter| {
                        format!("{}#{}", letter.id, letter.receives) == entry.receipt_handle()
                    };
                    if let Some(index) = state.letters.iter().position(is_it) {
                        state.letters.remove(index);
                    }
                    let done = DeleteMessageBatchResultEntry::builder().id(entry.id());
                    output.successful(done.build().expect("complete"))
                };
            }
            output.build().expect("complete")
        });
        let fake = self.clone();
        let release =
            mock!(Client::change_message_visibility_batch).then_compute_output(move |request| {
                let mut state = fake.state();
                state.called("release");
                let mut output = ChangeMessageVisibilityBatchOutput::builder()
                    .set_successful(Some(Vec::new()))
                    .set_failed(Some(Vec::new()));
                for entry in request.entries() {
                    for letter in &mut state.letters {
                        if format!("{}#{}", letter.id, letter.receives) == entry.receipt_handle() {
                            letter.hidden_until = None;
                        }
                    }
                    let done = ChangeMessageVisibilityBatchResultEntry::builder().id(entry.id());
                    output = output.successful(done.build().expect("complete"));
                }
                output.build().expect("complete")
            });
        let fake = self.clone();
        let send = mock!(Client::send_message_batch).then_compute_output(move |request| {
            let mut state = fake.state();
            state.called("send");
            let mut output = SendMessageBatchOutput::builder()
                .set_successful(Some(Vec::new()))
                .set_failed(Some(Vec::new()));
            for entry in request.entries() {
                output = if state.fails("send") || state.refuses(entry) {
                    output.failed(rejection(entry.id()))
                } else {
                    state.work.push(entry.clone());
                    let done = SendMessageBatchResultEntry::builder().id(entry.id());
                    let done = done.message_id("m").md5_of_message_body("d");
                    output.successful(done.build().expect("complete"))
                };
            }
            output.build().expect("complete")
        });
        let fake = self.clone();
        let attributes = mock!(Client::get_queue_attributes).then_compute_output(move |_| {
            let mut state = fake.state();
            state.called("attributes");
            let count = state.letters.len().to_string();
            GetQueueAttributesOutput::builder()
                .attributes(QueueAttributeName::QueueArn, "arn:aws:sqs:eu-west-1:1:dead")
                .attributes(QueueAttributeName::ApproximateNumberOfMessages, count)
                .attributes(
                    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
                    state.hidden_messages.unwrap_or(0).to_string(),
                )
                .build()
        });
        let fake = self.clone();
        let start = mock!(Client::start_message_move_task).then_compute_response(move |request| {
            let mut state = fake.state();
            state.called("move");
            if let Some(message) = state.refuses_move {
                let error = ErrorMetadata::builder().code("InvalidParameterValue").message(message);
                return MockResponse::Error(StartMessageMoveTaskError::generic(error.build()));
            }
            assert_eq!(request.source_arn(), Some("arn:aws:sqs:eu-west-1:1:dead"));
            assert_eq!(request.destination_arn(), Some("arn:aws:sqs:eu-west-1:1:work"));
            assert_eq!(request.max_number_of_messages_per_second(), Some(7));
            let output = StartMessageMoveTaskOutput::builder().task_handle("handle");
            MockResponse::Output(output.build())
        });
        let fake = self.clone();
        let tasks = mock!(Client::list_message_move_tasks).then_compute_output(move |_| {
            let mut state = fake.state();
            state.called("tasks");
            let done = state.calls["tasks"] >= state.looks_until_moved;
            let task = ListMessageMoveTasksResultEntry::builder()
                .status(if done { "COMPLETED" } else { "RUNNING" })
                .approximate_number_of_messages_moved(state.calls["tasks"].into())
                .approximate_number_of_messages_to_move(9)
                .set_task_handle((!done).then(|| "handle".to_owned()));
            ListMessageMoveTasksOutput::builder().results(task.build()).build()
        });
        let fake = self.clone();
        let cancel = mock!(Client::cancel_message_move_task).then_compute_output(move |request| {
            assert_eq!(request.task_handle(), Some("handle"));
            fake.state().called("cancel");
            CancelMessageMoveTaskOutput::builder().build()
        });
        mock_client!(
            aws_sdk_sqs,
            RuleMode::MatchAny,
            &[&receive, &delete, &release, &send, &attributes, &start, &tasks, &cancel],
            |config| config.retry_config(aws_sdk_sqs::config::retry::RetryConfig::disabled())
        )
    }

    /// An execution for each message on the work queue: it starts with the second look, and ends
    /// with the third as a test says.
    fn step_functions(&self) -> aws_sdk_sfn::Client {
        use aws_sdk_sfn::{operation::describe_execution as call, primitives::DateTime};
        let fake = self.clone();
        let rule = mock!(aws_sdk_sfn::Client::describe_execution).then_compute_response(
            move |request: &call::DescribeExecutionInput| {
                let mut state = fake.state();
                let broken = state.called("describe");
                let calls = state.calls["describe"];
                if broken || state.describe_breaks_from.is_some_and(|n| calls >= n) {
                    let error = aws_sdk_sfn::error::ErrorMetadata::builder().code("Broken");
                    return MockResponse::Error(call::DescribeExecutionError::generic(
                        error.build(),
                    ));
                }
                if let Some(code) = state.describe_refused {
                    let error = aws_sdk_sfn::error::ErrorMetadata::builder().code(code);
                    return MockResponse::Error(call::DescribeExecutionError::generic(
                        error.build(),
                    ));
                }
                let arn = request.execution_arn().expect("an ARN").to_owned();
                let output = call::DescribeExecutionOutput::builder()
                    .execution_arn(&arn)
                    .state_machine_arn("arn:aws:states:eu-west-1:1:stateMachine:m")
                    .start_date(DateTime::from_millis(state.started.as_millisecond()));
                if let Some(input) = state.inputs.get(&arn) {
                    let output = output.status(ExecutionStatus::TimedOut).input(input);
                    return MockResponse::Output(output.build().expect("complete"));
                }
                let missing = || {
                    let error = ExecutionDoesNotExist::builder().build();
                    MockResponse::Error(call::DescribeExecutionError::ExecutionDoesNotExist(error))
                };
                if !arn.starts_with("arn:aws:states:eu-west-1:1:execution:m:") {
                    return missing();
                }
                let name = arn.strip_prefix("arn:aws:states:eu-west-1:1:execution:m:");
                let name = name.expect("an execution of the machine");
                if let Some(status) = state.executions.get(name) {
                    let output = output.status(status.clone());
                    return MockResponse::Output(output.build().expect("complete"));
                }
                let looks = state.looks.entry(arn.clone()).or_default();
                *looks += 1;
                let looks = *looks;
                let sent = |entry: &SendMessageBatchRequestEntry| {
                    entry.message_body().contains(&name[..40])
                };
                if looks == 1 || state.never_started || !state.work.iter().any(sent) {
                    return missing();
                }
                let running = ExecutionStatus::Running;
                let still = state.runs_until.is_some_and(|until| Instant::now() < until);
                let status =
                    if looks == 2 || still { running } else { state.ends.clone().expect("an end") };
                let output = output.status(status).error("DynamoDB.ResourceNotFoundException");
                MockResponse::Output(output.build().expect("complete"))
            },
        );
        mock_client!(aws_sdk_sfn, RuleMode::MatchAny, &[&rule], |config| config
            .retry_config(aws_sdk_sfn::config::retry::RetryConfig::disabled()))
    }

    fn s3(&self) -> aws_sdk_s3::Client {
        let error = |code: &str| ErrorMetadata::builder().code(code).build();
        let fake = self.clone();
        let put = mock!(aws_sdk_s3::Client::put_object).then_compute_response(move |request| {
            let mut state = fake.state();
            let key = request.key().expect("key").to_owned();
            if state.called("put") || state.fails("put") {
                return MockResponse::Error(PutObjectError::generic(error("SlowDown")));
            }
            if request.if_match().is_some_and(|tag| tag != "tag") {
                return MockResponse::Error(PutObjectError::generic(error("PreconditionFailed")));
            }
            assert!(request.if_match().is_some() || request.if_none_match() == Some("*"));
            if request.if_match().is_none() && state.archive.contains_key(&key) {
                return MockResponse::Error(PutObjectError::generic(error("PreconditionFailed")));
            }
            let document = request.body().bytes().expect("in memory");
            state.archive.insert(key, serde_json::from_slice(document).expect("JSON"));
            MockResponse::Output(PutObjectOutput::builder().build())
        });
        let fake = self.clone();
        let get = mock!(aws_sdk_s3::Client::get_object).then_compute_response(move |request| {
            let mut state = fake.state();
            state.called("get");
            match state.archive.get(request.key().expect("key")) {
                Some(document) => MockResponse::Output(
                    GetObjectOutput::builder()
                        .e_tag("tag")
                        .body(document.to_string().into_bytes().into())
                        .build(),
                ),
                None => MockResponse::Error(GetObjectError::generic(
                    ErrorMetadata::builder().code("NoSuchKey").build(),
                )),
            }
        });
        let fake = self.clone();
        let list = mock!(aws_sdk_s3::Client::list_objects_v2).then_compute_output(move |request| {
            let prefix = request.prefix().expect("a prefix");
            let state = fake.state();
            let keys = state.archive.keys().filter(|key| key.starts_with(prefix));
            let objects = keys.map(|key| aws_sdk_s3::types::Object::builder().key(key).build());
            ListObjectsV2Output::builder().set_contents(Some(objects.collect())).build()
        });
        mock_client!(aws_sdk_s3, RuleMode::MatchAny, &[&put, &get, &list], |config| config
            .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled()))
    }
}

fn rejection(id: &str) -> BatchResultErrorEntry {
    let rejection = BatchResultErrorEntry::builder().id(id).code("InternalError");
    rejection.sender_fault(false).build().expect("complete")
}

fn sqs_message(letter: &Letter) -> Message {
    let mut message = Message::builder()
        .message_id(&letter.id)
        .receipt_handle(format!("{}#{}", letter.id, letter.receives))
        .body(&letter.body)
        .attributes(
            MessageSystemAttributeName::SentTimestamp,
            letter.sent.as_millisecond().to_string(),
        )
        .attributes(
            MessageSystemAttributeName::ApproximateReceiveCount,
            letter.receives.to_string(),
        );
    if letter.moved_by_sqs {
        message = message.attributes(
            MessageSystemAttributeName::DeadLetterQueueSourceArn,
            "arn:aws:sqs:eu-west-1:1:work",
        );
    }
    if let Some(group) = &letter.group {
        message = message.attributes(MessageSystemAttributeName::MessageGroupId, group);
    }
    for (name, (data_type, value)) in &letter.attributes {
        let attribute = MessageAttributeValue::builder().data_type(*data_type);
        let attribute = match *data_type {
            "Binary" => attribute.binary_value(Blob::new(value.as_bytes())),
            _ => attribute.string_value(value),
        };
        message = message.message_attributes(name, attribute.build().expect("complete"));
    }
    message.build()
}
