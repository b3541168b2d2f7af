//! What is new in lists that overlap, as those of a service do that is asked again and again.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

/// Tells what is new in lists that overlap.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    known: HashMap<String, Timestamp>,
}

/// What was seen is remembered for longer than two lists overlap.
const REMEMBERED: Duration = Duration::from_mins(15);

impl Newcomers {
    pub(crate) fn new_in<T>(
        &mut self,
        listed: impl IntoIterator<Item = (String, Timestamp, T)>,
    ) -> Vec<T> {
        let mut new = Vec::new();
        for (name, at, what) in listed {
            if self.known.insert(name, at).is_none() {
                new.push(what);
            }
        }
        if let Some(newest) = self.known.values().max().copied() {
            let limit = newest.checked_sub(REMEMBERED).unwrap_or(newest);
            self.known.retain(|_, at| *at >= limit);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_two_lists_share_is_new_once() {
        let mut newcomers = Newcomers::default();
        let list = |names: &[&str], second| -> Vec<_> {
            names.iter().map(|name| ((*name).to_owned(), at(second), (*name).to_owned())).collect()
        };
        assert_eq!(newcomers.new_in(list(&["a", "b"], 1)), ["a", "b"]);
        assert_eq!(newcomers.new_in(list(&["b", "c"], 2)), ["c"]);
        // An hour later, no list can hold it any more.
        assert_eq!(newcomers.new_in(list(&["d"], 3_600)), ["d"]);
        assert_eq!(newcomers.known.len(), 1);
    }
}
