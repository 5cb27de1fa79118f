//! Comparing and copying so few bytes that calling somebody to do it costs more than doing it.
//!
//! In: slices whose length is known only when they are there: the front and the payload of a small message. Out: what
//! `starts_with` and `copy_from_slice` do, in words that overlap at the end; for many of one size together, what length they have is
//! decided once. What is so long that the call does not count is left to these. What it saves is in docs/hot-path.md.

const HALF: usize = 4;
const WORD: usize = 8;
const WIDE: usize = 16;
/// From here on the call is the smaller part.
const MANY: usize = 256;
/// Pieces from which on it pays to look at their size first.
const FEW: usize = 3;

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

/// Pieces of one size, of which what is behind the first `skip` bytes is wanted.
pub(crate) struct Tails<I> {
    /// Each has `size` bytes.
    pub(crate) pieces: I,
    pub(crate) size: usize,
    /// At most `size`.
    pub(crate) skip: usize,
}

/// Fills `to` with `front` and a tail, for each of `tails`; it has room for just these.
#[inline]
pub(crate) fn join<'a, I: ExactSizeIterator<Item = &'a [u8]>>(front: &[u8], tails: Tails<I>, to: &mut [u8]) {
    if tails.pieces.len() < FEW { join_any(front, tails, to) } else { join_many(front, tails, to) }
}

/// What is decided here is decided once for all of them.
fn join_many<'a, I: Iterator<Item = &'a [u8]>>(front: &[u8], tails: Tails<I>, to: &mut [u8]) {
    let both = front.len() + tails.size - tails.skip;
    match front.len() {
        1..=16 if both >= 16 => join_wide::<16, I>(front, tails, to),
        17..=32 if both >= 32 => join_wide::<32, I>(front, tails, to),
        33..=64 if both >= 64 => join_wide::<64, I>(front, tails, to),
        _ => join_any(front, tails, to),
    }
}

/// For a front of at most `F` bytes, and at least as many with a tail.
fn join_wide<'a, const F: usize, I: Iterator<Item = &'a [u8]>>(front: &[u8], tails: Tails<I>, to: &mut [u8]) {
    match tails.size - tails.skip {
        8..=16 => join_both::<F, 8, I>(front, tails, to),
        17..=32 => join_both::<F, 16, I>(front, tails, to),
        33..=64 => join_both::<F, 32, I>(front, tails, to),
        65..=128 => join_both::<F, 64, I>(front, tails, to),
        _ => join_any(front, tails, to),
    }
}

/// For tails of `T` to twice as many bytes: the front is written wider than it is, and the tail over what was too much.
fn join_both<'a, const F: usize, const T: usize, I: Iterator<Item = &'a [u8]>>(
    front: &[u8],
    tails: Tails<I>,
    to: &mut [u8],
) {
    let mut wide = [0; F];
    copy(front, wide.get_mut(..front.len()).unwrap_or_default());
    let places = to.chunks_exact_mut(front.len() + tails.size - tails.skip);
    for (place, piece) in places.zip(tails.pieces) {
        if let Some(begin) = place.first_chunk_mut::<F>() {
            *begin = wide;
        }
        let (from, to) = (piece.get(tails.skip..), place.get_mut(front.len()..));
        if let (Some(from), Some(to)) = (from.and_then(<[u8]>::first_chunk::<T>), to.and_then(<[u8]>::first_chunk_mut))
        {
            *to = *from;
        }
        if let (Some(from), Some(to)) = (piece.last_chunk::<T>(), place.last_chunk_mut()) {
            *to = *from;
        }
    }
}

/// For fronts and tails of any size.
#[inline]
fn join_any<'a, I: Iterator<Item = &'a [u8]>>(front: &[u8], tails: Tails<I>, to: &mut [u8]) {
    let mut rest = to;
    for piece in tails.pieces {
        let tail = piece.get(tails.skip..).unwrap_or_default();
        let Some((before, behind)) = rest.split_at_mut_checked(front.len()) else { return };
        let Some((place, behind)) = behind.split_at_mut_checked(tail.len()) else { return };
        copy(front, before);
        copy(tail, place);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_and_tails_of_every_size_are_joined() {
        let bytes: Vec<u8> = (0..=255).cycle().take(300).collect();
        for front in 1..70 {
            let front = vec![0xFF; front];
            for size in 0..300 {
                for skip in [0, 1, size / 2, size].into_iter().filter(|skip| *skip <= size) {
                    let pieces = [&bytes[..size], &bytes[300 - size..], &[7; 300][..size], &bytes[..size]];
                    for pieces in [&pieces[..1], &pieces] {
                        let joined: Vec<u8> =
                            pieces.iter().flat_map(|piece| [&front, &piece[skip..]].concat()).collect();
                        let mut to = vec![9; joined.len()];
                        join(&front, Tails { pieces: pieces.iter().copied(), size, skip }, &mut to);
                        assert_eq!(to, joined, "{} before {size} - {skip}", front.len());
                    }
                }
            }
        }
    }

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
