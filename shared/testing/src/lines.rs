use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber, set_default},
};

/// JSON lines that were written by logs or metrics. A clone writes to the same lines.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

/// A log is captured while this lives.
#[derive(Debug)]
#[must_use]
pub struct Captured {
    _log: DefaultGuard,
    _other: Dispatch,
}

impl Lines {
    /// Takes what this thread logs, as the functions log it.
    pub fn capture_log(&self) -> Captured {
        // While there is only one subscriber, tracing asks that of whichever thread first reaches a
        // line whether anybody wants it, and remembers the answer: another test, which has none,
        // would silence the line here. So there are two.
        let other = Dispatch::new(NoSubscriber::new());
        let lines = self.clone();
        let log = platform::log_to(None, move || lines.clone());
        Captured { _log: set_default(log), _other: other }
    }

    /// All lines so far.
    pub fn read(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        lines.collect::<Result<_, _>>().expect("lines of JSON")
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
