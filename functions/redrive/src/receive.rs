//! Receives letters until there is a reason to stop.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::{
    DeadLetter, Error, Stopped,
    allowance::Reservation,
    canary::Verdicts,
    dead_letters::MAX_MESSAGES,
    fate::{Fate, Settled, Tally},
    run::Run,
};

/// Empty answers in a row after which there is nothing more.
const EMPTY_ANSWERS: usize = 2;

/// How long to wait after a failed receive: at first, and at most, doubled in between.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// For how long a receive is tried again that SQS refuses. A right or a key that was just given
/// takes some seconds to take effect everywhere. What lasts longer is not cured by waiting, and
/// Lambda repeats the nightly invocation twice, some minutes apart.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// What a receiver is after.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pass<'v> {
    /// Letters to keep in hand, for canaries and those that follow them.
    Scout,
    /// All letters whose canaries allow it.
    Main(&'v Verdicts),
    /// Only letters that expire, whatever the run was asked for.
    Sweep,
}

/// One receiver of several.
pub(crate) struct Receiver<'r> {
    pub(crate) run: &'r Run<'r>,
    pass: Pass<'r>,
    /// Nothing is received after this.
    until: Instant,
    empty_answers: usize,
    pub(crate) tally: Tally,
    /// Groups of a FIFO queue in which a letter stays. The letters behind it must not overtake it.
    pub(crate) blocked: HashSet<String>,
}

/// Why a receiver has ended.
#[derive(Debug)]
pub(crate) enum End {
    Stopped(Stopped),
    /// The dead-letter queue could not be read.
    Failed(Error),
}

impl<'r> Receiver<'r> {
    pub(crate) fn new(run: &'r Run<'r>, pass: Pass<'r>) -> Self {
        let until = if matches!(pass, Pass::Sweep) { run.sweep_by } else { run.stop_by };
        Self {
            run,
            pass,
            until,
            empty_answers: 0,
            tally: Tally::default(),
            blocked: HashSet::new(),
        }
    }

    /// Settles all letters that this receiver gets, and returns what came of them.
    pub(crate) async fn finish(mut self) -> (Tally, End) {
        loop {
            match self.next().await {
                Ok(letters) => self.settle(letters).await,
                Err(end) => return (self.tally, end),
            }
        }
    }

    /// The letters that are selected of the next answers; at least one.
    ///
    /// A receive that fails is tried again with growing pauses until time is up: whoever cannot
    /// read now may be able to in a minute, and a night has one run. A receive that SQS refuses for
    /// a reason that no waiting cures ends the receiver after [`REFUSED_FOR`].
    pub(crate) async fn next(&mut self) -> Result<Vec<DeadLetter>, End> {
        let run = self.run;
        let mut pause = FIRST_PAUSE;
        let mut refused_since = None;
        while self.empty_answers < EMPTY_ANSWERS {
            if Instant::now() >= self.until {
                return Err(End::Stopped(Stopped::Deadline));
            }
            let most = self.reserve()?;
            let receive = run.redriver.dead_letter_queue.receive(most, run.hidden_seconds);
            let letters = match timeout_at(run.end_by, receive).await {
                Ok(Ok(letters)) => letters,
                Ok(Err(error)) => {
                    self.give_back(most, 0);
                    if error.is_over_limit() {
                        return Err(End::Stopped(Stopped::TooManyHidden));
                    }
                    let now = Instant::now();
                    let give_up_at = if error.may_pass() {
                        refused_since = None;
                        self.until
                    } else {
                        self.until.min(*refused_since.get_or_insert(now) + REFUSED_FOR)
                    };
                    let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                    if now + jittered >= give_up_at {
                        return Err(End::Failed(error));
                    }
                    warn!(error = %error, "receive failed, and is tried again");
                    sleep(jittered).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Err(_) => {
                    self.give_back(most, 0);
                    return Err(End::Stopped(Stopped::Deadline));
                }
            };
            (pause, refused_since) = (FIRST_PAUSE, None);
            self.empty_answers = if letters.is_empty() { self.empty_answers + 1 } else { 0 };
            let sorted = run.select(letters, self.pass, &mut self.tally).await;
            self.give_back(most, sorted.selected.len());
            self.record(sorted.excluded).await;
            if !sorted.selected.is_empty() {
                return Ok(sorted.selected);
            }
        }
        Err(End::Stopped(Stopped::Empty))
    }

    /// How many letters to receive. A sweep is not bound by the cap.
    fn reserve(&self) -> Result<u8, End> {
        if matches!(self.pass, Pass::Sweep) {
            return Ok(MAX_MESSAGES);
        }
        match self.run.allowance.reserve() {
            Reservation::Of(most) => Ok(most),
            Reservation::WithOthers => Err(End::Stopped(Stopped::Empty)),
            Reservation::Exhausted => Err(End::Stopped(Stopped::MaxMessages)),
        }
    }

    fn give_back(&self, reserved: u8, selected: usize) {
        if !matches!(self.pass, Pass::Sweep) {
            self.run.allowance.settle(reserved, selected);
        }
    }

    /// Records the fates of letters, after those that must not stay are archived.
    pub(crate) async fn record(&mut self, settled: Vec<Settled>) {
        for mut settled in self.run.rescue(settled).await {
            if let Some(receipt) = self.run.met.newer_receipt(&settled.letter.message_id) {
                settled.letter.receipt_handle = receipt;
            }
            let blocks = self.run.redriver.dead_letter_queue.is_fifo() && settled.fate.stays();
            if let (true, Some(group)) = (blocks, &settled.letter.group_id) {
                self.blocked.insert(group.clone());
            }
            self.run.note(&settled);
            if self.run.selection.describes(&settled.fate) {
                self.tally.report.describe(&settled);
            }
            self.tally.record(settled);
        }
    }

    /// Leaves letters that nothing was done about to the next run.
    pub(crate) async fn leave_untried(&mut self, letters: Vec<DeadLetter>) {
        let untried = letters.into_iter();
        let untried = untried.map(|letter| Settled::undecoded(letter, Fate::Untried)).collect();
        self.record(untried).await;
    }

    /// Settles what was received together.
    async fn settle(&mut self, letters: Vec<DeadLetter>) {
        let Pass::Main(verdicts) = self.pass else { return self.leave_untried(letters).await };
        let planned = self.plan(letters).await;
        let sorted = self.run.hold_back(planned, verdicts);
        for letter in sorted.open {
            self.run.met.forget(&letter.message_id);
            self.tally.to_meet_again.push(letter.receipt_handle.into());
            self.run.allowance.give_back(1);
        }
        self.run.allowance.give_back(sorted.held_back.len() as u64);
        self.record(sorted.held_back).await;
        self.carry_out(sorted.to_do).await;
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
            Self::Stopped(Stopped::TooManyHidden) => 4,
            Self::Stopped(Stopped::ReceiveFailed) | Self::Failed(_) => 5,
        }
    }
}
