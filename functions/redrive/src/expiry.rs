//! What SQS would delete by itself is archived before.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;

use crate::{
    archive::GivenUp,
    dead_letters::MAX_MESSAGES,
    fate::{Fate, Settled},
    plan::Reason,
    run::Run,
};

/// `MessageRetentionPeriod` of the queues, which is as long as SQS allows. In a standard
/// dead-letter queue it goes on from the first send.
const RETENTION: Duration = Duration::from_hours(14 * 24);

/// How long before its end a letter is archived if it would stay: three nights, so that two of them
/// may fail.
const MARGIN: Duration = Duration::from_hours(3 * 24);

impl Run<'_> {
    /// Archives the letters that would stay and that SQS deletes soon, and gives them their new
    /// fate. A letter whose content is confirmed elsewhere may expire.
    ///
    /// If that does not work either, the letter stays, as a failure; the margin is some nights, so
    /// that the next runs try again.
    pub(crate) async fn rescue(&self, settled: Vec<Settled>) -> Vec<Settled> {
        let expires = |settled: &Settled| {
            settled.fate.loses_by_expiry() && expires_soon(settled.letter.sent, self.now)
        };
        let (expiring, mut rest): (Vec<_>, Vec<_>) = settled.into_iter().partition(expires);
        if expiring.is_empty() {
            return rest;
        }
        let archiving = expiring.into_iter().map(async |settled| {
            let Settled { letter, mut events, fate } = settled;
            if events.is_empty() {
                let decoded = self.decode(&letter).await;
                let decoded = decoded.unwrap_or_else(|_| messages::decode(&letter.body));
                events = decoded.into_iter().filter_map(Result::ok).collect();
            }
            let end = end_of_retention(letter.sent).unwrap_or(Timestamp::MAX);
            let message = format!("SQS would delete it at {end}; {}", fate.why_it_stays());
            let reason = Reason::new("Expiring", &message);
            let fate = if self.selection.dry_run {
                Fate::WouldArchive(reason)
            } else {
                let given_up =
                    GivenUp { letter: &letter, events: &events, redriven: false, reason: &reason };
                match self.put(given_up).await {
                    Ok(()) => Fate::Archived(reason),
                    Err(failure) => Fate::Failed(failure),
                }
            };
            Settled { letter, events, fate }
        });
        let rescued = stream::iter(archiving).buffered(usize::from(MAX_MESSAGES)).collect().await;
        rest.extend(self.delete(rescued).await);
        rest
    }
}

/// When SQS deletes what was sent then. None for a letter of which that is not known.
fn end_of_retention(sent: Timestamp) -> Option<Timestamp> {
    sent.checked_add(RETENTION).ok()
}

/// Whether SQS deletes a letter before there were runs enough to archive it later.
fn expires_soon(sent: Timestamp, now: Timestamp) -> bool {
    let safe_until = now.checked_add(MARGIN).ok();
    end_of_retention(sent).zip(safe_until).is_some_and(|(end, safe_until)| end < safe_until)
}
