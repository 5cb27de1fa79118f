//! Comparing and copying so few bytes that calling somebody to do it costs more than doing it.
//!
//! In: slices whose length is known only when they are there: the front and the payload of a small message. Out: what
//! `starts_with` and `copy_from_slice` do, in words that overlap at the end. What is so long that the call does not count is
//! left to these. What it saves is in docs/hot-path.md.

const HALF: usize = 4;
const WORD: usize = 8;
const WIDE: usize = 16;
/// From here on the call is the smaller part.
const MANY: usize = 256;

/// Whether `bytes` begin with `front`.
#[inline]
pub(crate) fn begin_with(bytes: &[u8], front: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..front.len()) else { return false };
    match front.len() {
        0 => true,
        1..HALF => bytes.first() == front.first() && bytes.get(1) == front.get(1) && bytes.last() == front.last(),
        HALF..WORD => {
            bytes.first_chunk::<HALF>() == front.first_chunk() && bytes.last_chunk::<HALF>() == front.last_chunk()
        }
        WORD..WIDE => {
            bytes.first_chunk::<WORD>() == front.first_chunk() && bytes.last_chunk::<WORD>() == front.last_chunk()
        }
        WIDE..MANY => {
            let (ours, theirs) = (bytes.as_chunks::<WIDE>().0, front.as_chunks::<WIDE>().0);
            ours.iter().zip(theirs).all(|(ours, theirs)| ours == theirs)
                && bytes.last_chunk::<WIDE>() == front.last_chunk()
        }
        _ => bytes == front,
    }
}

/// Copies `from` to `to`, which is as long.
#[inline]
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    match from.len() {
        0..HALF => {
            for (from, to) in from.iter().zip(to) {
                *to = *from;
            }
        }
        HALF..WORD => copy_in::<HALF>(from, to),
        WORD..WIDE => copy_in::<WORD>(from, to),
        WIDE..MANY => copy_in::<WIDE>(from, to),
        _ => {
            if let Some(to) = to.get_mut(..from.len()) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// For at least `N` bytes.
#[inline]
fn copy_in<const N: usize>(from: &[u8], to: &mut [u8]) {
    if from.len() > 2 * N {
        for (from, to) in from.as_chunks::<N>().0.iter().zip(to.as_chunks_mut::<N>().0) {
            *to = *from;
        }
    } else if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk::<N>(), to.last_chunk_mut::<N>()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_library_does() {
        let from: Vec<u8> = (0..=255).chain(0..=255).collect();
        for size in 0..MANY + 20 {
            let from = &from[..size];
            let mut to = vec![7; size];
            copy(from, &mut to);
            assert_eq!(to, from);
            to.push(1);
            assert!(begin_with(&to, from) && !begin_with(from, &to));
            for wrong in 0..size {
                let mut other = to.clone();
                other[wrong] ^= 0x80;
                assert!(!begin_with(&other, from), "{wrong} of {size}");
            }
        }
    }
}
