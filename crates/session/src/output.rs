//! Bytes on their way to one peer.

/// Encoded packets, in order, as far as the socket has not taken them. Whoever owns the socket writes
/// [`Output::unsent`] and says with [`Output::advance`] how much went. An empty output holds no memory.
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
            *self = Self::default();
        } else if self.written > self.bytes.len() / 2 {
            // Moves less than was written, so a slow peer costs at most one more copy of each byte.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
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
    fn what_was_written_goes_and_an_empty_output_holds_nothing() {
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"abcdef");
        output.advance(2);
        assert_eq!(output.unsent(), b"cdef");
        output.buffer().extend_from_slice(b"gh");
        output.advance(3);
        assert_eq!(output.unsent(), b"fgh");
        output.advance(3);
        assert!(output.is_empty());
        assert_eq!(output.buffer().capacity(), 0);
    }
}
