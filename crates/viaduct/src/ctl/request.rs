//! A call of the API, and what became of it.
//!
//! In: a method, a path, a body. Out: the answer, shown as asked for, or the problem in words. Must never: show the token.

use std::time::Duration;

use serde_json::Value;
use viaduct_broker::{Answer, Ask, ask};

use super::args::{ApiArgs, Page};
use super::text::{finding, word};
use crate::{Failure, say};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// That of a check, which dials each address at each level, and each step may take its whole time.
const CHECK_PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// The API of one broker.
#[derive(Debug)]
pub(super) struct Api {
    url: String,
    token: Option<String>,
    json: bool,
}

/// An answer that is no problem.
#[derive(Debug)]
pub(super) struct Reply {
    text: String,
    value: Value,
    json: bool,
}

impl Api {
    pub(super) fn new(args: &ApiArgs) -> Result<Self, Failure> {
        let token = match &args.token_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(|error| Failure::configuration(format!("{}: {error}", path.display())))?,
            ),
            None => std::env::var("VIADUCT_TOKEN").ok(),
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Ok(Self { url: args.url.clone(), token, json: args.json })
    }

    /// Calls `path` below `/api/v1`.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let body = body.map(Value::to_string);
        let answer = ask(Ask {
            url: &self.url,
            method: match method {
                Method::Get => "GET",
                Method::Post => "POST",
                Method::Put => "PUT",
                Method::Delete => "DELETE",
            },
            path: &format!("/api/v1{path}"),
            token: self.token.as_deref(),
            body: body.as_ref().map(|body| ("application/json", body.as_bytes())),
            time: if path.ends_with("/check") { CHECK_PATIENCE } else { PATIENCE },
        })
        .map_err(Failure::new)?;
        self.understand(answer)
    }

    fn understand(&self, Answer { status, body }: Answer) -> Result<Reply, Failure> {
        let text = String::from_utf8_lossy(&body).into_owned();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(Reply { text, value, json: self.json });
        }
        if self.json && value.is_object() {
            say(&text)?;
            return Err(Failure { text: None, code: 1 });
        }
        Err(Failure::new(problem(status, &value)))
    }
}

/// A problem in words.
fn problem(status: u16, value: &Value) -> String {
    if !value["detail"].is_string() {
        return format!("the broker answers with HTTP status {status}, and not as this API does");
    }
    let mut words = word(&value["detail"]);
    let findings = value["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    for one in findings {
        words.push_str(&format!("\n  {}", finding(one)));
    }
    words
}

impl Reply {
    /// Prints it: as it came, or by `show`.
    pub(super) fn show(&self, show: impl FnOnce(&Value) -> Result<(), Failure>) -> Result<(), Failure> {
        if !self.json {
            return show(&self.value);
        }
        if self.text.is_empty() { Ok(()) } else { say(&self.text) }
    }

    pub(super) const fn value(&self) -> &Value {
        &self.value
    }
}

/// What stands behind `?`.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<String>);

impl Query {
    /// Also says `name=value`, if there is a value.
    pub(super) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.0.extend(value.map(|value| format!("{name}={}", in_path(value))));
        self
    }

    /// Also says how much, and from where on.
    pub(super) fn page(self, page: &Page) -> Self {
        let limit = page.limit.map(|limit| limit.to_string());
        self.with("limit", limit.as_deref()).with("after", page.after.as_deref())
    }

    /// Behind `path`.
    pub(super) fn at(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0.join("&")) }
    }
}

/// `name` as a part of a path, or of what stands behind it.
pub(super) fn in_path(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_says_each_value_that_is_wrong() {
        let value = json!({"detail": "two", "errors": [{"path": "url", "detail": "no"}, {"path": "x", "detail": "y"}]});
        assert_eq!(problem(422, &value), "two\n  url: no\n  x: y");
        assert!(problem(500, &Value::Null).contains("500"));
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(in_path("a b?%ü"), "a%20b%3F%25%C3%BC");
    }
}
