//! From the text of a file to its conversations.
//!
//! In: the language that `README.md` beside this crate describes. Out: conversations, or the first line that is none of
//! it. Macros are expanded here; nothing later knows of them.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crate::bytes::parse;
use crate::conversation::{Act, Conversation, On, Step, Who};
use crate::error::SyntaxError;

/// How deep macros may name macros.
const MACRO_DEPTH: usize = 8;
/// The file whose macros every other file has.
const PRELUDE: &str = "prelude";

/// The conversations of every `.txt` file in `folder`, with the name of their file.
///
/// # Errors
/// A file can't be read, or says something that is no conversation.
pub fn read_all(folder: &Path) -> Result<Vec<Conversation>, SyntaxError> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| SyntaxError {
        file: path.display().to_string(),
        line: 0,
        what: error.to_string(),
    };
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            texts.push((name, text));
        }
    }
    texts.sort();
    let prelude = texts.iter().find(|(name, _)| name == PRELUDE).map(|(_, text)| text.clone()).unwrap_or_default();
    let mut all = Vec::new();
    for (name, text) in texts.iter().filter(|(name, _)| name != PRELUDE) {
        all.extend(conversations(name, &prelude, text)?);
    }
    Ok(all)
}

/// The conversations of one file; `prelude` holds macros that it may use.
///
/// # Errors
/// The first line that is none of the language.
pub fn conversations(file: &str, prelude: &str, text: &str) -> Result<Vec<Conversation>, SyntaxError> {
    let mut reader = Reader { macros: HashMap::new(), done: Vec::new(), open: None, blocks: Vec::new() };
    let place = |file: &str, line: usize| {
        let file = file.to_owned();
        move |what| SyntaxError { file, line, what }
    };
    for (number, line) in prelude.lines().enumerate() {
        reader.line(file, number + 1, line).map_err(place(PRELUDE, number + 1))?;
    }
    for (number, line) in text.lines().enumerate() {
        reader.line(file, number + 1, line).map_err(place(file, number + 1))?;
    }
    reader.finish().map_err(place(file, text.lines().count()))?;
    Ok(reader.done)
}

struct Reader {
    /// Bodies by name; `$1` to `$9` in them are arguments.
    macros: HashMap<String, String>,
    done: Vec<Conversation>,
    open: Option<Conversation>,
    /// Repetitions that are open: line, text, count, and the steps around them.
    blocks: Vec<(usize, String, u32, Vec<Step>)>,
}

impl Reader {
    fn line(&mut self, file: &str, number: usize, line: &str) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(definition) = line.strip_prefix("let ") {
            let (name, body) = definition.split_once('=').ok_or("let NAME = TEXT")?;
            // What stands in parentheses after the name says what $1, $2 are, to people.
            let name = name.split('(').next().unwrap_or_default().trim();
            self.macros.insert(name.to_owned(), body.trim().to_owned());
            return Ok(());
        }
        if let Some(name) = line.strip_prefix("=== ") {
            self.finish()?;
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !name.chars().all(is_name) || self.done.iter().any(|other| other.name == name) {
                return Err(format!("{name:?} is no name of lower-case letters, digits and _, or is taken"));
            }
            self.open = Some(Conversation {
                file: file.to_owned(),
                line: number,
                name: name.to_owned(),
                proves: Vec::new(),
                on: On::Binary,
                bystander: true,
                config: String::new(),
                files: Vec::new(),
                steps: Vec::new(),
            });
            return Ok(());
        }
        if self.open.is_none() {
            return Err("a conversation begins with === and its name".to_owned());
        }
        if self.header(line)? { Ok(()) } else { self.step(number, line) }
    }

    /// Whether the line says something about the conversation as a whole.
    fn header(&mut self, line: &str) -> Result<bool, String> {
        let Some(open) = &mut self.open else { return Ok(false) };
        if let Some(ids) = line.strip_prefix("proves:") {
            open.proves.extend(ids.split_whitespace().map(str::to_owned));
        } else if let Some(on) = line.strip_prefix("on:") {
            open.on = match on.trim() {
                "binary" => On::Binary,
                "engine" => On::Engine,
                "both" => On::Both,
                other => return Err(format!("{other:?} is none of binary, engine, both")),
            };
        } else if let Some(bystander) = line.strip_prefix("bystander:") {
            open.bystander = match bystander.trim() {
                "yes" => true,
                "no" => false,
                other => return Err(format!("{other:?} is neither yes nor no")),
            };
        } else if let Some(toml) = line.strip_prefix('|') {
            open.config.push_str(toml.strip_prefix(' ').unwrap_or(toml));
            open.config.push('\n');
        } else if let Some(file) = line.strip_prefix('@') {
            let (name, text) = file.split_once('|').ok_or("@FILE| TEXT")?;
            let text = text.strip_prefix(' ').unwrap_or(text);
            match open.files.iter_mut().find(|(other, _)| other == name) {
                Some((_, all)) => *all = format!("{all}{text}\n"),
                None => open.files.push((name.to_owned(), format!("{text}\n"))),
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn step(&mut self, number: usize, text: &str) -> Result<(), String> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["repeat", count] => {
                let count = count.parse().map_err(|_| format!("{count:?} is no count"))?;
                self.blocks.push((number, text.to_owned(), count, std::mem::take(&mut open.steps)));
                return Ok(());
            }
            ["end"] => {
                let (line, text, count, around) = self.blocks.pop().ok_or("end without repeat")?;
                let inside = std::mem::replace(&mut open.steps, around);
                open.steps.push(Step { line, text, act: Act::Repeat(count, inside) });
                return Ok(());
            }
            _ => {}
        }
        let expanded = expand(&self.macros, text, 0)?;
        let act = act(&expanded)?;
        if let Act::ExpectInAnyOrder { who, packets } = &act
            && let Some(Step { act: Act::ExpectInAnyOrder { who: before, packets: all }, .. }) = open.steps.last_mut()
            && before == who
        {
            all.extend(packets.iter().cloned());
            return Ok(());
        }
        open.steps.push(Step { line: number, text: text.to_owned(), act });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if let Some((line, ..)) = self.blocks.first() {
            return Err(format!("the repeat of line {line} has no end"));
        }
        if let Some(open) = self.open.take() {
            if open.proves.is_empty() || open.steps.is_empty() {
                return Err(format!("{} proves nothing, or has no steps", open.name));
            }
            self.done.push(open);
        }
        Ok(())
    }
}

fn act(text: &str) -> Result<Act, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words.as_slice() {
        ["wait", time] => Act::Wait(duration(time)?),
        ["mark"] => Act::Mark,
        ["elapsed", range] => {
            let (from, to) = range.split_once("..").ok_or("elapsed FROM..TO")?;
            Act::Elapsed(duration(from)?, duration(to)?)
        }
        ["differ", one, other] => Act::Differ((*one).to_owned(), (*other).to_owned()),
        ["stop"] => Act::Stop,
        ["start"] => Act::Start,
        ["log", ..] => Act::Log(quoted(text)?.to_owned()),
        ["metric", series, value] => metric(series, value)?,
        [name, "quiet"] => Act::Quiet { who: who(name)? },
        [name, "nothing"] => Act::Nothing { who: who(name)? },
        [name, "ignore"] => Act::Ignore { who: who(name)? },
        [name, "drop"] => Act::Drop { who: who(name)? },
        [name, "finish"] => Act::Finish { who: who(name)? },
        [name, "slowly>", ..] => {
            let (_, bytes) = text.split_once('>').unwrap_or_default();
            Act::Send { who: who(name)?, bytes: parse(bytes)?, slowly: true }
        }
        _ => said(text)?,
    })
}

/// `a> ...`, `a< ...`, `a<~ ...` and `a< close`.
fn said(text: &str) -> Result<Act, String> {
    let unknown = || format!("{text:?} is no step");
    let end = text.find(['>', '<']).ok_or_else(unknown)?;
    let (name, rest) = text.split_at(end);
    let who = who(name).map_err(|_| unknown())?;
    if let Some(bytes) = rest.strip_prefix('>') {
        return Ok(Act::Send { who, bytes: parse(bytes)?, slowly: false });
    }
    if let Some(packet) = rest.strip_prefix("<~") {
        return Ok(Act::ExpectInAnyOrder { who, packets: vec![parse(packet)?] });
    }
    let packet = rest.strip_prefix('<').ok_or_else(unknown)?;
    if packet.trim() == "close" {
        Ok(Act::ExpectClose { who })
    } else {
        Ok(Act::Expect { who, packet: parse(packet)? })
    }
}

fn who(name: &str) -> Result<Who, String> {
    let (name, listener) = name.split_once('@').unwrap_or((name, ""));
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || !is_name(name) || !is_name(listener) {
        return Err(format!("{name:?} is no name of a connection"));
    }
    Ok(Who { name: name.to_owned(), listener: listener.to_owned() })
}

fn quoted(text: &str) -> Result<&str, String> {
    let (_, rest) = text.split_once('"').ok_or("no text in double quotes")?;
    rest.rsplit_once('"').map(|(text, _)| text).ok_or_else(|| "the text does not end".to_owned())
}

fn metric(series: &str, value: &str) -> Result<Act, String> {
    let value = value.parse().map_err(|_| format!("{value:?} is no number"))?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').ok_or("labels without their }")?;
    let labels: Option<Vec<(String, String)>> = labels
        .split(',')
        .filter(|label| !label.is_empty())
        .map(|label| label.split_once('=').map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())))
        .collect();
    Ok(Act::Metric { name: name.to_owned(), labels: labels.ok_or("a label without =")?, value })
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| format!("{text:?} has no unit"))?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time"))?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{unit:?} is none of ms, s, m, h, d")),
    };
    Ok(Duration::from_millis(number * milliseconds))
}

/// Replaces every `$NAME` and `$NAME(A,B)` by what it stands for.
fn expand(macros: &HashMap<String, String>, text: &str, depth: usize) -> Result<String, String> {
    if depth > MACRO_DEPTH {
        return Err(format!("macros that name each other: {text}"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let Some(body) = macros.get(name) else {
            // A dollar sign of a topic.
            out.push('$');
            out.push_str(name);
            rest = after;
            continue;
        };
        let (arguments, after) = match after.strip_prefix('(') {
            Some(after) => after.split_once(')').ok_or_else(|| format!("${name}( has no )"))?,
            None => ("", after),
        };
        let mut body = body.clone();
        for (index, argument) in arguments.split(',').enumerate() {
            body = body.replace(&format!("${}", index + 1), argument.trim());
        }
        out.push_str(&expand(macros, &body, depth + 1)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_conversations() {
        let text = "# what\nlet C(x) = 10[ $1 $Z ]\nlet Z = 00\n=== one\nproves: v5:1 v4:2\non: both\n| [limits]\n| a = 1\n\
            @acl| x\n@acl| y\na> $C(\"a\")\na< 20 *\nrepeat 2\na<~ 30\na<~ 31\nend\na< close\n=== two\nproves: trap:1\nwait 2h\n";
        let all = conversations("f", "", text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].proves, ["v5:1", "v4:2"]);
        assert_eq!(all[0].config, "[limits]\na = 1\n");
        assert_eq!(all[0].files, [("acl".to_owned(), "x\ny\n".to_owned())]);
        assert!(matches!(&all[0].steps[0].act, Act::Send { bytes, .. } if *bytes == parse("10[ \"a\" 00 ]").unwrap()));
        assert!(matches!(&all[0].steps[2].act, Act::Repeat(2, steps)
            if matches!(&steps[..], [Step { act: Act::ExpectInAnyOrder { packets, .. }, .. }] if packets.len() == 2)));
        assert!(matches!(all[1].steps[0].act, Act::Wait(time) if time == Duration::from_secs(7200)));
    }

    #[test]
    fn what_means_nothing_is_named_with_its_line() {
        for (text, line) in [
            ("a> 00", 1),
            ("=== a\nproves: x\na> 0", 3),
            ("=== a\na> 00\n=== b", 3),
            ("=== a\nproves: x\nrepeat 2\na> 00", 4),
            ("=== a\nproves: x\nend", 3),
            ("=== a\nproves: x\nwait 3", 3),
            ("=== a\nproves: x\nfoo bar", 3),
            ("=== A", 1),
            ("let m = $m\n=== a\nproves: x\na> $m", 4),
        ] {
            assert_eq!(conversations("f", "", text).unwrap_err().line, line, "{text}");
        }
    }
}
