//! What a ledger takes, from the sizes of pages and entries.

use std::{ops::RangeInclusive, time::Duration};

use super::{entries::ENTRY_BYTES, ranges::AT_ONCE, uploads};
use crate::{config, executions};

/// In which time S3 answers a page of versions, from within its region.
const PAGE_OF_VERSIONS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_millis(200);

/// The pages of a listing in parallel that show something new, of those that are listed at the same
/// time: the others look for where the keys are. All at best, and half of them as a rule.
const USEFUL: RangeInclusive<usize> = AT_ONCE / 2..=AT_ONCE;

/// Calls of `ListExecutions` that Step Functions answers in a second, by region:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.
const PAGES_OF_EXECUTIONS_PER_SECOND: RangeInclusive<u64> = 2..=5;

/// What a ledger takes if nothing is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effort {
    pub listing_calls: u64,
    /// By how fast S3 answers.
    pub listing: RangeInclusive<Duration>,
    pub execution_calls: u64,
    /// By the quota of the region.
    pub executions: RangeInclusive<Duration>,
    /// What the versions of the window take in memory.
    pub bytes: u64,
    /// The memory of a function, in MB, that compares all of them at once. With less, the executions
    /// are listed once for each part.
    pub function_megabytes: u64,
}

impl Effort {
    /// For a bucket with so many versions, all of them in the window, with an execution each.
    pub fn of(versions: u64) -> Self {
        let listing_calls = versions.div_ceil(uploads::PAGE);
        let execution_calls = versions.div_ceil(executions::PAGE.unsigned_abs().into());
        let rounds = |at_once: &usize| {
            u32::try_from(listing_calls.div_ceil(*at_once as u64)).unwrap_or(u32::MAX)
        };
        let bytes = versions * ENTRY_BYTES as u64;
        Self {
            listing_calls,
            listing: *PAGE_OF_VERSIONS.start() * rounds(USEFUL.end())
                ..=*PAGE_OF_VERSIONS.end() * rounds(USEFUL.start()),
            execution_calls,
            executions: Duration::from_secs(execution_calls / PAGES_OF_EXECUTIONS_PER_SECOND.end())
                ..=Duration::from_secs(execution_calls / PAGES_OF_EXECUTIONS_PER_SECOND.start()),
            bytes,
            function_megabytes: (bytes * config::MEMORY_FOR_ENTRIES as u64).div_ceil(1 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn the_effort_is_that_of_pages_and_entries() {
        let seconds = Duration::from_secs;
        assert_eq!(
            Effort::of(1_000_000),
            Effort {
                listing_calls: 1_000,
                listing: Duration::from_millis(12_500)..=seconds(50),
                execution_calls: 1_000,
                executions: seconds(200)..=seconds(500),
                bytes: 26_000_000,
                function_megabytes: 100,
            }
        );
        assert_eq!(Effort::of(1_001).listing_calls, 2);
    }

    #[test]
    fn that_much_memory_is_enough_and_no_less() {
        for versions in [1_000_000, 10_000_000, 100_000_000] {
            let enough = usize::try_from(Effort::of(versions).function_megabytes).expect("small");
            let versions = usize::try_from(versions).expect("small");
            assert!(Config::most_entries_in(enough) >= versions);
            assert!(Config::most_entries_in(enough - 1) < versions);
        }
    }
}
