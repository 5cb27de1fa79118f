//! What went wrong, as RFC 9457 writes it: `application/problem+json`.
//!
//! In: troubles of the broker and faults of the request. Out: an answer whose `type` a program can act on and whose `detail` a
//! person can. Must never: hold a password.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use viaduct_config::{ConfigError, Errors, Place};

use crate::bridge::PlanError;
use crate::control::Trouble;
use crate::reload::SetupError;

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// The last part of its type.
    kind: &'static str,
    title: &'static str,
    detail: String,
    /// What is wrong with single values.
    errors: Vec<Value>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), errors: Vec::new() }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request can't be read", detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The request comes from somewhere else", detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The broker can't do that now", detail)
    }

    /// What is wrong with a key without which nothing can be begun.
    pub(super) fn value(key: &str, wrong: &viaduct_config::Problem) -> Self {
        let mut problem = Self::wrong(format!("`{key}`: {wrong}"));
        problem.errors.push(json!({ "path": key, "detail": wrong.to_string() }));
        problem
    }

    fn wrong(detail: String) -> Self {
        let (status, title) = (StatusCode::UNPROCESSABLE_ENTITY, "The configuration would be wrong");
        Self::new(status, "invalid-configuration", title, detail)
    }

    fn invalid(errors: &Errors, bridge: Option<&str>) -> Self {
        let count = errors.errors.len();
        let mut problem = Self::wrong(match errors.errors.first() {
            Some(first) if count == 1 => first.problem.to_string(),
            _ => format!("{count} values are wrong; nothing was changed"),
        });
        problem.errors = errors.errors.iter().map(|error| finding(error, bridge)).collect();
        problem
    }

    /// Why an order about `bridge`, or a reload, was not carried out.
    pub(super) fn of(trouble: &Trouble, bridge: Option<&str>) -> Self {
        let words = trouble.to_string();
        match trouble {
            Trouble::NoBridge(_) => Self::not_found(words),
            Trouble::Exists(_) => Self::new(StatusCode::CONFLICT, "exists", "It is there already", words),
            Trouble::TooMany => Self::new(StatusCode::CONFLICT, "too-many", "No more can be kept", words),
            Trouble::OnlyHere(_) => {
                Self::new(StatusCode::CONFLICT, "not-in-file", "There is nothing to go back to", words)
            }
            Trouble::Invalid(errors) => Self::invalid(errors, bridge),
            Trouble::Unusable(error) => {
                let (status, title) = (StatusCode::UNPROCESSABLE_ENTITY, "A file that is named can't be used");
                let mut problem = match error {
                    SetupError::Bridge(PlanError::Rules { .. }) => Self::wrong(words),
                    _ => Self::new(status, "unusable-file", title, words),
                };
                if let SetupError::Bridge(error) = error {
                    let key = error.key();
                    let path = bridge.and_then(|name| key.strip_prefix(&format!("bridge[{name}].")).map(str::to_owned));
                    problem.errors.push(json!({ "path": path.unwrap_or(key), "detail": error.to_string() }));
                }
                problem
            }
            Trouble::Unreadable(_) => {
                let title = "The configuration file can't be read";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable-file", title, words)
            }
            Trouble::NotKept { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "not-kept", "The change could not be kept", words)
            }
            Trouble::Stopping => Self::unavailable(words),
        }
    }
}

/// One finding. The path of what was said about `bridge` begins in it, any other in the whole configuration.
pub(super) fn finding(error: &ConfigError, bridge: Option<&str>) -> Value {
    let within = matches!(&error.place, Place::RunTime(name) if Some(name.as_str()) == bridge);
    let inner = error.key.split_once(']').map(|(_, rest)| rest.trim_start_matches('.')).filter(|_| within);
    let place = match &error.place {
        Place::File { file, line, column, .. } => Some(format!("{file}:{line}:{column}")),
        Place::Environment(name) => Some(format!("environment variable {name}")),
        Place::CommandLine(text) => Some(format!("--set {text}")),
        Place::RunTime(name) if !within => Some(format!("bridge {name:?}, as it was changed at run time")),
        Place::RunTime(_) | Place::Nowhere => None,
    };
    let mut finding = json!({ "path": inner.unwrap_or(&error.key), "detail": error.problem.to_string() });
    if let Some(finding) = finding.as_object_mut() {
        finding.extend(place.map(|place| ("place".to_owned(), place.into())));
        finding.extend(error.suggestion.clone().map(|words| ("suggestion".to_owned(), words.into())));
    }
    finding
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, kind, title, detail, errors } = self;
        let mut body = json!({
            "type": format!("urn:viaduct:problem:{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
        });
        if let Some(body) = body.as_object_mut().filter(|_| !errors.is_empty()) {
            body.insert("errors".to_owned(), errors.into());
        }
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}
