//! When SQS deletes a letter by itself.

use std::time::Duration;

use jiff::Timestamp;

/// `MessageRetentionPeriod` of the queues, which is as long as SQS allows. In a standard
/// dead-letter queue it goes on from the first send.
const RETENTION: Duration = Duration::from_hours(14 * 24);

/// How long before its end a letter is archived if it would stay: three nights, so that two of them
/// may fail.
const MARGIN: Duration = Duration::from_hours(3 * 24);

/// When SQS deletes what was sent then. None for a letter of which that is not known.
pub(crate) fn end_of_retention(sent: Timestamp) -> Option<Timestamp> {
    sent.checked_add(RETENTION).ok()
}

/// Whether SQS deletes a letter before there were runs enough to archive it later.
pub(crate) fn expires_soon(sent: Timestamp, now: Timestamp) -> bool {
    let safe_until = now.checked_add(MARGIN).ok();
    end_of_retention(sent).zip(safe_until).is_some_and(|(end, safe_until)| end < safe_until)
}
