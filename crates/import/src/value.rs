//! Values of directives, read.
//!
//! In: a [`Directive`]. Out: a number, a flag, a time; `None` when it is not one, which is then reported as a mistake.

use crate::directive::Directive;
use crate::report::Report;

/// The bytes of a value that a message repeats.
const SHOWN: usize = 60;

/// `true` or `false`; mosquitto takes 1 and 0 as well, VerneMQ says on and off.
pub(crate) fn flag(directive: &Directive, report: &mut Report) -> Option<bool> {
    match directive.value.as_str() {
        "true" | "1" | "on" => Some(true),
        "false" | "0" | "off" => Some(false),
        _ => wrong(directive, "true or false (on or off)", report),
    }
}

/// A whole number from `min` to `max`.
pub(crate) fn number(directive: &Directive, min: i64, max: i64, report: &mut Report) -> Option<i64> {
    match directive.value.parse() {
        Ok(number) if (min..=max).contains(&number) => Some(number),
        _ => wrong(directive, &format!("a whole number from {min} to {max}"), report),
    }
}

/// A number of something from 0, of which `none` stands for no limit and becomes `most`; what is more is `most` too.
pub(crate) fn limit(directive: &Directive, none: i64, most: i64, report: &mut Report) -> Option<i64> {
    let found = number(directive, none.min(0), i64::MAX, report)?;
    Some(if found == none { most } else { found.clamp(1, most) })
}

/// A text that is not empty.
pub(crate) fn text<'a>(directive: &'a Directive, report: &mut Report) -> Option<&'a str> {
    if directive.value.is_empty() {
        return wrong(directive, "a value", report);
    }
    Some(&directive.value)
}

/// Seconds that are written as a number and a unit out of `units`, or `never` (which is `Some(None)`).
pub(crate) fn expiry(directive: &Directive, units: &[(char, u64)], report: &mut Report) -> Option<Option<u64>> {
    let value = directive.value.as_str();
    if value == "never" {
        return Some(None);
    }
    let found = units.iter().find_map(|(unit, seconds)| {
        let count: u64 = value.strip_suffix(*unit)?.trim().parse().ok()?;
        count.checked_mul(*seconds)
    });
    match found {
        // What our session expiry can hold.
        Some(seconds) => Some(Some(seconds.min(4_294_967_294))),
        None => {
            let units: String = units.iter().map(|(unit, _)| format!(" {unit}")).collect();
            wrong(directive, &format!("\"never\", or a number and one of{units}"), report)
        }
    }
}

/// The oldest TLS that we speak of the versions that `directive` allows, by commas or blanks.
pub(crate) fn tls_version(directive: &Directive, report: &mut Report) -> Option<&'static str> {
    let mut oldest: Option<&'static str> = None;
    for word in directive.value.split([',', ' ']).filter(|word| !word.is_empty()) {
        let ours = match word {
            "tlsv1.3" => "\"1.3\"",
            "tlsv1.2" => "\"1.2\"",
            "tlsv1" | "tlsv1.0" | "tlsv1.1" => {
                report.act(directive, "TLS before 1.2 is not spoken", "renew peers that can't do better");
                "\"1.2\""
            }
            _ => return wrong(directive, "tlsv1.2 or tlsv1.3", report),
        };
        oldest = Some(oldest.map_or(ours, |before| before.min(ours)));
    }
    oldest.or_else(|| wrong(directive, "tlsv1.2 or tlsv1.3", report))
}

/// Reports that the value is not what was `expected`.
pub(crate) fn wrong<T>(directive: &Directive, expected: &str, report: &mut Report) -> Option<T> {
    let mut found: String = directive.value.chars().take(SHOWN).collect();
    if found.len() < directive.value.len() {
        found.push_str("...");
    }
    let secret = directive.name.contains("password") || directive.name.contains("psk");
    let found = if secret { String::new() } else { format!(", found {found:?}") };
    report.wrong(&directive.place, format!("{}: expected {expected}{found}", directive.name));
    None
}

/// Words between blanks; one in double quotes may have blanks in it, as mosquitto reads them. `None`: a quote is open.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once([' ', '\t']).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Directive {
        Directive::implied("f", "d", value)
    }

    #[test]
    fn flags_and_numbers_are_read_or_reported() {
        let mut report = Report::default();
        assert_eq!(flag(&of("true"), &mut report), Some(true));
        assert_eq!(flag(&of("off"), &mut report), Some(false));
        assert_eq!(limit(&of("0"), 0, 100, &mut report), Some(100));
        assert_eq!(limit(&of("-1"), -1, 100, &mut report), Some(100));
        assert_eq!(limit(&of("7"), 0, 100, &mut report), Some(7));
        assert_eq!(limit(&of("700"), 0, 100, &mut report), Some(100));
        assert!(report.mistakes.is_empty());
        assert_eq!(flag(&of("yes"), &mut report), None);
        assert_eq!(limit(&of("-2"), 0, 100, &mut report), None);
        assert_eq!(number(&of("99999999999999999999"), 0, 9, &mut report), None);
        assert_eq!(report.mistakes.len(), 3);
        assert!(report.mistakes[0].what.contains("yes"));
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let mut report = Report::default();
        let _ = wrong::<()>(&Directive::implied("f", "remote_password", "hunter2"), "x", &mut report);
        assert!(!report.mistakes[0].what.contains("hunter2"));
    }

    #[test]
    fn a_time_has_one_of_the_units() {
        let units = [('h', 3600), ('d', 86_400)];
        let mut report = Report::default();
        assert_eq!(expiry(&of("never"), &units, &mut report), Some(None));
        assert_eq!(expiry(&of("2d"), &units, &mut report), Some(Some(172_800)));
        assert_eq!(expiry(&of("1 h"), &units, &mut report), Some(Some(3600)));
        assert_eq!(expiry(&of("9999999999d"), &units, &mut report), Some(Some(4_294_967_294)));
        for bad in ["", "d", "1", "1x", "-1d", "99999999999999999999d"] {
            assert_eq!(expiry(&of(bad), &units, &mut report), None, "{bad}");
        }
    }

    #[test]
    fn words_may_be_quoted() {
        assert_eq!(words("a  b\tc").unwrap(), ["a", "b", "c"]);
        assert_eq!(words("\"\" both 0 \"x y\" z").unwrap(), ["", "both", "0", "x y", "z"]);
        assert_eq!(words("\"open"), None);
        assert!(words("  ").unwrap().is_empty());
    }
}
