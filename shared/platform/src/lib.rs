//! What the three functions run on: settings from the environment, SDK clients, logs, metrics and
//! the one place that sends to a queue.

mod clients;
mod connector;
mod deadline;
mod in_words;
mod log;
mod message;
mod metrics;
mod pacer;
mod queue;
mod settings;
mod trust;

pub use clients::{SDK_ATTEMPTS, sdk_config, sdk_defaults};
pub use deadline::Deadline;
pub use in_words::InWords;
pub use log::{init as init_log, to as log_to};
pub use message::{Attribute, MAX_MESSAGE_BYTES, Message};
pub use metrics::Metrics;
pub use pacer::Pacer;
pub use queue::{Depth, Queue, SendError, depth, is_fifo};
pub use settings::{Settings, SettingsError};
