//! A Rust file as the checks see it: without comments and strings, and without its tests.

/// The lines of `text` with comments, strings and character literals blanked, so that words and braces in them do not count.
pub(crate) fn code(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut state = State::Code;
    for line in text.lines() {
        let mut kept = String::new();
        let mut rest = line.chars().peekable();
        while let Some(c) = rest.next() {
            match state {
                State::Code => match c {
                    '/' if rest.peek() == Some(&'/') => break,
                    '/' if rest.peek() == Some(&'*') => state = State::Comment,
                    '"' => {
                        let hashes = kept.chars().rev().take_while(|c| *c == '#').count();
                        let raw = kept.trim_end_matches('#').ends_with('r');
                        state = if raw { State::Raw(hashes) } else { State::Text };
                    }
                    '\'' => {
                        // A character literal, not a lifetime: 'x' or '\x'.
                        let ahead: Vec<char> = rest.clone().take(2).collect();
                        if let [first, second] = ahead[..]
                            && (first == '\\' || second == '\'')
                        {
                            let mut escaped = first == '\\';
                            rest.next();
                            if escaped {
                                rest.next();
                            }
                            for c in rest.by_ref() {
                                if c == '\'' && !escaped {
                                    break;
                                }
                                escaped = false;
                                if c == '\'' {
                                    break;
                                }
                            }
                        }
                    }
                    _ => kept.push(c),
                },
                State::Comment => {
                    if c == '*' && rest.peek() == Some(&'/') {
                        rest.next();
                        state = State::Code;
                    }
                }
                State::Text => match c {
                    '\\' => {
                        rest.next();
                    }
                    '"' => state = State::Code,
                    _ => {}
                },
                State::Raw(hashes) => {
                    if c == '"' && rest.clone().take(hashes).filter(|c| *c == '#').count() == hashes {
                        for _ in 0..hashes {
                            rest.next();
                        }
                        state = State::Code;
                    }
                }
            }
        }
        lines.push(kept);
    }
    lines
}

#[derive(Clone, Copy)]
enum State {
    Code,
    Comment,
    Text,
    Raw(usize),
}

/// How many lines come before the tests at the bottom.
pub(crate) fn before_tests(lines: &[String]) -> usize {
    lines.iter().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(lines.len())
}

/// Functions of `lines` by their first line (counted from 1), name and number of lines.
pub(crate) fn functions(lines: &[String]) -> Vec<(usize, String, usize)> {
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let mut depth = 0_i32;
        let mut opened = false;
        for (end, line) in lines.iter().enumerate().skip(start) {
            for c in line.chars() {
                match c {
                    '{' => {
                        depth += 1;
                        opened = true;
                    }
                    '}' => depth -= 1,
                    ';' if !opened && depth == 0 && line.trim_end().ends_with(';') => opened = true,
                    _ => {}
                }
            }
            if opened && depth <= 0 {
                functions.push((start + 1, name, end - start + 1));
                break;
            }
        }
    }
    functions
}

fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let is_declaration = before
        .split_whitespace()
        .all(|word| matches!(word, "pub" | "const" | "async" | "unsafe" | "pub(crate)" | "pub(super)"));
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (is_declaration && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_strings_and_comments_do_not_count() {
        let text =
            "let a = \"todo!() {\"; // dbg!(\nlet b = r#\"x \" { \"#; let c = '{'; let d = '\\''; fn_call(&'a x)";
        let lines = code(text);
        assert!(!lines.join("\n").contains("todo"));
        assert!(!lines.join("\n").contains("dbg"));
        assert!(!lines.join("\n").contains('{'));
        assert!(lines[1].contains("fn_call"));
    }

    #[test]
    fn functions_are_measured_from_their_first_line_to_their_last() {
        let lines = code(
            "pub(crate) fn one(\n    a: u8,\n) -> u8 {\n    a\n}\n\nfn two() {}\ntrait T {\n    fn three(&self);\n}\n",
        );
        let found: Vec<_> = functions(&lines);
        assert_eq!(found[0], (1, "one".to_owned(), 5));
        assert_eq!(found[1], (7, "two".to_owned(), 1));
        assert_eq!(found[2], (9, "three".to_owned(), 1));
    }
}
