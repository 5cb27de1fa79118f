//! The payload of a message names the message, so that whoever gets it knows which it is.

/// A message of the simulation, whatever copies of it there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageId(pub(crate) u32);

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "m{}", self.0)
    }
}

/// A payload of at least `size` bytes.
pub(crate) fn write(id: MessageId, size: usize) -> Vec<u8> {
    let mut bytes = format!("{id}.").into_bytes();
    bytes.resize(bytes.len().max(size), b'x');
    bytes
}

/// The message that a payload names; `None` for an empty or foreign one.
pub(crate) fn read(payload: &[u8]) -> Option<MessageId> {
    let digits = payload.strip_prefix(b"m")?.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(MessageId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&write(MessageId(1_234), 0)), Some(MessageId(1_234)));
        assert_eq!(read(&write(MessageId(7), 100)), Some(MessageId(7)));
        assert_eq!(write(MessageId(7), 100).len(), 100);
        assert_eq!(read(b""), None);
    }
}
