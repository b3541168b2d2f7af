//! One run: canaries first, then all other letters, and at the end what was left is made visible.

use std::time::Duration;

use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use platform::{Depth, InWords, Pacer};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::{
    Error, Redriver, Report, Stopped,
    allowance::Allowance,
    canary::Canaries,
    dead_letters::MAX_MESSAGES,
    fate::Tally,
    met::Met,
    receive::{End, Pass, Receiver},
    request::Selection,
};

/// Receivers at once. One waits for its calls most of the time, some 30 ms for ten messages.
const RECEIVERS: usize = 4;

/// Added to the rest of a run: letters stay hidden until the run that hides them is surely over.
const HIDDEN_MARGIN_SECONDS: u64 = 60;

/// The part of a run that is kept for looking at what it did not come to: one in so many, and no
/// more than it takes to look at as many letters as SQS hides at a time.
const SWEEP_SHARE: u32 = 5;
const LONGEST_SWEEP: Duration = Duration::from_mins(2);

/// SQS hides about 120,000 messages of a queue at a time. Its own count of them is approximate.
const HIDDEN_LIMIT: u64 = 110_000;

/// SQS hides a message for 12 hours at most.
const MAX_HIDDEN_SECONDS: u64 = 43_200;

/// Time for the final depth query after the deadline; part of what is kept for the answer. Before
/// the deadline it may take longer, but must leave time for what comes after it.
const LAST_LOOK: Duration = Duration::from_millis(500);
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// What the parts of one run have in common. All of it but the two small cells is constant; what
/// the parts find out, they return.
pub(crate) struct Run<'a> {
    pub(crate) redriver: &'a Redriver,
    pub(crate) selection: &'a Selection,
    pub(crate) now: Timestamp,
    /// Nothing is begun after this but the sweep for what expires.
    pub(crate) stop_by: Instant,
    /// Nothing is received after this.
    pub(crate) sweep_by: Instant,
    /// Nothing is under way after this.
    pub(crate) end_by: Instant,
    pub(crate) hidden_seconds: i32,
    pub(crate) pacer: Option<Pacer>,
    pub(crate) met: Met,
    pub(crate) allowance: Allowance,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        redriver: &'a Redriver,
        selection: &'a Selection,
        now: Timestamp,
        sweep_by: Instant,
        end_by: Instant,
    ) -> Self {
        let for_all = sweep_by.saturating_duration_since(Instant::now());
        let for_sweep = (for_all / SWEEP_SHARE).min(LONGEST_SWEEP);
        let left = end_by.saturating_duration_since(Instant::now()).as_secs();
        let hidden = (left + HIDDEN_MARGIN_SECONDS).min(MAX_HIDDEN_SECONDS);
        Self {
            redriver,
            selection,
            now,
            stop_by: sweep_by.checked_sub(for_sweep).unwrap_or(sweep_by),
            sweep_by,
            end_by,
            hidden_seconds: i32::try_from(hidden).unwrap_or(i32::MAX),
            pacer: selection.max_per_second.map(Pacer::new),
            met: Met::default(),
            allowance: Allowance::new(selection.max_messages),
        }
    }

    /// Does the whole run. The error is why the dead-letter queue could not be read any more;
    /// whatever else goes wrong is in the report.
    pub(crate) async fn finish(&self) -> (Report, Option<Error>) {
        let wanted = if self.selection.dry_run { 0 } else { self.selection.canary_messages };
        let mut canaries = Canaries::new(wanted);
        let (mut tally, end) = self.redrive(&mut canaries).await;
        let mut reached_all = matches!(end, End::Stopped(Stopped::Empty));
        let may_read = !matches!(&end, End::Failed(error) if !error.may_pass());
        if !reached_all && may_read {
            let (swept, end) = self.receive_all(Pass::Sweep).await;
            tally.merge(swept);
            reached_all = matches!(end, End::Stopped(Stopped::Empty));
        }
        let depth = self.depth().await;
        let hides_all = depth.is_some_and(|depth| depth.hidden >= HIDDEN_LIMIT);
        let (stopped, error) = match end {
            // A long poll does not say that it shows nothing because of the limit.
            End::Stopped(Stopped::Empty) if hides_all => (Stopped::TooManyHidden, None),
            End::Stopped(Stopped::Empty) if canaries.verdicts.hold_any_back() => {
                (Stopped::Canary, None)
            }
            End::Stopped(stopped) => (stopped, None),
            End::Failed(error) => (Stopped::ReceiveFailed, Some(error)),
        };
        let in_time = matches!(stopped, Stopped::Empty | Stopped::MaxMessages | Stopped::Canary);
        let released = self.release(&tally.to_release).await;
        let Report { redriven, succeeded, ref archived, .. } = tally.report;
        let moved_nothing = redriven == 0 && succeeded == 0 && archived.is_empty();
        let mut report = Report {
            dry_run: self.selection.dry_run,
            nightly: self.selection.nightly,
            before: self.selection.before.to_string(),
            released,
            left: depth.map(|depth| depth.messages),
            oldest_left_seconds: self.age(tally.oldest_left, reached_all),
            complete: in_time && reached_all,
            canary: canaries.outcome(),
            stopped,
            moved_nothing: self.selection.dry_run || moved_nothing,
            ..tally.report
        };
        report.summary = report.in_words(self.selection);
        (report, error)
    }

    /// Canaries and what follows them, until every class that shows has its verdict and there is
    /// nothing more, or there is a reason to stop.
    async fn redrive(&self, canaries: &mut Canaries) -> (Tally, End) {
        let mut tally = Tally::default();
        loop {
            if canaries.of_each_class > 0 {
                let (scouted, end) = self.scout(canaries).await;
                tally.merge(scouted);
                if let Some(end) = end {
                    return (tally, end);
                }
            }
            let (rest, end) = self.receive_all(Pass::Main(&canaries.verdicts)).await;
            tally.merge(rest);
            let to_meet_again = std::mem::take(&mut tally.to_meet_again);
            if to_meet_again.is_empty() || !matches!(end, End::Stopped(Stopped::Empty)) {
                // For the sweep, if there is one.
                self.release(&to_meet_again).await;
                return (tally, end);
            }
            // Hidden, they cannot be met again.
            if self.release(&to_meet_again).await == 0 {
                return (tally, End::Stopped(Stopped::Deadline));
            }
        }
    }

    /// Receives and settles everything that there is, several receivers at a time.
    async fn receive_all(&self, pass: Pass<'_>) -> (Tally, End) {
        // A FIFO queue shows no further message of a group while one is hidden, and what is
        // received together is sent in order by one receiver.
        let receivers = if self.redriver.dead_letter_queue.is_fifo() { 1 } else { RECEIVERS };
        let ends =
            future::join_all((0..receivers).map(|_| Receiver::new(self, pass).finish())).await;
        let nothing = (Tally::default(), End::Stopped(Stopped::Empty));
        ends.into_iter().fold(nothing, |(mut tally, end), (other, other_end)| {
            tally.merge(other);
            (tally, end.more_telling(other_end))
        })
    }

    /// The age of the oldest letter that stays. That none does is known only if all were met.
    fn age(&self, oldest_left: Option<Timestamp>, reached_all: bool) -> Option<u64> {
        match oldest_left {
            Some(sent) => Some(u64::try_from(self.now.duration_since(sent).as_secs()).unwrap_or(0)),
            None => reached_all.then_some(0),
        }
    }

    /// Makes letters visible that stay, and tells how many are. Those that are not show again by
    /// themselves when the time is over for which they were hidden.
    async fn release(&self, receipts: &[Box<str>]) -> u64 {
        let calls = receipts.chunks(usize::from(MAX_MESSAGES)).map(async |receipts| {
            let receipts: Vec<&str> = receipts.iter().map(AsRef::as_ref).collect();
            let release = self.redriver.dead_letter_queue.release(&receipts);
            let released = timeout_at(self.end_by, release).await.unwrap_or_default();
            released.iter().filter(|released| **released).count() as u64
        });
        stream::iter(calls).buffered(RECEIVERS).fold(0, async |sum, n| sum + n).await
    }

    /// How full the dead-letter queue is. The report is not late for it.
    async fn depth(&self) -> Option<Depth> {
        let now = Instant::now();
        let until = self.end_by.min(now + LONGEST_LOOK).max(now + LAST_LOOK);
        match timeout_at(until, self.redriver.dead_letter_queue.depth()).await {
            Ok(Ok(depth)) => return Some(depth),
            Ok(Err(error)) => {
                warn!(error = %InWords(&error), "redrive cannot tell what is left");
            }
            Err(_) => warn!("redrive was not told in time what is left"),
        }
        None
    }
}
