use std::time::Duration;

use messages::{ErrorClass, Event};
use platform::{Deadline, MAX_MESSAGE_BYTES, Message, Metrics, Queue};
use serde::Serialize;
use serde_json::json;
use tracing::{error, info, warn};

use crate::{Config, Error, metrics::Invocation};

/// Time reserved for the answer, after the last call.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// Puts S3 events on the work queue.
#[derive(Debug, Clone)]
pub struct Forwarder {
    pub config: Config,
    pub metrics: Metrics,
    pub work_queue: Queue,
    pub dead_letter_queue: Queue,
}

/// What an invocation did, and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Forwarded {
    /// Events confirmed by the work queue.
    pub forwarded: usize,
    /// Events that no message can hold, confirmed by the dead-letter queue.
    pub dead_lettered: usize,
}

impl Forwarder {
    /// Sends one message for each event in `payload`, which may be any envelope that
    /// [`messages::decode`] knows. An error if one event is not confirmed by a queue; the others are
    /// sent first.
    pub async fn handle(&self, payload: &str, deadline: Deadline) -> Result<Forwarded, Error> {
        let decoded = messages::decode(payload);
        let total = decoded.len();
        let (mut messages, mut letters, mut undecodable) = (Vec::new(), Vec::new(), Vec::new());
        for event in decoded {
            match event {
                Ok(event) => {
                    let message = self.message(&event)?;
                    if message.size() > MAX_MESSAGE_BYTES {
                        letters.push(too_large(&event, message));
                    } else {
                        messages.push((event, message));
                    }
                }
                Err(error) => undecodable.push(error),
            }
        }

        let until = deadline.before(ANSWER_RESERVE);
        let (events, messages): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let (sent, buried) = futures::join!(
            self.work_queue.send(messages, until),
            self.dead_letter_queue.send(letters, until)
        );
        for (event, result) in events.iter().zip(&sent) {
            report(event, result.as_ref().err());
        }
        let forwarded = sent.iter().filter(|result| result.is_ok()).count();
        let dead_lettered = buried.iter().filter(|result| result.is_ok()).count();
        let failures: Vec<_> = sent.into_iter().chain(buried).filter_map(Result::err).collect();

        Invocation {
            received: total as u64,
            forwarded: forwarded as u64,
            rejected: failures.len() as u64,
            undecodable: undecodable.len() as u64,
            dead_lettered: dead_lettered as u64,
        }
        .publish(&self.metrics);
        for failure in &undecodable {
            error!(error = %failure, "event not decoded");
        }
        if !failures.is_empty() {
            return Err(Error::NotSent { events: total, failures });
        }
        if !undecodable.is_empty() {
            return Err(Error::Undecodable { events: total, failures: undecodable });
        }
        Ok(Forwarded { forwarded, dead_lettered })
    }

    fn message(&self, event: &Event) -> Result<Message, Error> {
        Message::of_event(event, self.config.group_key_segments).map_err(Error::Unwritable)
    }
}

/// The dead letter of an event that no message can hold: what names it, without what is too large.
fn too_large(event: &Event, message: Message) -> Message {
    let reason = format!(
        "the message of event {} has {} bytes, of which a queue takes {MAX_MESSAGE_BYTES}",
        event.id,
        message.size(),
    );
    warn!(event.id = %event.id, message.bytes = message.size(), "event too large for the work queue");
    let key: String = event.data.key.chars().take(1024).collect();
    let body = json!({ "id": event.id, "bucket": event.data.bucket, "keyStart": key }).to_string();
    Message { body, ..message }.dead_letter(ErrorClass::EventTooLarge.as_str(), &reason)
}

fn report(event: &Event, error: Option<&platform::SendError>) {
    let (id, key) = (event.id.as_str(), event.data.key.as_str());
    match error {
        None => info!(event.id = id, object.key = key, "forwarded"),
        Some(error) => error!(event.id = id, object.key = key, error = %error, "not forwarded"),
    }
}
