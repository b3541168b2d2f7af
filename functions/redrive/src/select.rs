//! Which of the letters that were received are this run's business.

use messages::Event;
use tokio::time::timeout_at;
use tracing::warn;

use crate::{
    DeadLetter,
    fate::{Fate, Settled, Tally},
    met::Standing,
    receive::Pass,
    request::Selection,
    run::Run,
};

/// What was received, sorted.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) selected: Vec<DeadLetter>,
    /// None of this run's business.
    pub(crate) excluded: Vec<Settled>,
}

impl Run<'_> {
    /// Tells the letters that are this run's business from those that are not.
    ///
    /// A letter that was met before has its fate, or will have it, so it is in neither. If all of it
    /// is confirmed elsewhere, only its deletion went wrong, and is tried again with the newest
    /// receipt; a failure of that is logged, and leaves the letter to the next run.
    pub(crate) async fn select(
        &self,
        letters: Vec<DeadLetter>,
        pass: Pass<'_>,
        tally: &mut Tally,
    ) -> Sorted {
        let mut sorted = Sorted::default();
        let mut confirmed_before = Vec::new();
        for letter in letters {
            match self.met.meet(&letter.message_id, &letter.receipt_handle) {
                Some(Standing::Confirmed) => confirmed_before.push(letter.receipt_handle),
                Some(Standing::Stays) => tally.release_too(letter),
                Some(Standing::InHand) => {}
                None => match self.selection.excludes(&letter, pass) {
                    Some(fate) => sorted.excluded.push(Settled::undecoded(letter, fate)),
                    None => sorted.selected.push(letter),
                },
            }
        }
        self.delete_again(confirmed_before, tally).await;
        sorted
    }

    /// Deletes letters the content of which was confirmed earlier in this run. Those that are not
    /// deleted now are released, for the next run.
    async fn delete_again(&self, receipts: Vec<String>, tally: &mut Tally) {
        if receipts.is_empty() {
            return;
        }
        let handles: Vec<&str> = receipts.iter().map(String::as_str).collect();
        let delete = self.redriver.dead_letter_queue.delete(&handles);
        let mut deleted = timeout_at(self.end_by, delete).await.unwrap_or_default().into_iter();
        for receipt in receipts {
            if !deleted.next().unwrap_or(false) {
                warn!("a letter that was confirmed earlier is not deleted");
                tally.to_release.push(receipt.into());
            }
        }
    }
}

impl Selection {
    /// Whether a letter is one of those that a person asked for, which is all if they did not say.
    fn asks_for(&self, letter: &DeadLetter) -> bool {
        if self.error_class.as_deref().is_some_and(|wanted| wanted != letter.class())
            || self.since.is_some_and(|since| letter.sent < since)
        {
            return false;
        }
        if self.key_prefix.is_none() && self.ids.is_none() {
            return true;
        }
        let decoded = messages::decode(&letter.body);
        let events: Vec<&Event> = decoded.iter().filter_map(|event| event.as_ref().ok()).collect();
        let has_key = self
            .key_prefix
            .as_deref()
            .is_none_or(|prefix| events.iter().any(|event| event.data.key.starts_with(prefix)));
        let has_id = self.ids.as_ref().is_none_or(|ids| {
            let is = |id: &str| ids.iter().any(|wanted| wanted == id);
            is(&letter.message_id) || events.iter().any(|event| is(event.id.as_str()))
        });
        has_key && has_id
    }

    /// The fate of a letter that was not asked for; none if it was.
    fn excludes(&self, letter: &DeadLetter, pass: Pass<'_>) -> Option<Fate> {
        if letter.sent >= self.before {
            Some(Fate::TooNew)
        } else if !self.asks_for(letter) {
            Some(Fate::Filtered)
        } else if matches!(pass, Pass::Sweep) {
            Some(Fate::Untried)
        } else {
            None
        }
    }
}
