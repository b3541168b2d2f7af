//! What of a bucket is still to be listed, in ranges of keys that are listed at the same time.
//!
//! A listing shows a page after the other, and nobody can ask for its middle. But it may begin behind
//! any key, be it there or not. So a range is cut at keys that are made up: a page is listed behind
//! each of them, and is the first of a range of its own. If there is nothing, the range below has its
//! end there, and is cut nearer to what there is. That finds the keys wherever they are, at the price
//! of some hundred calls that show nothing.

use std::{cmp::Ordering, iter::once};

use serde::{Deserialize, Serialize};

use super::uploads::Place;

/// Pages that are listed at the same time. Memory has to hold them.
pub(super) const AT_ONCE: usize = 8;

/// Bytes of a key: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>.
const MAX_KEY_BYTES: usize = 1_024;

/// The last character of ASCII. Few keys have others, so these are looked for all at once.
const LAST_OF_ASCII: char = '\x7f';

/// The versions behind a place, up to a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) after: Place,
    /// The last key that belongs to it. None for the end of the listing.
    pub(super) last: Option<String>,
    /// Pages that were listed since it was cut.
    pages: u32,
}

/// Ranges that lie apart, in the order of their keys. There are never many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranges(Vec<Range>);

impl Ranges {
    /// All there is.
    pub(super) fn whole() -> Self {
        Self(vec![Range::default()])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of which a page is to be listed now.
    pub(super) fn front(&self) -> impl Iterator<Item = &Range> {
        self.0.iter().take(AT_ONCE)
    }

    /// Goes on behind a page of each in [front](Self::front), where the listing goes on, if it does.
    pub(super) fn go_on(&mut self, next: Vec<Option<Place>>) {
        let behind = self.0.split_off(next.len().min(self.0.len()));
        let listed = self.0.drain(..).zip(next);
        let mut left: Vec<_> = listed.filter_map(|(range, next)| range.behind(next?)).collect();
        left.extend(behind);
        self.0 = left;
        self.cut();
    }

    /// Makes as many ranges as can be listed at the same time. The one that has gone on for longest
    /// is likely to go on.
    fn cut(&mut self) {
        while self.0.len() < AT_ONCE {
            let listed = self.0.iter().enumerate().filter(|(_, range)| range.pages > 0);
            let Some((index, range)) = listed.max_by_key(|(_, range)| range.pages) else { return };
            let pieces = range.cut(AT_ONCE - self.0.len());
            self.0.splice(index..=index, pieces);
        }
    }

    /// What was listed of these ranges, if the others are what is left of them.
    pub(super) fn without(&self, rest: &Self) -> Self {
        let mut listed = Vec::new();
        let mut rest = rest.0.iter().peekable();
        for range in &self.0 {
            let mut after = Some(range.after.clone());
            while let Some(left) = rest.next_if(|left| !left.ends_behind(range)) {
                if let Some(after) = after.filter(|after| *after != left.after) {
                    listed.push(Range::new(after, left.after.key.clone()));
                }
                let is_the_end = left.last == range.last;
                after = left.last.clone().filter(|_| !is_the_end).map(Place::behind);
            }
            listed.extend(after.map(|after| Range::new(after, range.last.clone())));
        }
        Self(listed)
    }
}

impl Range {
    fn new(after: Place, last: Option<String>) -> Self {
        Self { after, last, pages: 0 }
    }

    /// Whether a key that was listed is part of it. That of a cut belongs to the range below it, also
    /// if a listing should begin with it.
    pub(super) fn holds(&self, key: &str) -> bool {
        let begins = self.after.version_id.is_some()
            || self.after.key.as_deref().is_none_or(|after| key > after);
        begins && self.reaches(key)
    }

    /// Whether this key is not behind it.
    fn reaches(&self, key: &str) -> bool {
        self.last.as_deref().is_none_or(|last| key <= last)
    }

    fn ends_behind(&self, other: &Self) -> bool {
        match (&self.last, &other.last) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(last), Some(other)) => last.cmp(other) == Ordering::Greater,
        }
    }

    /// What is left of it behind a page. None if that was the last.
    fn behind(self, next: Place) -> Option<Self> {
        let is_left = next.key.as_deref().is_none_or(|key| self.reaches(key));
        is_left.then(|| Self { after: next, last: self.last, pages: self.pages.saturating_add(1) })
    }

    fn cut(&self, cuts: usize) -> Vec<Self> {
        let after = self.after.key.as_deref().unwrap_or_default();
        let cuts = keys_between(after, self.last.as_deref(), cuts);
        let begins = once(self.after.clone()).chain(cuts.iter().cloned().map(Place::behind));
        let ends = cuts.iter().cloned().map(Some).chain(once(self.last.clone()));
        begins.zip(ends).map(|(after, last)| Self::new(after, last)).collect()
    }
}

/// Some keys, in their order, that lie behind `low` and before `high`. They differ from `low` in one
/// character, the first in which a key that lies there can differ, and are the beginning of it
/// otherwise. Few or none if there is no room.
fn keys_between(low: &str, high: Option<&str>, count: usize) -> Vec<String> {
    for (index, from) in low.char_indices() {
        let same = &low[..index];
        let to = high.and_then(|high| high.strip_prefix(same)?.chars().next()).unwrap_or(char::MAX);
        let to = if from < LAST_OF_ASCII { to.min(LAST_OF_ASCII) } else { to };
        let mut keys: Vec<String> =
            characters(from, to, count).map(|c| format!("{same}{c}")).collect();
        keys.dedup();
        keys.retain(|key| {
            high.is_none_or(|high| key.as_str() < high) && key.len() <= MAX_KEY_BYTES
        });
        if !keys.is_empty() {
            return keys;
        }
    }
    Vec::new()
}

/// Up to so many characters, evenly spread behind the first one and up to the last.
fn characters(from: char, to: char, count: usize) -> impl Iterator<Item = char> {
    let (from, to) = (from as usize, to as usize);
    let room = to.saturating_sub(from);
    let count = count.min(room);
    (0..count).map(move |n| {
        let code = from + 1 + room * (2 * n + 1) / (2 * count);
        // What lies in between are no characters.
        u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{e000}')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn between(low: &str, high: Option<&str>, count: usize) -> Vec<String> {
        let keys = keys_between(low, high, count);
        assert!(keys.is_sorted_by(|one, next| one < next), "{keys:?}");
        assert!(
            keys.iter()
                .all(|key| low < key.as_str() && high.is_none_or(|high| key.as_str() < high))
        );
        keys
    }

    #[test]
    fn a_range_is_cut_where_its_keys_first_differ() {
        assert_eq!(between("k2x", Some("k6"), 7), ["k3", "k4", "k5"]);
        assert_eq!(between("k2x", Some("k6a"), 2), ["k4", "k6"]);
        assert_eq!(between("k2x", Some("k6"), 1), ["k5"]);
        // Nothing lies between `k2` and `k3` but what begins with `k2`.
        assert_eq!(between("k2b", Some("k3"), 2), ["k2j", "k2x"]);
        assert_eq!(between("k", None, 2), ["q", "{"]);
        // Behind ASCII, at once.
        assert_eq!(between("\x7e", None, 7), ["\x7f"]);
        assert_eq!(between("\x7f", Some("\u{82}"), 7), ["\u{80}", "\u{81}"]);
        assert_eq!(between("\u{d7ff}", Some("\u{e000}a"), 7), ["\u{e000}"]);
        // No room, or none that can be known of.
        for (low, high) in [("", None), ("", Some("a")), ("a", Some("a\0")), ("\u{10ffff}", None)] {
            assert_eq!(between(low, high, 7), [""; 0], "{low:?}");
        }
        let longest = "é".repeat(MAX_KEY_BYTES / 2);
        assert!(between(&longest, None, 7).iter().all(|key| key.len() <= MAX_KEY_BYTES));
    }

    fn range(after: &str, last: &str) -> Range {
        let last = (!last.is_empty()).then(|| last.to_owned());
        let after =
            if after.is_empty() { Place::default() } else { Place::behind(after.to_owned()) };
        Range::new(after, last)
    }

    #[test]
    fn what_was_listed_is_what_is_not_left() {
        let begin = Ranges(vec![range("", "f"), range("m", "")]);
        let listed = |rest: &[Range]| begin.without(&Ranges(rest.to_vec())).0;
        assert_eq!(listed(&[]), begin.0);
        assert_eq!(listed(&begin.0), []);
        assert_eq!(
            listed(&[range("b", "c"), range("e", "f")]),
            [range("", "b"), range("c", "e"), range("m", ""),]
        );
        assert_eq!(listed(&[range("p", "")]), [range("", "f"), range("m", "p")]);
        assert_eq!(listed(&[range("m", "n")]), [range("", "f"), range("n", "")]);
    }

    #[test]
    fn the_key_of_a_cut_belongs_to_the_range_below_it() {
        let holds = |range: Range| ["a", "b", "c", "d"].map(|key| range.holds(key));
        assert_eq!(holds(range("", "b")), [true, true, false, false]);
        assert_eq!(holds(range("b", "c")), [false, false, true, false]);
        // The other versions of a key are listed behind the first ones.
        let after = Place { key: Some("b".to_owned()), version_id: Some("v".to_owned()) };
        assert_eq!(holds(Range { after, ..range("", "c") }), [true, true, true, false]);
    }

    /// How many rounds it takes to list keys, and how many calls, with so many keys a page. Each is
    /// listed once.
    fn listed(keys: &[String], page: usize) -> (usize, usize) {
        let mut ranges = Ranges::whole();
        let (mut rounds, mut calls) = (0, 0);
        let mut seen = Vec::new();
        while !ranges.is_empty() {
            rounds += 1;
            let pages = ranges.front().map(|range| {
                calls += 1;
                let begin = range.after.key.as_ref();
                let begin = begin.map_or(0, |after| keys.partition_point(|key| key <= after));
                let end = keys.len().min(begin + page);
                seen.extend(keys[begin..end].iter().filter(|key| range.reaches(key)));
                (end < keys.len()).then(|| Place::behind(keys[end - 1].clone()))
            });
            let pages = pages.collect();
            ranges.go_on(pages);
            assert!(ranges.0.len() <= AT_ONCE);
        }
        seen.sort_unstable();
        assert_eq!(seen, keys.iter().collect::<Vec<_>>());
        (rounds, calls)
    }

    proptest! {
        /// The keys are few characters long, so that the listing is often cut at one that exists.
        #[test]
        fn every_key_is_listed_once(
            keys in prop::collection::btree_set("[a-h\u{1}\x7f상]{1,3}", 1..400),
            page in 1_usize..6,
        ) {
            listed(&keys.into_iter().collect::<Vec<_>>(), page);
        }
    }

    /// The nth key of a bucket.
    type KeyOf = fn(u32) -> String;

    /// operations.md says how much is gained. One page after the other would take 300 rounds.
    #[test]
    fn keys_of_every_kind_are_listed_in_parallel() {
        let kinds: [(&str, KeyOf); 4] = [
            ("numbers", |n| format!("devices/{n}/state.json")),
            ("padded numbers", |n| format!("devices/device-{n:08}/state.json")),
            ("digests", |n| format!("{:08x}", n.wrapping_mul(2_654_435_761))),
            ("days", |n| {
                format!("site/year=2026/month={:02}/day={:02}/{n}", n % 12 + 1, n % 28 + 1)
            }),
        ];
        for (kind, key) in kinds {
            let mut keys: Vec<String> = (0..300_000).map(key).collect();
            keys.sort_unstable();
            let (rounds, calls) = listed(&keys, 1_000);
            assert!(rounds <= 100 && calls <= 700, "{kind}: {rounds} rounds, {calls} calls");
        }
    }
}
