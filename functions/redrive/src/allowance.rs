//! How many letters a run may still take, shared by its receivers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dead_letters::MAX_MESSAGES;

/// The share of `maxMessages` that is left. A receiver reserves before it receives, and settles its
/// reservation when it knows how many letters were selected.
#[derive(Debug)]
pub(crate) struct Allowance(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Letters that may still be selected, those reserved excluded.
    left: u64,
    reserved: u64,
}

/// What a receiver may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// It may receive so many letters.
    Of(u8),
    /// There is nothing left but what others have reserved and may not need. They go on.
    WithOthers,
    /// There is nothing left.
    Exhausted,
}

impl Allowance {
    pub(crate) fn new(max_messages: Option<u64>) -> Self {
        Self(Mutex::new(State { left: max_messages.unwrap_or(u64::MAX), reserved: 0 }))
    }

    pub(crate) fn reserve(&self) -> Reservation {
        let mut state = self.state();
        if state.left == 0 {
            return if state.reserved == 0 {
                Reservation::Exhausted
            } else {
                Reservation::WithOthers
            };
        }
        let most = u8::try_from(state.left).unwrap_or(MAX_MESSAGES).min(MAX_MESSAGES);
        state.left -= u64::from(most);
        state.reserved += u64::from(most);
        Reservation::Of(most)
    }

    /// Gives back what was reserved and not used.
    pub(crate) fn settle(&self, reserved: u8, selected: usize) {
        let mut state = self.state();
        state.reserved -= u64::from(reserved);
        let unused = u64::from(reserved).saturating_sub(selected as u64);
        state.left = state.left.saturating_add(unused);
    }

    /// Gives back what was selected and is to be met again.
    pub(crate) fn give_back(&self, selected: u64) {
        let mut state = self.state();
        state.left = state.left.saturating_add(selected);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
