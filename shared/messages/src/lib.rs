//! The message contract of Sluice: what a message on the work queue is, what names it, and how
//! every envelope that can carry an S3 event is decoded.
//!
//! Pure: no AWS SDK, no async runtime, no clock, no random source. What does not have to be agreed
//! on by two deployed programs does not belong here.

mod attributes;
mod decode;
mod event;
mod group;
mod id;
mod input;
mod numbers;
#[cfg(test)]
mod schema;

pub use attributes::{DEFERRALS, DEFERRED_SINCE, ERROR_CLASS, ERROR_MESSAGE, ErrorClass, REDRIVES};
pub use decode::{DecodeError, decode, decode_failed_input, form_decode};
pub use event::{Event, Object, Version};
pub use id::{EventId, InvalidEventId};
pub use input::{Content, ExecutionInput};
