//! A share of all topics: what one of several parallel links of a bridge carries.
//!
//! In: a topic, or the ClientID of a link. Out: whose it is. The split never changes between versions: messages that wait
//! under one split would otherwise be overtaken by later ones under another.

use std::fmt;

/// The topics whose hash belongs to one of several equal parts. In one byte, because each subscription has one: the index in
/// the lower half, the parts less one in the upper.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Slice(u8);

impl Slice {
    /// Parts at most: as many as half a byte counts, and more than a remote broker likes connections from one peer.
    pub const MOST: u8 = 16;
    /// Every topic.
    pub const ALL: Self = Self(0);

    /// Part `index`, from 0, of `of`; `None` when there is no such part.
    #[must_use]
    pub const fn new(index: u8, of: u8) -> Option<Self> {
        if index < of && of <= Self::MOST { Some(Self((of - 1) << 4 | index)) } else { None }
    }

    /// Every part of `of`, which is taken as 1 to [`Slice::MOST`].
    pub fn parts(of: u8) -> impl Iterator<Item = Self> {
        let of = of.clamp(1, Self::MOST);
        (0..of).map(move |index| Self((of - 1) << 4 | index))
    }

    /// Which part, from 0.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0 & 0x0f
    }

    /// Of how many.
    #[must_use]
    pub const fn of(self) -> u8 {
        (self.0 >> 4) + 1
    }

    /// Whether this is all of it.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.0 == 0
    }

    /// Whether the topic, or filter, belongs to this part.
    #[must_use]
    pub fn has(self, text: &str) -> bool {
        self.is_all() || hash(text) % u64::from(self.of()) == u64::from(self.index())
    }

    /// The ClientID that this link of the bridge has at its own broker: `$bridge/<name>` for one that carries everything,
    /// else `$bridge/<name>/<link>.<links>`. So each number of links has sessions of its own, and which part is a session's
    /// survives a restart with its name.
    #[must_use]
    pub fn local_client_id(self, bridge: &str) -> String {
        if self.is_all() { format!("{BRIDGES}{bridge}") } else { format!("{BRIDGES}{bridge}/{self}") }
    }

    /// The part that the link with this local ClientID carries. A name of a bridge has no `/`.
    #[must_use]
    pub fn of_local_client_id(client_id: &str) -> Self {
        let parse = || {
            let (_, link) = client_id.strip_prefix(BRIDGES)?.split_once('/')?;
            let (link, links) = link.split_once('.')?;
            Self::new(link.parse::<u8>().ok()?.checked_sub(1)?, links.parse().ok()?)
        };
        parse().unwrap_or(Self::ALL)
    }
}

/// What the local ClientIDs of bridges begin with.
const BRIDGES: &str = "$bridge/";

/// `<link>.<links>`, from 1.
impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index() + 1, self.of())
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// FNV-1a, its bits mixed at the end (murmur3's finalizer): its lowest ones alone are the parity of the text.
fn hash(text: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut mixed = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_belongs_to_one_part_and_the_parts_are_of_a_size() {
        for of in 1..=Slice::MOST {
            let mut counts = vec![0; usize::from(of)];
            for n in 0..1_600 {
                let topic = format!("site/{}/sensor/{n}", n % 7);
                let owners: Vec<u8> = Slice::parts(of).filter(|part| part.has(&topic)).map(Slice::index).collect();
                assert_eq!(owners.len(), 1, "{topic} of {of}");
                counts[usize::from(owners[0])] += 1;
            }
            let fair = 1_600 / usize::from(of);
            assert!(counts.iter().all(|count| *count > fair / 2 && *count < fair * 2), "{of}: {counts:?}");
        }
    }

    #[test]
    fn the_split_is_the_same_for_ever() {
        let parts = ["", "a", "sensors/1", "sensors/2", "site/7/door"].map(|topic| hash(topic) % 16);
        assert_eq!(parts, [6, 11, 15, 2, 11]);
    }

    #[test]
    fn client_ids_name_the_part() {
        assert_eq!(Slice::new(0, 1), Some(Slice::ALL));
        for of in 1..=Slice::MOST {
            for part in Slice::parts(of) {
                assert_eq!(Slice::new(part.index(), part.of()), Some(part));
                assert_eq!(Slice::of_local_client_id(&part.local_client_id("hub 1.2")), part);
            }
        }
        assert_eq!(Slice::new(3, 4).unwrap().local_client_id("hub"), "$bridge/hub/4.4");
        for other in ["$bridge/hub", "hub/1.2", "$bridge/hub/0.2", "$bridge/hub/3.2", "$bridge/hub/1.17", "$bridge/h/x"]
        {
            assert_eq!(Slice::of_local_client_id(other), Slice::ALL, "{other}");
        }
    }
}
