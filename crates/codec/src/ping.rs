//! PINGREQ and PINGRESP: two bytes each, so all there is to read is that nothing follows the fixed header.

use crate::Packet;
use crate::reader::{Problem, Reader};

/// Reads the body that PINGREQ and PINGRESP do not have (MQTT 5.0 section 3.12).
pub(crate) fn read<'a>(packet: Packet<'a>, reader: Reader<'_>) -> Result<Packet<'a>, Problem> {
    reader.finish()?;
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    #[test]
    fn a_ping_with_a_body_is_malformed() {
        assert_eq!(read(Packet::Pingreq, Reader::new(&[])), Ok(Packet::Pingreq));
        assert_eq!(read(Packet::Pingresp, Reader::new(&[0])), Err(Problem::Malformed(Fault::Trailing(1))));
    }
}
