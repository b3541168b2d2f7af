use std::time::SystemTime;

use metrique_writer::Entry;

/// What becomes of the events of one invocation, in numbers.
#[derive(Debug, Default, Entry)]
#[entry(rename_all = "PascalCase")]
pub(crate) struct Invocation {
    /// Events; each is counted once more, in one of the next four.
    pub(crate) received: u64,
    pub(crate) forwarded: u64,
    /// Not confirmed by a queue.
    pub(crate) rejected: u64,
    pub(crate) undecodable: u64,
    pub(crate) dead_lettered: u64,
}

impl Invocation {
    pub(crate) fn publish(self, metrics: &platform::Metrics) {
        metrics.publish(SystemTime::now(), self);
    }
}
