use std::collections::BTreeSet;

use crate::Fault;

/// What a run is to be like, beside its seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Objects that are written.
    pub uploads: u32,
    /// Nights of the whole run. Faults happen on the first days only; the last [`QUIET_NIGHTS`] are
    /// there for everything to come to its end.
    pub nights: u32,
    /// What may happen.
    pub faults: BTreeSet<Fault>,
}

/// Nights after the last fault. A failing event needs `MaxRedrives` of them before it is archived,
/// one more until its letter is from before today, and the rest is for executions that take days.
pub const QUIET_NIGHTS: u32 = 9;

impl Plan {
    /// Everything that AWS and people may do, but that something is never delivered.
    pub fn full(uploads: u32, nights: u32) -> Self {
        Self::lossy(uploads, nights).without(Fault::NeverDelivered)
    }

    /// Everything. What is never delivered breaks a promise, until something looks for it.
    pub fn lossy(uploads: u32, nights: u32) -> Self {
        Self { uploads, nights, faults: Fault::ALL.iter().copied().collect() }
    }

    /// Nothing goes wrong.
    pub fn calm(uploads: u32, nights: u32) -> Self {
        Self { uploads, nights, faults: BTreeSet::new() }
    }

    /// A plan by its name on the command line.
    pub fn named(name: &str, uploads: u32, nights: u32) -> Option<Self> {
        match name {
            "full" => Some(Self::full(uploads, nights)),
            "lossy" => Some(Self::lossy(uploads, nights)),
            "calm" => Some(Self::calm(uploads, nights)),
            _ => None,
        }
    }

    #[must_use]
    pub fn without(&self, fault: Fault) -> Self {
        let mut plan = self.clone();
        plan.faults.remove(&fault);
        plan
    }

    /// Nights on which something may go wrong.
    pub(crate) fn busy_nights(&self) -> u32 {
        self.nights.saturating_sub(QUIET_NIGHTS).max(1)
    }
}
