//! Bytes as people write them, to send or to compare.
//!
//! `20 02 0000` bytes; `"t"` a string with its two bytes of length; `'t'` text alone; `[ ... ]` what is inside, after its
//! length as a variable byte integer; `( ... )` what is inside, after its length in two bytes; `<p>` two bytes that were
//! bound before; any of these followed by `*N`, N times. Only in what is expected: `??` any byte, `03..05` a byte in
//! this range, `*` any bytes, `<?p>` two bytes that are bound now, `{ a | b }` one of several.

use std::collections::HashMap;

/// Two-byte values by name.
pub type Variables = HashMap<String, u16>;

/// One element of what is sent or expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This byte.
    Byte(u8),
    /// A byte from here to there, both included.
    Range(u8, u8),
    /// Any byte.
    Any,
    /// Any number of bytes.
    Rest,
    /// The two bytes of a variable.
    Variable(String),
    /// Two bytes that a variable is bound to.
    Bind(String),
    /// After its length as a variable byte integer.
    Sized(Vec<Self>),
    /// After its length in two bytes.
    Prefixed(Vec<Self>),
    /// This often.
    Repeated(Vec<Self>, usize),
    /// One of these.
    OneOf(Vec<Vec<Self>>),
}

/// The largest number that a variable byte integer of four bytes holds, and so the largest rest of a packet.
const LONGEST: usize = 268_435_455;

/// Reads a line of elements.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut reader = Reader { rest: text };
    let parts = reader.parts(&[])?;
    Ok(parts)
}

/// The bytes that `parts` spell.
///
/// # Errors
/// They name a variable that is not bound, or leave something open.
pub(crate) fn spell(parts: &[Part], variables: &Variables) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Byte(byte) => out.push(*byte),
            Part::Variable(name) => out.extend_from_slice(&bound(name, variables)?.to_be_bytes()),
            Part::Sized(inside) => {
                let inside = spell(inside, variables)?;
                push_length(inside.len(), &mut out)?;
                out.extend_from_slice(&inside);
            }
            Part::Prefixed(inside) => {
                let inside = spell(inside, variables)?;
                let length = u16::try_from(inside.len()).map_err(|_| "more than 65,535 bytes in ( )".to_owned())?;
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&inside);
            }
            Part::Repeated(inside, count) => {
                let inside = spell(inside, variables)?;
                for _ in 0..*count {
                    out.extend_from_slice(&inside);
                }
            }
            Part::Range(..) | Part::Any | Part::Rest | Part::Bind(_) | Part::OneOf(_) => {
                return Err("what is sent may leave nothing open".to_owned());
            }
        }
    }
    Ok(out)
}

/// Whether `bytes` are what `parts` describe. Variables are bound only if they are.
pub(crate) fn matches(parts: &[Part], bytes: &[u8], variables: &mut Variables) -> bool {
    let before = variables.clone();
    let fits = fit(parts, bytes, variables);
    if !fits {
        *variables = before;
    }
    fits
}

fn fit(parts: &[Part], bytes: &[u8], variables: &mut Variables) -> bool {
    let Some((part, parts)) = parts.split_first() else { return bytes.is_empty() };
    let first = bytes.split_first();
    match part {
        Part::Byte(wanted) => first.is_some_and(|(byte, rest)| byte == wanted && fit(parts, rest, variables)),
        Part::Range(low, high) => {
            first.is_some_and(|(byte, rest)| (low..=high).contains(&byte) && fit(parts, rest, variables))
        }
        Part::Any => first.is_some_and(|(_, rest)| fit(parts, rest, variables)),
        Part::Rest => (0..=bytes.len()).any(|skip| fit(parts, &bytes[skip..], variables)),
        Part::Variable(name) => {
            let Some(value) = variables.get(name) else { return false };
            bytes.strip_prefix(&value.to_be_bytes()).is_some_and(|rest| fit(parts, rest, variables))
        }
        Part::Bind(name) => {
            let Some((value, rest)) = bytes.split_first_chunk::<2>() else { return false };
            variables.insert(name.clone(), u16::from_be_bytes(*value));
            fit(parts, rest, variables)
        }
        Part::Sized(inside) => {
            let Some((length, rest)) = length(bytes) else { return false };
            rest.split_at_checked(length)
                .is_some_and(|(content, rest)| fit(inside, content, variables) && fit(parts, rest, variables))
        }
        Part::Prefixed(inside) => {
            let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return false };
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
                .is_some_and(|(content, rest)| fit(inside, content, variables) && fit(parts, rest, variables))
        }
        Part::Repeated(inside, count) => {
            let Ok(unit) = spell(inside, variables) else { return false };
            let whole = unit.repeat(*count);
            bytes.strip_prefix(whole.as_slice()).is_some_and(|rest| fit(parts, rest, variables))
        }
        Part::OneOf(choices) => choices.iter().any(|choice| {
            let together: Vec<Part> = choice.iter().chain(parts).cloned().collect();
            fit(&together, bytes, variables)
        }),
    }
}

/// The length at the beginning of `bytes` and what follows it; `None` when it is not whole or not the shortest form.
pub(crate) fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let is_shortest = index == 0 || *byte != 0;
            return is_shortest.then(|| (value, &bytes[index + 1..]));
        }
    }
    None
}

fn push_length(mut length: usize, out: &mut Vec<u8>) -> Result<(), String> {
    if length > LONGEST {
        return Err(format!("{length} bytes in [ ], more than a packet holds"));
    }
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            out.push(byte);
            return Ok(());
        }
        out.push(byte | 0x80);
    }
}

fn bound(name: &str, variables: &Variables) -> Result<u16, String> {
    variables.get(name).copied().ok_or_else(|| format!("<{name}> is not bound yet"))
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Elements up to one of `ends` or the end of the line, which is left to be read.
    fn parts(&mut self, ends: &[char]) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None if ends.is_empty() => return Ok(parts),
                None => return Err(format!("{} is missing", ends[0])),
                Some(next) if ends.contains(&next) => return Ok(parts),
                Some(next) => self.element(next, &mut parts)?,
            }
        }
    }

    fn element(&mut self, first: char, parts: &mut Vec<Part>) -> Result<(), String> {
        let start = parts.len();
        match first {
            '"' => {
                let text = self.quoted('"')?;
                parts.push(Part::Prefixed(text));
            }
            '\'' => {
                let text = self.quoted('\'')?;
                parts.extend(text);
            }
            '[' => parts.push(Part::Sized(self.group(']')?)),
            '(' => parts.push(Part::Prefixed(self.group(')')?)),
            '{' => parts.push(self.choices()?),
            '<' => parts.push(self.variable()?),
            '?' => {
                self.rest = self.rest.strip_prefix("??").ok_or("a single ?; any byte is ??")?;
                parts.push(Part::Any);
            }
            '*' => {
                self.rest = &self.rest[1..];
                parts.push(Part::Rest);
                return Ok(());
            }
            _ => {
                let byte = self.byte()?;
                parts.push(match self.rest.strip_prefix("..") {
                    Some(rest) => {
                        self.rest = rest;
                        Part::Range(byte, self.byte()?)
                    }
                    None => Part::Byte(byte),
                });
            }
        }
        let digits = self.rest.strip_prefix('*').map_or("", |rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            &rest[..end]
        });
        if !digits.is_empty() {
            self.rest = &self.rest[1 + digits.len()..];
            let count = digits.parse().map_err(|_| format!("{digits} times is too often"))?;
            let repeated = parts.split_off(start);
            parts.push(Part::Repeated(repeated, count));
        }
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<Vec<Part>, String> {
        let (text, rest) =
            self.rest[1..].split_once(quote).ok_or_else(|| format!("a text without its second {quote}"))?;
        self.rest = rest;
        Ok(text.bytes().map(Part::Byte).collect())
    }

    fn group(&mut self, end: char) -> Result<Vec<Part>, String> {
        self.rest = &self.rest[1..];
        let parts = self.parts(&[end])?;
        self.rest = &self.rest[1..];
        Ok(parts)
    }

    fn choices(&mut self) -> Result<Part, String> {
        let mut choices = Vec::new();
        loop {
            self.rest = &self.rest[1..];
            choices.push(self.parts(&['|', '}'])?);
            if self.rest.starts_with('}') {
                self.rest = &self.rest[1..];
                return Ok(Part::OneOf(choices));
            }
        }
    }

    fn variable(&mut self) -> Result<Part, String> {
        let (name, rest) = self.rest[1..].split_once('>').ok_or("a variable without its >")?;
        self.rest = rest;
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match name.strip_prefix('?') {
            Some(name) if is_name(name) => Ok(Part::Bind(name.to_owned())),
            None if is_name(name) => Ok(Part::Variable(name.to_owned())),
            _ => Err(format!("<{name}> is no variable")),
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let digits = self.rest.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| format!("no byte here: {}", self.rest))?;
        self.rest = &self.rest[2..];
        u8::from_str_radix(digits, 16).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        spell(&parse(text).unwrap(), &Variables::from([("p".to_owned(), 0x1234)])).unwrap()
    }

    #[test]
    fn lengths_are_written_by_the_reader_of_the_text() {
        assert_eq!(bytes(r#"10[ "MQTT" 05 02 003C [] "a" ]"#), bytes("100E 0004 4D515454 05 02 003C 00 0001 61"));
        assert_eq!(bytes("30[ 'x'*200 ]")[..3], [0x30, 0xC8, 0x01]);
        assert_eq!(bytes("( ED A0 80 ) <p>"), [0, 3, 0xED, 0xA0, 0x80, 0x12, 0x34]);
    }

    #[test]
    fn what_is_expected_may_leave_things_open() {
        let matched = |pattern: &str, text: &str| {
            let mut variables = Variables::new();
            matches(&parse(pattern).unwrap(), &bytes(text), &mut variables).then_some(variables)
        };
        assert!(matched("20[ 00 00 [ * 21 0014 * ] ]", "20[ 00 00 [ 21 0014 ] ]").is_some());
        assert!(matched("20[ 00 00 [ * 21 0014 * ] ]", "20[ 00 00 [ 22 0014 ] ]").is_none());
        assert_eq!(matched("50[ <?p> ?? ]", "50[ 0007 01 ]").unwrap()["p"], 7);
        assert!(matched("50[ <?p> <p> ]", "50[ 0007 0007 ]").is_some());
        assert!(matched("50[ <?p> <p> ]", "50[ 0007 0008 ]").is_none());
        assert!(matched("02 000000 05..06", "02 00000005").is_some());
        assert!(matched("02 000000 05..06", "02 00000007").is_none());
        assert!(matched("E0 { 00 | [ 8E * ] }", "E0 [ 8E 00 ]").is_some());
        assert!(matched("E0 { 00 | [ 8E * ] }", "E0 [ 8D ]").is_none());
        // A length that is not in its shortest form is not what brackets mean.
        assert!(matched("C0 []", "C0 80 00").is_none());
    }

    #[test]
    fn a_text_that_means_nothing_is_refused() {
        for text in ["1", "zz", "[ 00", "\"a", "<p", "<>", "?", "{ 00", "00 ]"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["??", "*", "00..01", "<?p>", "<q>", "{ 00 | 01 }"] {
            assert!(spell(&parse(text).unwrap(), &Variables::new()).is_err(), "{text}");
        }
    }
}
