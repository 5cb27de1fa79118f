//! Bytes as people write them: `20 02 00 01`, with `"text"` for text.

/// The bytes that `text` spells: pairs of hexadecimal digits with any space between, and text in double quotes.
///
/// # Panics
/// When it spells no bytes.
#[must_use]
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (part, piece) in text.split('"').enumerate() {
        if part % 2 == 1 {
            out.extend_from_slice(piece.as_bytes());
            continue;
        }
        let digits: Vec<u8> = piece.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        for pair in digits.chunks(2) {
            let pair = std::str::from_utf8(pair).unwrap();
            assert_eq!(pair.len(), 2, "an odd number of hexadecimal digits in {text:?}");
            out.push(u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair:?} in {text:?} is no byte")));
        }
    }
    out
}

/// `bytes` as pairs of digits with a space between.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
