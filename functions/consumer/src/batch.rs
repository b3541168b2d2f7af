//! One batch: what its records have in common, and what to do about each of them.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
};

use aws_lambda_events::event::sqs::SqsMessage;
use futures::FutureExt;
use runtime::Pacer;
use shared::{ErrorClass, Event, ExecutionInput, Payload, REDRIVES};
use tokio::time::{Instant, timeout_at};

use crate::{
    Cause, Consumer,
    decision::Decision,
    object::{self, Content},
};

/// A record and what its body says.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub(crate) record: &'a SqsMessage,
    /// The events that could be decoded.
    pub(crate) events: Vec<Event>,
    /// Why the others could not.
    undecodable: Option<String>,
}

impl<'a> Item<'a> {
    pub(crate) fn new(record: &'a SqsMessage) -> Self {
        let mut item = Self { record, events: Vec::new(), undecodable: None };
        let redrives = record.message_attributes.get(REDRIVES);
        let redrives = redrives.and_then(|redrives| redrives.string_value.as_ref()?.parse().ok());
        for event in shared::decode(record.body.as_deref().unwrap_or_default()) {
            match event {
                Ok(mut event) => {
                    // What comes back of a failed execution has no attributes.
                    event.redrives = event.redrives.max(redrives.unwrap_or(0));
                    item.events.push(event);
                }
                Err(error) => item.undecodable = Some(error.to_string()),
            }
        }
        item
    }
}

#[derive(Debug)]
pub(crate) struct Batch<'a> {
    consumer: &'a Consumer,
    /// When the last decision must have been made.
    decide_by: Instant,
    pacer: Option<Pacer>,
    /// Set by the first start that is refused for a reason that holds for all.
    closed: Mutex<Option<(Cause, String)>>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(consumer: &'a Consumer, decide_by: Instant) -> Self {
        Self {
            consumer,
            decide_by,
            pacer: consumer.config.start_rate_per_second.map(Pacer::new),
            closed: Mutex::default(),
        }
    }

    /// Starts what the record holds and decides what becomes of it. Neither an error, nor a panic,
    /// nor the deadline reaches a neighbour.
    pub(crate) async fn decide(&self, item: &Item<'_>) -> Decision {
        if Instant::now() >= self.decide_by {
            return Decision::fail("not begun before the deadline");
        }
        let decision = AssertUnwindSafe(self.execute_all(item)).catch_unwind();
        match timeout_at(self.decide_by, decision).await {
            Ok(Ok(decision)) => decision,
            Ok(Err(panic)) => Decision::fail(format_args!("panicked: {}", panic_message(&*panic))),
            Err(_) => Decision::fail("not answered before the deadline"),
        }
    }

    /// In order, so that two writes to one key in one message start in the order they were made.
    async fn execute_all(&self, item: &Item<'_>) -> Decision {
        let mut decision = match &item.undecodable {
            Some(error) => Decision::dead_letter(ErrorClass::Undecodable, error),
            None => Decision::NOTHING_TO_DO,
        };
        for event in &item.events {
            decision = decision.and(self.execute(event).await);
        }
        decision
    }

    async fn execute(&self, event: &Event) -> Decision {
        if let Some(decision) = self.closed() {
            return decision;
        }
        let content = match object::read(
            &self.consumer.s3,
            event,
            self.consumer.config.inline_object_max_bytes,
        )
        .await
        {
            Ok(content) => content,
            Err(decision) => return decision,
        };
        let payload = match &content {
            Content::Inline(content) => Payload::Inline(content),
            Content::ByReference => Payload::ByReference,
            Content::Overwritten => Payload::Overwritten,
        };
        let input = match ExecutionInput::new(event, payload).to_json() {
            Ok(input) => input,
            Err(error) => return Decision::fail(error),
        };
        if let Some(pacer) = &self.pacer {
            pacer.turns(1).await;
        }
        // Asked again: a neighbour may have been refused while this one read its object.
        if let Some(decision) = self.closed() {
            return decision;
        }
        self.start(event, input).await
    }

    async fn start(&self, event: &Event, input: String) -> Decision {
        let answer = self
            .consumer
            .step_functions
            .start_execution()
            .state_machine_arn(&self.consumer.config.state_machine_arn)
            .name(event.execution_name())
            .input(input)
            .send()
            .await;
        let decision = match answer {
            Ok(_) => Decision::STARTED,
            Err(error) => Decision::of_start_error(&error),
        };
        if let Decision::Defer { cause, message } = &decision {
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            closed.get_or_insert_with(|| (*cause, message.clone()));
        }
        decision
    }

    /// The decision for every further start once one was refused: what is throttled is not asked
    /// again and again.
    fn closed(&self) -> Option<Decision> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.clone().map(|(cause, message)| Decision::Defer { cause, message })
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
