//! Which of the letters that were received are this run's business.

use tokio::time::timeout_at;
use tracing::warn;

use crate::{
    DeadLetter,
    fate::{Fate, Settled, Tally},
    met::Standing,
    request::Selection,
    run::Run,
};

impl Run<'_> {
    /// Sorts out the letters that are none of this run's business, and returns the others.
    ///
    /// A letter that was met before has its fate, so it is not counted again. If all of it is
    /// confirmed elsewhere, only its deletion went wrong, and is tried again with the newest
    /// receipt; a failure of that is logged, and leaves the letter to the next run.
    pub(crate) async fn select(
        &self,
        letters: Vec<DeadLetter>,
        tally: &mut Tally,
    ) -> Vec<DeadLetter> {
        let mut selected = Vec::with_capacity(letters.len());
        let mut confirmed_before = Vec::new();
        for letter in letters {
            match self.met.meet(&letter.message_id) {
                Some(Standing::Confirmed) => confirmed_before.push(letter.receipt_handle),
                Some(Standing::Stays) => tally.release_too(letter),
                None => match self.selection.excludes(&letter) {
                    Some(fate) => tally.record(Settled { letter, events: Vec::new(), fate }),
                    None => selected.push(letter),
                },
            }
        }
        if !confirmed_before.is_empty() {
            let receipts: Vec<&str> = confirmed_before.iter().map(String::as_str).collect();
            let delete = self.redriver.dead_letter_queue.delete(&receipts);
            if timeout_at(self.end_by, delete).await.is_err() {
                warn!("letters that were confirmed earlier could not be deleted in time");
            }
        }
        selected
    }
}

impl Selection {
    /// The fate of a letter that was not asked for; none if it was.
    fn excludes(&self, letter: &DeadLetter) -> Option<Fate> {
        if letter.sent >= self.before {
            return Some(Fate::TooNew);
        }
        let wanted = self.error_class.as_ref()?;
        let class = letter.attributes.get(shared::ERROR_CLASS);
        let is_wanted = class.and_then(|class| class.text.as_ref()) == Some(wanted);
        (!is_wanted).then_some(Fate::Filtered)
    }
}
