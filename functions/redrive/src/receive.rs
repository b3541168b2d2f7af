//! Receives letters until there is a reason to stop.

use tokio::time::{Instant, timeout_at};

use crate::{
    DeadLetter, Error, Stopped,
    allowance::Reservation,
    fate::{Fate, Settled, Tally},
    run::Run,
};

/// Empty answers in a row after which there is nothing more.
const EMPTY_ANSWERS: usize = 2;

/// One receiver of several.
pub(crate) struct Receiver<'r> {
    run: &'r Run<'r>,
    empty_answers: usize,
    pub(crate) tally: Tally,
}

/// Why a receiver has ended.
#[derive(Debug)]
pub(crate) enum End {
    Stopped(Stopped),
    /// The dead-letter queue could not be read.
    Failed(Error),
}

impl<'r> Receiver<'r> {
    pub(crate) fn new(run: &'r Run<'r>) -> Self {
        Self { run, empty_answers: 0, tally: Tally::default() }
    }

    /// Settles all letters that this receiver gets, and returns what came of them.
    pub(crate) async fn finish(mut self) -> (Tally, End) {
        loop {
            match self.next().await {
                Ok(letters) => {
                    let settled = self.run.settle(letters).await;
                    self.record(settled);
                }
                Err(end) => return (self.tally, end),
            }
        }
    }

    /// The letters that are selected of the next answers; at least one.
    ///
    /// A receive that fails ends the receiver: what was hidden by it shows again after a while.
    pub(crate) async fn next(&mut self) -> Result<Vec<DeadLetter>, End> {
        let run = self.run;
        while self.empty_answers < EMPTY_ANSWERS {
            if Instant::now() >= run.stop_by {
                return Err(End::Stopped(Stopped::Deadline));
            }
            let most = match run.allowance.reserve() {
                Reservation::Of(most) => most,
                Reservation::WithOthers => return Err(End::Stopped(Stopped::Empty)),
                Reservation::Exhausted => return Err(End::Stopped(Stopped::MaxMessages)),
            };
            let receive = run.redriver.dead_letter_queue.receive(most, run.hidden_seconds);
            let letters = match timeout_at(run.end_by, receive).await {
                Ok(Ok(letters)) => letters,
                Ok(Err(error)) => return Err(End::Failed(error)),
                Err(_) => return Err(End::Stopped(Stopped::Deadline)),
            };
            self.empty_answers = if letters.is_empty() { self.empty_answers + 1 } else { 0 };
            let selected = run.select(letters, &mut self.tally).await;
            run.allowance.settle(most, selected.len());
            if !selected.is_empty() {
                return Ok(selected);
            }
        }
        Err(End::Stopped(Stopped::Empty))
    }

    pub(crate) fn record(&mut self, settled: Vec<Settled>) {
        for settled in settled {
            self.tally.record(settled);
        }
    }

    /// Leaves letters that nothing was done about to the next run.
    pub(crate) fn leave_untried(&mut self, letters: Vec<DeadLetter>) {
        for letter in letters {
            self.tally.record(Settled { letter, events: Vec::new(), fate: Fate::Untried });
        }
    }
}

impl End {
    /// The one of two ends that says more about a run that had both.
    pub(crate) fn more_telling(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Stopped(Stopped::Empty) => 0,
            Self::Stopped(Stopped::MaxMessages) => 1,
            Self::Stopped(Stopped::Deadline) => 2,
            Self::Stopped(Stopped::Canary) => 3,
            Self::Stopped(Stopped::ReceiveFailed) | Self::Failed(_) => 4,
        }
    }
}
