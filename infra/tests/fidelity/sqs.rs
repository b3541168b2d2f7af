use std::time::Duration;

use aws_sdk_sqs::{
    error::{ProvideErrorMetadata, SdkError},
    types::{
        DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
        QueueAttributeName, SendMessageBatchRequestEntry as Entry,
    },
};
use tokio::time::sleep;

use crate::{
    Seen,
    world::{Queues, World},
};

/// For so long what is received is hidden, and after so long it is shown again: the emulator, too,
/// may be slow.
const HIDDEN_SECONDS: i32 = 4;
const SHOWN_AGAIN: Duration = Duration::from_secs(5);

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or("no code");
    // Both write it with a name before it: `AWS.SimpleQueueService.` or `com.amazonaws.sqs#`.
    code.rsplit(['.', '#']).next().unwrap_or(code).to_owned()
}

fn entry(
    id: &str,
    body: &str,
) -> aws_sdk_sqs::types::builders::SendMessageBatchRequestEntryBuilder {
    Entry::builder().id(id).message_body(body)
}

fn in_group(id: &str, group: &str) -> Entry {
    let entry = entry(id, id).message_group_id(group).message_deduplication_id(id);
    entry.build().unwrap()
}

/// The entries that were accepted and those that were not, or why all of them were refused.
async fn send(queues: &Queues, entries: Vec<Entry>) -> String {
    let call = queues.client.send_message_batch().queue_url(&queues.work);
    match call.set_entries(Some(entries)).send().await {
        Ok(answer) => {
            let accepted = answer.successful().len();
            let failed =
                answer.failed().iter().map(|entry| format!("; {}: {}", entry.id, entry.code));
            format!("{accepted} accepted{}", failed.collect::<String>())
        }
        Err(error) => code(&error),
    }
}

async fn receive(queues: &Queues, url: &str) -> Vec<Message> {
    let call = queues.client.receive_message().queue_url(url).max_number_of_messages(10);
    let call = call.visibility_timeout(HIDDEN_SECONDS).wait_time_seconds(0);
    let call = call.message_system_attribute_names(MessageSystemAttributeName::All);
    call.message_attribute_names("All").send().await.unwrap().messages.unwrap_or_default()
}

/// Bodies, each with how often it was received.
fn shown(messages: &[Message]) -> String {
    let each = messages.iter().map(|message| {
        let body = message.body.as_deref().unwrap_or_default();
        format!(
            "{body} ×{}",
            attribute(message, &MessageSystemAttributeName::ApproximateReceiveCount)
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

fn attribute(message: &Message, name: &MessageSystemAttributeName) -> String {
    let attributes = message.attributes.as_ref().expect("attributes");
    attributes.get(name).cloned().unwrap_or_default()
}

async fn delete(queues: &Queues, url: &str, messages: &[Message]) -> String {
    let entries = messages.iter().enumerate().map(|(index, message)| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
        entry.receipt_handle(message.receipt_handle.as_deref().unwrap_or_default()).build().unwrap()
    });
    let call = queues.client.delete_message_batch().queue_url(url);
    match call.set_entries(Some(entries.collect())).send().await {
        Ok(answer) => {
            format!("{} deleted, {} failed", answer.successful.len(), answer.failed.len())
        }
        Err(error) => code(&error),
    }
}

/// Visible, in flight, delayed.
async fn counts(queues: &Queues, url: &str) -> String {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let call = queues.client.get_queue_attributes().queue_url(url);
    let answer = call.set_attribute_names(Some(names.to_vec())).send().await.unwrap();
    let attributes = answer.attributes.expect("attributes");
    names.map(|name| attributes[&name].clone()).join(", ")
}

pub(crate) async fn refusals(world: &World, seen: &mut Seen) {
    let World { standard, fifo, .. } = world;
    let text = |value: &str| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value);
        value.build().unwrap()
    };
    let many = (0..11)
        .fold(entry("a", "a"), |entry, n| entry.message_attributes(format!("a{n}"), text("v")));
    let large = "x".repeat(600_000);
    for (about, entries) in [
        ("no entries", vec![]),
        ("eleven entries", (0..11).map(|n| entry(&n.to_string(), "a")).collect()),
        ("two entries of one id", vec![entry("a", "a"), entry("a", "b")]),
        ("an entry id with a dot", vec![entry("a.b", "a")]),
        ("a batch above a mebibyte", vec![entry("a", &large), entry("b", &large)]),
        ("a body with a control character", vec![entry("a", "\u{1}")]),
        ("an empty body", vec![entry("a", "")]),
        ("eleven attributes", vec![many]),
        ("an empty attribute", vec![entry("a", "a").message_attributes("a", text(""))]),
        ("a delay of 901 seconds", vec![entry("a", "a").delay_seconds(901)]),
        (
            "a deduplication id on a standard queue",
            vec![entry("a", "a").message_deduplication_id("a")],
        ),
        ("an empty group", vec![entry("a", "a").message_group_id("")]),
    ] {
        let entries = entries.into_iter().map(|entry| entry.build().unwrap()).collect();
        seen.note(about, send(standard, entries).await);
    }
    for (about, entry) in [
        ("no group on a FIFO queue", entry("a", "a").message_deduplication_id("a")),
        ("no deduplication id on a FIFO queue", entry("a", "a").message_group_id("g")),
        (
            "a delay on a FIFO queue",
            entry("a", "a").message_group_id("g").message_deduplication_id("b").delay_seconds(1),
        ),
    ] {
        seen.note(about, send(fifo, vec![entry.build().unwrap()]).await);
    }
}

pub(crate) async fn the_life_of_a_message(world: &World, seen: &mut Seen) {
    let queues = &world.standard;
    let fair = entry("a", "a").message_group_id("device");
    seen.note("a group on a standard queue", send(queues, vec![fair.build().unwrap()]).await);
    let first = receive(queues, &queues.work).await;
    seen.note("a first receive", shown(&first));
    seen.note("its group", attribute(&first[0], &MessageSystemAttributeName::MessageGroupId));
    seen.note("a receive while it is hidden", shown(&receive(queues, &queues.work).await));
    seen.note("counts while it is hidden", counts(queues, &queues.work).await);
    sleep(SHOWN_AGAIN).await;
    let second = receive(queues, &queues.work).await;
    seen.note("a receive after that", shown(&second));
    let is_new = first[0].receipt_handle != second[0].receipt_handle;
    seen.note("its receipt is another one", is_new.to_string());
    seen.note("it is deleted", delete(queues, &queues.work, &second).await);
    seen.note("it is deleted again", delete(queues, &queues.work, &second).await);
    seen.note("counts after that", counts(queues, &queues.work).await);

    let delayed = entry("b", "b").delay_seconds(HIDDEN_SECONDS);
    seen.note("a delayed message", send(queues, vec![delayed.build().unwrap()]).await);
    seen.note("a receive while it is delayed", shown(&receive(queues, &queues.work).await));
    seen.note("counts while it is delayed", counts(queues, &queues.work).await);
    sleep(SHOWN_AGAIN).await;
    let late = receive(queues, &queues.work).await;
    seen.note("a receive after the delay", shown(&late));

    let handle = late[0].receipt_handle.clone().unwrap_or_default();
    let call = queues.client.change_message_visibility_batch().queue_url(&queues.work);
    let entry = aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry::builder().id("b");
    let entry = entry.receipt_handle(handle).visibility_timeout(0).build().unwrap();
    let changed = call.entries(entry).send().await.unwrap();
    seen.note("it is shown at once", format!("{} changed", changed.successful.len()));
    let again = receive(queues, &queues.work).await;
    seen.note("a receive after it is shown", shown(&again));
    delete(queues, &queues.work, &again).await;
}

pub(crate) async fn the_way_to_the_dead_letter_queue(world: &World, seen: &mut Seen) {
    for (kind, queues) in [("standard", &world.standard), ("FIFO", &world.fifo)] {
        let message =
            if kind == "FIFO" { in_group("d", "d") } else { entry("d", "d").build().unwrap() };
        send(queues, vec![message]).await;
        let mut sent = String::new();
        for receives in 1..=2 {
            let received = receive(queues, &queues.work).await;
            seen.note(&format!("receive {receives} of what dies, {kind}"), shown(&received));
            sent = attribute(&received[0], &MessageSystemAttributeName::SentTimestamp);
            sleep(SHOWN_AGAIN).await;
        }
        let gone = receive(queues, &queues.work).await;
        seen.note(&format!("the receive after the last one, {kind}"), shown(&gone));
        let letters = receive(queues, &queues.dead).await;
        seen.note(&format!("its dead letter, {kind}"), shown(&letters));
        let source = attribute(&letters[0], &MessageSystemAttributeName::DeadLetterQueueSourceArn);
        let names_it = source.rsplit(':').next() == queues.work.rsplit('/').next();
        seen.note(
            &format!("the letter names the queue that it comes from, {kind}"),
            names_it.to_string(),
        );
        let keeps_time = attribute(&letters[0], &MessageSystemAttributeName::SentTimestamp) == sent;
        seen.note(
            &format!("the letter keeps the time of its first send, {kind}"),
            keeps_time.to_string(),
        );
        delete(queues, &queues.dead, &letters).await;
    }
}

pub(crate) async fn groups(world: &World, seen: &mut Seen) {
    let queues = &world.fifo;
    let four =
        ["g1", "g2", "g3"].map(|id| in_group(id, "g")).into_iter().chain([in_group("h1", "h")]);
    seen.note("four messages in two groups", send(queues, four.collect()).await);
    seen.note("the same deduplication id again", send(queues, vec![in_group("g1", "g")]).await);
    let mut first = receive(queues, &queues.work).await;
    first.sort_by_key(|message| message.body.clone());
    seen.note("what a receive of ten gives of two groups", shown(&first));
    seen.note(
        "a receive while both groups are hidden",
        shown(&receive(queues, &queues.work).await),
    );
    send(queues, vec![in_group("g4", "g"), in_group("i1", "i")]).await;
    seen.note(
        "a receive after one more for a hidden group and one for a new one",
        shown(&receive(queues, &queues.work).await),
    );
    delete(queues, &queues.work, &first).await;
    seen.note("what comes when the group is free", shown(&receive(queues, &queues.work).await));
}
