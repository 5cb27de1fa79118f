//! Which part of a split trie a topic or filter belongs to: by its first level.
//!
//! In: a filter or a first level. Out: the number of a part. A filter that begins with a wildcard belongs to no single
//! part, so it lives in one of its own, which every topic asks as well.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use viaduct_codec::FilterRef;

/// How a filter begins, behind its share name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLevel<'a> {
    /// With this level, empty for `/a`: it can match topics of this first level only.
    Literal(&'a str),
    /// With `+` or `#`.
    Wildcard,
}

/// How `filter` begins; of `$share/<name>/<filter>` it is the inner filter that counts.
#[must_use]
pub fn first_level(filter: FilterRef<'_>) -> FirstLevel<'_> {
    let plain = filter.share().map_or(filter, |share| share.filter);
    match plain.as_str().split('/').next().unwrap_or_default() {
        "+" | "#" => FirstLevel::Wildcard,
        literal => FirstLevel::Literal(literal),
    }
}

/// The part, below `segments`, that topics and filters with this first level belong to; 0 when there are no parts.
///
/// Everybody computes it alike, so it takes no secret: whoever aims at one part gains no more than by using one topic.
#[must_use]
pub fn segment_of(first_level: &str, segments: usize) -> usize {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(first_level.as_bytes());
    let part = hasher.finish().checked_rem(segments as u64).unwrap_or(0);
    usize::try_from(part).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_begins_behind_its_share_name() {
        let of = |text| first_level(FilterRef::new(text).unwrap());
        assert_eq!(of("a/b"), FirstLevel::Literal("a"));
        assert_eq!(of("/b"), FirstLevel::Literal(""));
        assert_eq!(of("$SYS/#"), FirstLevel::Literal("$SYS"));
        assert_eq!(of("#"), FirstLevel::Wildcard);
        assert_eq!(of("+/a"), FirstLevel::Wildcard);
        assert_eq!(of("$share/g/a/#"), FirstLevel::Literal("a"));
        assert_eq!(of("$share/g/+/a"), FirstLevel::Wildcard);
        assert_eq!(of("$share/g//a"), FirstLevel::Literal(""));
    }

    #[test]
    fn first_levels_spread_over_all_parts_and_stay_where_they_are() {
        let mut counts = [0; 8];
        for n in 0..8_000 {
            let part = segment_of(&format!("site-{n}"), 8);
            assert_eq!(part, segment_of(&format!("site-{n}"), 8));
            counts[part] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
        assert_eq!(segment_of("a", 0), 0);
    }
}
