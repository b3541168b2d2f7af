//! The calls of SQS: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/>.

use std::{collections::BTreeSet, time::Duration};

use aws_smithy_types::base64;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Attribute, EntryFault, Message, MoveTask, Moved, arn,
    queue::{BadHandle, Queue},
};
use crate::world::{Request, ServiceError, World, md5_hex};

/// Entries of a batch call, bytes of all its messages, and attributes of a message:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const MAX_ENTRIES: usize = 10;
const MAX_BATCH_BYTES: usize = 1_048_576;
const MAX_ATTRIBUTES: usize = 10;
const MAX_DELAY_SECONDS: u64 = 900;

/// Messages per second that SQS moves if nobody says otherwise. It says only that it decides itself.
const MOVES_PER_SECOND: u64 = 100;

/// The answer of a receive that found nothing.
pub(crate) const NO_MESSAGES: &[u8] = b"{}";

/// How long a receive waits for a message.
pub(crate) fn wait(request: &Request) -> Duration {
    Duration::from_secs(request.number("WaitTimeSeconds").unwrap_or(0))
}

/// When the queue of this call changes by itself.
pub(crate) fn next_change(world: &World, request: &Request) -> Option<Instant> {
    let queue = world.queues.get(name_of(request.text("QueueUrl")))?;
    queue.next_visible().map(|at| world.instant(at))
}

/// Does what time alone does: visibility, retention, dead letters, move tasks, and the consumer that
/// a test may have asked for.
pub(crate) fn settle(world: &mut World) {
    let now = world.now();
    let (mut moved, mut consumed) = (Vec::new(), Vec::new());
    for (name, queue) in &mut world.queues {
        queue.pass(now);
        consumed.extend(queue.take_consumed(now));
        let target = queue.dead_letters_go_to.clone();
        moved.extend(queue.take_dead().into_iter().filter_map(|message| {
            // A FIFO queue counts retention anew, a standard queue does not.
            let sent = if queue.is_fifo() { now } else { message.sent };
            let old_id = message.id.clone();
            Some((
                old_id,
                target.clone()?,
                Message { sent, moved_from: Some(arn(name)), ..message },
            ))
        }));
        for index in 0..queue.moves.len() {
            let task = &queue.moves[index];
            if !task.is_running() {
                continue;
            }
            let elapsed = now.duration_since(task.started).as_secs_f64();
            let rate = task.max_per_second.unwrap_or(MOVES_PER_SECOND);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                clippy::cast_sign_loss,
                reason = "a small positive number"
            )]
            let due = ((elapsed * rate as f64) as u64).min(task.to_move);
            let (count, target) = (due - task.moved, task.destination_arn.clone());
            queue.moves[index].moved = due;
            let target = target.rsplit_once(':').map_or("", |(_, name)| name).to_owned();
            let taken = queue.take_visible(count);
            // What is moved is a message of its own, sent now.
            moved.extend(taken.into_iter().map(|message| {
                let old_id = message.id.clone();
                let message = Message { id: String::new(), receive_count: 0, ..message };
                (old_id, target.clone(), Message { sent: now, moved_from: None, ..message })
            }));
        }
    }
    for (old_id, to, message) in moved {
        let number = next_number(world);
        if let Some(queue) = world.queues.get_mut(&to) {
            let group_id = message.group_id.clone();
            let sent = queue.put(Message { delay_seconds: None, ..message }, number, now);
            world.moved.push(Moved { old_id, id: sent.message_id, number, group_id, to });
        }
    }
    for (at, message) in consumed {
        for event in messages::decode(&message.body).into_iter().flatten() {
            let input = event.to_json().expect("JSON");
            // A duplicate is none of the consumer's concern, and nothing else can go wrong.
            world.step_functions.start(&event.execution_name(), &input, at).ok();
        }
    }
}

pub(crate) fn serve(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    match request.operation.as_str() {
        "SendMessageBatch" => send_batch(world, request),
        "ReceiveMessage" => receive(world, request),
        "DeleteMessageBatch" => batch(world, request, |queue, entry, _| {
            queue.delete(entry["ReceiptHandle"].as_str().unwrap_or_default())
        }),
        "ChangeMessageVisibilityBatch" => batch(world, request, |queue, entry, now| {
            let hidden = Duration::from_secs(entry["VisibilityTimeout"].as_u64().unwrap_or(0));
            let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
            queue.change_visibility(handle, hidden, now)
        }),
        "GetQueueAttributes" => attributes(world, request),
        "StartMessageMoveTask" => start_move(world, request),
        "ListMessageMoveTasks" => list_moves(world, request),
        "CancelMessageMoveTask" => cancel_move(world, request),
        other => panic!("{other} is not simulated"),
    }
}

/// Checks what holds for every batch call, and gives the entries.
fn entries(request: &Request) -> Result<&[Value], ServiceError> {
    let error = |code: &str, message: &str| {
        Err(ServiceError::new(&format!("AWS.SimpleQueueService.{code}"), message))
    };
    let entries = request.input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return error("EmptyBatchRequest", "There should be at least one entry in the request.");
    }
    if entries.len() > MAX_ENTRIES {
        return error("TooManyEntriesInBatchRequest", "Maximum number of entries is 10.");
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let ids = || entries.iter().map(|entry| entry["Id"].as_str().unwrap_or_default());
    if ids().any(|id| !(1..=80).contains(&id.len()) || !id.chars().all(is_allowed)) {
        return error("InvalidBatchEntryId", "A batch entry id has characters it must not have.");
    }
    if ids().collect::<BTreeSet<_>>().len() < entries.len() {
        return error("BatchEntryIdsNotDistinct", "Two entries have the same id.");
    }
    Ok(entries)
}

fn send_batch(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    let name = name_of(request.text("QueueUrl")).to_owned();
    let fifo = find(world, &name)?.is_fifo();
    let entries = entries(request)?;
    let messages: Vec<Message> = entries.iter().map(read_message).collect();
    if messages.iter().map(size).sum::<usize>() > MAX_BATCH_BYTES {
        return Err(ServiceError::new(
            "AWS.SimpleQueueService.BatchRequestTooLong",
            "Batch requests cannot be longer than 1048576 bytes.",
        ));
    }
    for message in &messages {
        check(message, fifo)?;
    }
    let now = world.now();
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (entry, message) in entries.iter().zip(messages) {
        match entry_fault(world, request, &name, &message.body) {
            Some(EntryFault::Rejected { code, sender_fault }) => {
                failed.push(failure(entry, &code, sender_fault, "as the test says"));
            }
            Some(EntryFault::Ignored) => {}
            None => {
                let digest = md5_hex(message.body.as_bytes());
                let number = next_number(world);
                let sent = find(world, &name)?.put(message, number, now);
                let mut success = json!({
                    "Id": entry["Id"],
                    "MessageId": sent.message_id,
                    "MD5OfMessageBody": digest,
                });
                if let Some(number) = sent.sequence_number {
                    success["SequenceNumber"] = json!(number.to_string());
                }
                successful.push(success);
            }
        }
    }
    Ok(results(successful, failed))
}

/// A batch call about messages that were received.
fn batch(
    world: &mut World,
    request: &Request,
    act: impl Fn(&mut Queue, &Value, Timestamp) -> Result<(), BadHandle>,
) -> Result<Value, ServiceError> {
    let name = name_of(request.text("QueueUrl")).to_owned();
    find(world, &name)?;
    let now = world.now();
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries(request)? {
        let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
        let body = find(world, &name)?.body_of(handle).unwrap_or_default().to_owned();
        match entry_fault(world, request, &name, &body) {
            Some(EntryFault::Rejected { code, sender_fault }) => {
                failed.push(failure(entry, &code, sender_fault, "as the test says"));
                continue;
            }
            Some(EntryFault::Ignored) => continue,
            None => {}
        }
        match act(find(world, &name)?, entry, now) {
            Ok(()) => successful.push(json!({ "Id": entry["Id"] })),
            Err(bad) => {
                let (code, message) = match bad {
                    BadHandle::Unreadable => {
                        ("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
                    }
                    BadHandle::Expired => {
                        ("InvalidParameterValue", "The receipt handle has expired.")
                    }
                    BadHandle::NotInFlight => (
                        "AWS.SimpleQueueService.MessageNotInflight",
                        "The message is not in flight.",
                    ),
                };
                failed.push(failure(entry, code, true, message));
            }
        }
    }
    Ok(results(successful, failed))
}

fn receive(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    let now = world.now();
    let most = request.number("MaxNumberOfMessages").unwrap_or(1);
    if !(1..=10).contains(&most) {
        let message = "Value for parameter MaxNumberOfMessages is invalid.";
        return Err(ServiceError::new("InvalidParameterValue", message));
    }
    let queue = find(world, name_of(request.text("QueueUrl")))?;
    let fifo = queue.is_fifo();
    let hidden = request.number("VisibilityTimeout").map(Duration::from_secs);
    let most = usize::try_from(most).unwrap_or(1);
    let Some(received) = queue.receive(most, hidden, now) else {
        // A long poll is not told that nothing can be shown to it.
        if wait(request).is_zero() {
            return Err(ServiceError::new("OverLimit", "Too many messages in flight."));
        }
        return Ok(json!({}));
    };
    if received.is_empty() {
        return Ok(json!({}));
    }
    let asked = |list: &str, name: &str| {
        let names = request.input[list].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).any(|asked| asked == "All" || asked == name)
    };
    let messages = received.iter().map(|(handle, message)| {
        let mut system: Vec<(&str, String)> = vec![
            ("SentTimestamp", message.sent.as_millisecond().to_string()),
            ("ApproximateReceiveCount", message.receive_count.to_string()),
            (
                "ApproximateFirstReceiveTimestamp",
                message.first_received().as_millisecond().to_string(),
            ),
        ];
        system.extend(message.group_id.clone().map(|group| ("MessageGroupId", group)));
        let source = message.moved_from.clone();
        system.extend(source.map(|arn| ("DeadLetterQueueSourceArn", arn)));
        if fifo {
            let id = message.deduplication_id.clone();
            system.extend(id.map(|id| ("MessageDeduplicationId", id)));
        }
        system.retain(|(name, _)| asked("MessageSystemAttributeNames", name));
        let system: Map<String, Value> =
            system.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let attributes = message.attributes.iter();
        let attributes: Map<String, Value> = attributes
            .filter(|(name, _)| asked("MessageAttributeNames", name))
            .map(|(name, attribute)| (name.clone(), write_attribute(attribute)))
            .collect();
        let mut answer = json!({
            "MessageId": message.id,
            "ReceiptHandle": handle,
            "Body": message.body,
            "MD5OfBody": md5_hex(message.body.as_bytes()),
        });
        if !system.is_empty() {
            answer["Attributes"] = Value::Object(system);
        }
        if !attributes.is_empty() {
            answer["MessageAttributes"] = Value::Object(attributes);
        }
        answer
    });
    Ok(json!({ "Messages": messages.collect::<Vec<_>>() }))
}

fn attributes(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    let name = name_of(request.text("QueueUrl"));
    let [visible, in_flight, delayed] = find(world, name)?.counts();
    let mut all = vec![
        ("QueueArn", arn(name)),
        ("ApproximateNumberOfMessages", visible.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", in_flight.to_string()),
        ("ApproximateNumberOfMessagesDelayed", delayed.to_string()),
    ];
    let asked = |name: &str| {
        let names = request.input["AttributeNames"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).any(|asked| asked == "All" || asked == name)
    };
    all.retain(|(name, _)| asked(name));
    let all: Map<String, Value> =
        all.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    Ok(json!({ "Attributes": all }))
}

/// The messages of the two refusals are AWS' own, which its documentation does not give.
fn start_move(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    let now = world.now();
    let refuse = |message: &str| Err(ServiceError::new("InvalidParameterValue", message));
    let missing = || ServiceError::new("ResourceNotFoundException", "The queue does not exist.");
    let source = name_of_arn(request.text("SourceArn")).to_owned();
    let destination = request.text("DestinationArn").to_owned();
    if !world.queues.contains_key(&source) || !world.queues.contains_key(name_of_arn(&destination))
    {
        return Err(missing());
    }
    let mut queues = world.queues.values();
    if !queues.any(|queue| queue.dead_letters_go_to.as_ref() == Some(&source)) {
        return refuse("Source queue must be configured as a Dead Letter Queue.");
    }
    let queue = find(world, &source)?;
    if queue.moves.iter().any(MoveTask::is_running) {
        return refuse(
            "There is already a task running. Only one active task is allowed for a source queue \
             arn at a given time.",
        );
    }
    let handle = format!("move-{source}-{}", queue.moves.len());
    queue.moves.push(MoveTask {
        handle: handle.clone(),
        destination_arn: destination,
        max_per_second: request.number("MaxNumberOfMessagesPerSecond"),
        started: now,
        moved: 0,
        to_move: queue.messages().count() as u64,
        is_cancelled: false,
    });
    Ok(json!({ "TaskHandle": handle }))
}

fn list_moves(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    let source = request.text("SourceArn");
    let most = usize::try_from(request.number("MaxResults").unwrap_or(1)).unwrap_or(1);
    let tasks = find(world, name_of_arn(source))?.moves.iter().rev().take(most);
    let results = tasks.map(|task| {
        let mut result = json!({
            "Status": task.status(),
            "SourceArn": source,
            "DestinationArn": task.destination_arn,
            "ApproximateNumberOfMessagesMoved": task.moved,
            "ApproximateNumberOfMessagesToMove": task.to_move,
            "StartedTimestamp": task.started.as_millisecond(),
        });
        if task.is_running() {
            result["TaskHandle"] = json!(task.handle);
        }
        result
    });
    Ok(json!({ "Results": results.collect::<Vec<_>>() }))
}

fn cancel_move(world: &mut World, request: &Request) -> Result<Value, ServiceError> {
    let handle = request.text("TaskHandle");
    let mut tasks = world.queues.values_mut().flat_map(|queue| &mut queue.moves);
    let Some(task) = tasks.find(|task| task.handle == handle && task.is_running()) else {
        return Err(ServiceError::new("ResourceNotFoundException", "Task does not exist."));
    };
    task.is_cancelled = true;
    Ok(json!({ "ApproximateNumberOfMessagesMoved": task.moved }))
}

/// What every message must be, or the whole call is refused.
fn check(message: &Message, fifo: bool) -> Result<(), ServiceError> {
    let refuse = |code: &str, message: &str| Err(ServiceError::new(code, message));
    let is_allowed = |c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{FFFD}' | '\u{10000}'..);
    let is_text = |text: &str| !text.is_empty() && text.chars().all(is_allowed);
    if message.body.is_empty() {
        return refuse("MissingParameter", "The request must contain the parameter MessageBody.");
    }
    if !is_text(&message.body) {
        return refuse("InvalidMessageContents", "Invalid characters found in a message.");
    }
    if message.attributes.len() > MAX_ATTRIBUTES {
        return refuse("InvalidParameterValue", "Number of message attributes exceeds 10.");
    }
    for attribute in message.attributes.values() {
        let is_kind = |kind: &str| attribute.data_type.split('.').next() == Some(kind);
        let is_valid = if is_kind("Binary") {
            attribute.binary.as_ref().is_some_and(|binary| !binary.is_empty())
        } else {
            (is_kind("String") || is_kind("Number"))
                && attribute.text.as_deref().is_some_and(is_text)
        };
        if !is_valid {
            return refuse("InvalidParameterValue", "A message attribute has no valid value.");
        }
    }
    let is_id =
        |id: &String| (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_graphic());
    if [&message.group_id, &message.deduplication_id].into_iter().flatten().any(|id| !is_id(id)) {
        return refuse("InvalidParameterValue", "A group or deduplication id is not valid.");
    }
    match (fifo, &message.group_id, &message.deduplication_id, message.delay_seconds) {
        (true, None, ..) => {
            refuse("MissingParameter", "The request must contain the parameter MessageGroupId.")
        }
        (true, _, None, _) => refuse(
            "InvalidParameterValue",
            "The queue should either have ContentBasedDeduplication enabled or \
             MessageDeduplicationId provided explicitly.",
        ),
        (true, _, _, Some(1..)) | (false, _, Some(_), _) => refuse(
            "InvalidParameterValue",
            "The request includes a parameter that is not valid for this queue type.",
        ),
        (_, _, _, Some(delay)) if delay > MAX_DELAY_SECONDS => {
            refuse("InvalidParameterValue", "DelaySeconds must be between 0 and 900.")
        }
        _ => Ok(()),
    }
}

fn read_message(entry: &Value) -> Message {
    let text = |name: &str| entry[name].as_str().map(str::to_owned);
    let attributes = entry["MessageAttributes"].as_object().into_iter().flatten();
    Message {
        attributes: attributes
            .map(|(name, value)| (name.clone(), Attribute::read(value)))
            .collect(),
        group_id: text("MessageGroupId"),
        deduplication_id: text("MessageDeduplicationId"),
        delay_seconds: entry["DelaySeconds"].as_u64(),
        ..Message::new(&text("MessageBody").unwrap_or_default())
    }
}

fn write_attribute(attribute: &Attribute) -> Value {
    let mut value = json!({ "DataType": attribute.data_type });
    if let Some(text) = &attribute.text {
        value["StringValue"] = json!(text);
    }
    if let Some(binary) = &attribute.binary {
        value["BinaryValue"] = json!(base64::encode(binary));
    }
    value
}

/// What counts for the limit: body, and of each attribute name, type and value.
fn size(message: &Message) -> usize {
    let attribute = |(name, attribute): (&String, &Attribute)| {
        name.len()
            + attribute.data_type.len()
            + attribute.text.as_ref().map_or(0, String::len)
            + attribute.binary.as_ref().map_or(0, Vec::len)
    };
    message.body.len() + message.attributes.iter().map(attribute).sum::<usize>()
}

fn entry_fault(
    world: &mut World,
    request: &Request,
    queue: &str,
    body: &str,
) -> Option<EntryFault> {
    let mut rules = world.entry_rules.iter_mut().rev();
    if let Some(fault) = rules.find_map(|rule| rule.takes(&request.operation, queue, body)) {
        return Some(fault);
    }
    let share = world.weather.rejected_entries;
    let is_rejected = share > 0.0 && world.rng.f64() < share;
    let code = || "InternalError".to_owned();
    is_rejected.then(|| EntryFault::Rejected { code: code(), sender_fault: false })
}

fn failure(entry: &Value, code: &str, sender_fault: bool, message: &str) -> Value {
    json!({ "Id": entry["Id"], "Code": code, "SenderFault": sender_fault, "Message": message })
}

fn results(successful: Vec<Value>, failed: Vec<Value>) -> Value {
    let mut answer = json!({});
    for (name, list) in [("Successful", successful), ("Failed", failed)] {
        if !list.is_empty() {
            answer[name] = Value::Array(list);
        }
    }
    answer
}

fn find<'w>(world: &'w mut World, name: &str) -> Result<&'w mut Queue, ServiceError> {
    world.queues.get_mut(name).ok_or_else(|| {
        ServiceError::new(
            "AWS.SimpleQueueService.NonExistentQueue",
            "The specified queue does not exist.",
        )
    })
}

fn next_number(world: &mut World) -> u64 {
    world.messages_made += 1;
    world.messages_made - 1
}

fn name_of(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

fn name_of_arn(arn: &str) -> &str {
    arn.rsplit_once(':').map_or(arn, |(_, name)| name)
}
