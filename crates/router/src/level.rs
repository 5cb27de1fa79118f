//! The text of one topic level as a node keeps it: short ones in place, so that comparing one follows no pointer.

use std::cmp::Ordering;

/// Bytes kept in place: what fits beside the length without making the type larger than a long level needs.
const IN_PLACE: usize = 22;

/// One level of a topic or filter, compared by its bytes.
#[derive(Clone, Debug)]
pub(crate) enum Level {
    Short { len: u8, bytes: [u8; IN_PLACE] },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Level>() <= 24, "a node shall fit one cache line");

impl Level {
    pub(crate) const EMPTY: Self = Self::Short { len: 0, bytes: [0; IN_PLACE] };

    pub(crate) fn new(text: &str) -> Self {
        let text = text.as_bytes();
        let mut bytes = [0; IN_PLACE];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(text);
                Self::Short { len, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Level {}

impl PartialOrd for Level {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Level {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_keeps_its_text_and_order() {
        for len in 0..40 {
            let text = "x".repeat(len);
            assert_eq!(Level::new(&text).as_bytes(), text.as_bytes());
            assert!(Level::new(&text) < Level::new(&format!("{text}a")));
        }
        assert_eq!(Level::EMPTY, Level::new(""));
        assert!(Level::new("b") > Level::new(&"a".repeat(30)));
    }
}
