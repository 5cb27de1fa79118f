//! The matrix of `docs/moving-in.md`, from the tables that the import works with.

use std::fmt::Write as _;

use crate::option::{Fate, Opt};
use crate::{mosquitto, vernemq};

/// Every option of both brokers with ours, or why there is none; as Markdown.
#[must_use]
pub fn matrix() -> String {
    let mut text = String::new();
    for (title, prefix, table) in [mosquitto::tables().as_slice(), vernemq::tables().as_slice()].concat() {
        let _ = write!(text, "\n### {title}\n\n| option | here | |\n|---|---|---|\n");
        for option in table {
            row(prefix, option, &mut text);
        }
    }
    text
}

fn row(prefix: &str, option: &Opt, text: &mut String) {
    let (ours, more) = match option.fate {
        Fate::Becomes(ours, difference) => {
            (ours.split(", ").map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "), difference.to_owned())
        }
        Fate::Lost { harmless, why, advice } => {
            let unless = match harmless {
                [] => String::new(),
                [""] => " (nothing is lost when it is empty)".to_owned(),
                values => format!(" (nothing is lost with {})", values.join(", ")),
            };
            ("no".to_owned(), format!("{why}{unless}; {advice}"))
        }
        Fate::Idle(why) => ("not needed".to_owned(), why.to_owned()),
    };
    let cell = |text: &str| text.replace('|', "\\|");
    let _ = writeln!(text, "| `{prefix}{}` | {} | {} |", cell(option.name), cell(&ours), cell(&more));
}
