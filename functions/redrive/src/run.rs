//! One run: canaries first, then all other letters, and at the end what was left is made visible.

use std::time::Duration;

use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use runtime::Pacer;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::{
    Canary, Error, Redriver, Report, Stopped,
    allowance::Allowance,
    canary::Canaries,
    dead_letters::MAX_MESSAGES,
    fate::Tally,
    met::Met,
    receive::{End, Receiver},
    request::Selection,
};

/// Receivers at once. One waits for its calls most of the time, some 30 ms for ten messages.
const RECEIVERS: usize = 4;

/// Added to the rest of a run: letters stay hidden until the run that hides them is surely over.
const HIDDEN_MARGIN_SECONDS: u64 = 60;

/// SQS hides a message for 12 hours at most.
const MAX_HIDDEN_SECONDS: u64 = 43_200;

/// Time for the final depth query after the deadline; part of what is kept for the answer.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// What the parts of one run have in common. All of it but the two small cells is constant; what
/// the parts find out, they return.
pub(crate) struct Run<'a> {
    pub(crate) redriver: &'a Redriver,
    pub(crate) selection: &'a Selection,
    pub(crate) now: Timestamp,
    /// Nothing is begun after this.
    pub(crate) stop_by: Instant,
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
        stop_by: Instant,
        end_by: Instant,
    ) -> Self {
        let left = end_by.saturating_duration_since(Instant::now()).as_secs();
        let hidden = (left + HIDDEN_MARGIN_SECONDS).min(MAX_HIDDEN_SECONDS);
        Self {
            redriver,
            selection,
            now,
            stop_by,
            end_by,
            hidden_seconds: i32::try_from(hidden).unwrap_or(i32::MAX),
            pacer: selection.max_per_second.map(Pacer::new),
            met: Met::default(),
            allowance: Allowance::new(selection.max_messages),
        }
    }

    /// Does the whole run. It is an error only if nothing could be received at all; whatever else
    /// goes wrong is in the report.
    pub(crate) async fn finish(&self) -> Result<Report, Error> {
        let (mut tally, canary, end) = self.send_canaries().await;
        let end = if let Some(end) = end {
            end
        } else {
            let (rest, end) = self.receive_all().await;
            tally.merge(rest);
            end
        };
        let stopped = match end {
            End::Stopped(stopped) => stopped,
            End::Failed(error) if tally.report.seen == 0 => return Err(error),
            End::Failed(error) => {
                error!(error = %error, "redrive cut short");
                Stopped::ReceiveFailed
            }
        };
        let released = self.release(&tally.to_release).await;
        let Report { redriven, ref archived, .. } = tally.report;
        let moved_nothing = self.selection.dry_run || (redriven == 0 && archived.is_empty());
        Ok(Report {
            dry_run: self.selection.dry_run,
            before: self.selection.before.to_string(),
            released,
            left: self.left().await,
            canary,
            stopped,
            moved_nothing,
            ..tally.report
        })
    }

    /// Receives and settles everything that there is, several receivers at a time.
    async fn receive_all(&self) -> (Tally, End) {
        // A FIFO queue shows no further message of a group while one is hidden, and what is
        // received together is sent in order by one receiver.
        let receivers = if self.redriver.dead_letter_queue.is_fifo() { 1 } else { RECEIVERS };
        let ends = future::join_all((0..receivers).map(|_| Receiver::new(self).finish())).await;
        let nothing = (Tally::default(), End::Stopped(Stopped::Empty));
        ends.into_iter().fold(nothing, |(mut tally, end), (other, other_end)| {
            tally.merge(other);
            (tally, end.more_telling(other_end))
        })
    }

    /// Redrives a few letters, and stops the run if they come to nothing too.
    async fn send_canaries(&self) -> (Tally, Option<Canary>, Option<End>) {
        let wanted = if self.selection.dry_run { 0 } else { self.selection.canary_messages };
        let mut canaries = Canaries::new(wanted);
        let mut receiver = Receiver::new(self);
        // Received beyond what canaries were wanted.
        let mut waiting = Vec::new();
        let mut end = None;
        while let wanted @ 1.. = canaries.wanted() {
            if waiting.is_empty() {
                match receiver.next().await {
                    Ok(letters) => waiting = letters,
                    Err(reason) => {
                        end = Some(reason);
                        break;
                    }
                }
            }
            let rest = waiting.split_off(waiting.len().min(wanted));
            let settled = self.settle(std::mem::replace(&mut waiting, rest)).await;
            for settled in &settled {
                canaries.read(settled);
            }
            receiver.record(settled);
        }
        let executions = &self.redriver.executions;
        let canary = canaries.watch(executions, self.now, self.stop_by).await;
        if canary.as_ref().is_some_and(Canary::died) {
            let died = End::Stopped(Stopped::Canary);
            end = Some(match end {
                Some(end) => end.more_telling(died),
                None => died,
            });
        } else if Instant::now() >= self.stop_by {
            end = end.or(Some(End::Stopped(Stopped::Deadline)));
        }
        if matches!(end, Some(End::Stopped(Stopped::Canary | Stopped::Deadline))) {
            receiver.leave_untried(waiting);
        } else {
            let settled = self.settle(waiting).await;
            receiver.record(settled);
        }
        // More may be visible by now.
        let end = end.filter(|end| !matches!(end, End::Stopped(Stopped::Empty)));
        (receiver.tally, canary, end)
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

    /// About how many messages are left in the dead-letter queue. The report is not late for it.
    async fn left(&self) -> Option<u64> {
        let until = self.end_by.max(Instant::now() + LAST_LOOK);
        match timeout_at(until, self.redriver.dead_letter_queue.depth()).await {
            Ok(Ok(left)) => return Some(left),
            Ok(Err(error)) => warn!(error = %error, "redrive cannot tell what is left"),
            Err(_) => warn!("redrive was not told in time what is left"),
        }
        None
    }
}
