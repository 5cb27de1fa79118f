//! Appending the wire types.
//!
//! Every packet is written by one generic function that runs twice: over a [`Count`], which finds the lengths and
//! every error, and then over the real buffer, which therefore never has to be rolled back or moved.

use memchr::memchr;
use smallvec::{Array, SmallVec};

use crate::{EncodeError, PacketId, VarInt};

/// Where bytes go.
pub(crate) trait Out {
    fn put(&mut self, bytes: &[u8]);

    /// Takes `size` bytes as written without seeing them, if it only counts.
    fn skip(&mut self, _size: usize) -> bool {
        false
    }

    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn packet_id(&mut self, id: PacketId) {
        self.u16(id.get());
    }

    fn var_int(&mut self, value: VarInt) {
        let mut left = value.get();
        while left > 0x7f {
            self.u8((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.u8(left as u8);
    }

    /// Binary data with a two-byte length.
    fn binary(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        let size = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong { field, size: bytes.len() })?;
        self.u16(size);
        self.put(bytes);
        Ok(())
    }

    /// A string that may hold U+0000 as far as its type goes.
    fn text(&mut self, field: &'static str, text: &str) -> Result<(), EncodeError> {
        if memchr(0, text.as_bytes()).is_some() {
            return Err(EncodeError::Text(field)); // MQTT-1.5.4-2
        }
        self.binary(field, text.as_bytes())
    }
}

impl Out for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn u8(&mut self, value: u8) {
        self.push(value);
    }
}

/// Counts what would be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count(pub(crate) usize);

impl<A: Array<Item = u8>> Out for SmallVec<A> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Out for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn skip(&mut self, size: usize) -> bool {
        self.0 += size;
        true
    }

    fn var_int(&mut self, value: VarInt) {
        self.0 += value.size();
    }
}
