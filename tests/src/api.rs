//! The broker's HTTP API in one line a call.
//!
//! In: a method, a path below `/api/v1`, and JSON. Out: the status and the JSON of the answer. Must never: take an answer that is
//! neither JSON nor empty, or wait for a time where the API tells of a condition.

use serde_json::Value;

use crate::broker::Broker;
use crate::http::send;
use crate::wait::{DEADLINE, within};

/// The header line that a body of JSON needs.
pub const JSON: &str = "Content-Type: application/json";

/// One call; the status, and the answer, which has to be JSON, or empty.
///
/// # Panics
/// When there is no such answer.
#[must_use]
#[track_caller]
pub fn call(broker: &Broker, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let text = body.map(Value::to_string).unwrap_or_default();
    let headers: &[&str] = if body.is_some() { &[JSON] } else { &[] };
    let response = send(broker.admin(), method, &format!("/api/v1{path}"), headers, text.as_bytes()).unwrap();
    let value = if response.body.is_empty() { Value::Null } else { serde_json::from_str(&response.body).unwrap() };
    (response.status, value)
}

/// One call that has to succeed; its answer.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn ok(broker: &Broker, method: &str, path: &str, body: Option<&Value>) -> Value {
    let (status, value) = call(broker, method, path, body);
    assert!((200..300).contains(&status), "{method} {path}: {status} {value}");
    value
}

/// Waits until a bridge is in `state`; what the API says of it then.
///
/// # Panics
/// When it does not get there within [`DEADLINE`].
#[track_caller]
pub fn wait_for_bridge(broker: &Broker, name: &str, state: &str) -> Value {
    let look = || {
        let bridge = ok(broker, "GET", &format!("/bridges/{name}"), None);
        if bridge["state"] == state { Ok(bridge) } else { Err(bridge) }
    };
    match within(DEADLINE, look) {
        Ok(bridge) => bridge,
        Err(bridge) => panic!("bridge {name} does not become {state}; it is: {bridge}"),
    }
}

/// The sessions of a broker, one object each.
///
/// # Panics
/// When the API does not list them.
#[must_use]
#[track_caller]
pub fn clients(broker: &Broker) -> Vec<Value> {
    ok(broker, "GET", "/clients", None)["clients"].as_array().unwrap().clone()
}

/// How many subscriptions the session `client_id` has; `None` when there is no such session.
///
/// # Panics
/// When the API does not list the sessions.
#[must_use]
#[track_caller]
pub fn subscriptions(broker: &Broker, client_id: &str) -> Option<u64> {
    clients(broker).iter().find(|client| client["client_id"] == client_id)?["subscriptions"].as_u64()
}
