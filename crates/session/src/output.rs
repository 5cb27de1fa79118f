//! Bytes on their way to one peer.

/// Encoded packets, in order, as far as the socket has not taken them. Whoever owns the socket writes
/// [`Output::unsent`] and says with [`Output::advance`] how much went. What an empty output still holds of memory can be
/// taken with [`Output::reclaim`] and given to the next one that needs some.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// Bytes that the socket has not taken.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether the socket has taken everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending() == 0
    }

    /// What is to be written next.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// The socket took `n` bytes of [`Output::unsent`].
    pub fn advance(&mut self, n: usize) {
        self.written = (self.written + n).min(self.bytes.len());
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written > self.bytes.len() / 2 {
            // Moves less than was written, so a slow peer costs at most one more copy of each byte.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// Gives it `buffer`, which is empty, to append to, unless it has one.
    pub fn lend(&mut self, buffer: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            *self = Self { bytes: buffer, written: 0 };
        }
    }

    /// Whether it has memory to append to.
    #[must_use]
    pub fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Takes the memory of an output that is empty; `None` when it is not, or has none.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.has_buffer()).then(|| std::mem::take(self).bytes)
    }

    /// Where encoded packets are appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_goes_and_the_memory_can_be_used_again() {
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"abcdef");
        output.advance(2);
        assert_eq!(output.unsent(), b"cdef");
        output.buffer().extend_from_slice(b"gh");
        output.advance(3);
        assert_eq!(output.unsent(), b"fgh");
        output.advance(3);
        assert!(output.is_empty());
        let buffer = output.reclaim().unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= 6);
        assert!(!output.has_buffer() && output.reclaim().is_none());
        output.lend(buffer);
        output.buffer().push(b'x');
        assert!(output.reclaim().is_none(), "something is on its way");
    }
}
