//! `/api/v1/retained`: retained messages, looked at and taken away.
//!
//! In: a topic filter and bounds. Out: a page of what it matches, one message, or its end. The tree is read a piece at a time, so that
//! nobody who publishes waits for a list. Must never: change anything but the one topic that is named.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use viaduct_codec::{FilterRef, Message, QoS, Time, TopicName, UserProperties};
use viaduct_engine::RetainedCursor;

use super::bridges::Name;
use super::params::Params;
use super::problem::Problem;
use super::sessions::{ask, limit};
use super::when::rfc3339;
use super::{Desk, Peer};
use crate::limits::{PAYLOAD_SHOWN, RETAINED_PIECES};
use crate::questions::Question;

pub(super) fn router() -> Router<Desk> {
    Router::new().route("/retained", get(list)).route("/retained/{topic}", get(show).delete(clear))
}

/// Which of the messages that the filter matches are wanted.
struct Bounds {
    qos: Option<QoS>,
    min_bytes: u64,
    max_bytes: u64,
    /// Taken at this time or later.
    since: Option<Time>,
    /// Taken at this time or before.
    until: Option<Time>,
}

impl Bounds {
    fn read(params: &mut Params, now: Time) -> Result<Self, Problem> {
        let qos = |text: &str| text.parse().ok().and_then(QoS::from_bits);
        const SIZE: &str = "a size such as 64KiB, or whole bytes";
        const AGE: &str = "a duration such as 1h30m";
        let before = |age: Duration| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            Time::from_millis(now.as_millis().saturating_sub(age))
        };
        Ok(Self {
            qos: params.read("qos", "0, 1 or 2", qos)?,
            min_bytes: params.read("min_size", SIZE, viaduct_config::size)?.unwrap_or(0),
            max_bytes: params.read("max_size", SIZE, viaduct_config::size)?.unwrap_or(u64::MAX),
            since: params.read("newer_than", AGE, viaduct_config::duration)?.map(before),
            until: params.read("older_than", AGE, viaduct_config::duration)?.map(before),
        })
    }

    fn has(&self, message: &Message, now: Time) -> bool {
        let bytes = message.payload.len() as u64;
        !is_over(message, now)
            && self.qos.is_none_or(|qos| message.qos == qos)
            && (self.min_bytes..=self.max_bytes).contains(&bytes)
            && self.since.is_none_or(|since| message.received >= since)
            && self.until.is_none_or(|until| message.received <= until)
    }
}

/// Whether nobody is given it any more, though it may still be there.
fn is_over(message: &Message, now: Time) -> bool {
    message.expires.is_some_and(|expires| expires <= now)
}

async fn list(State(Desk { broker, .. }): State<Desk>, mut params: Params) -> Result<Json<Value>, Problem> {
    let now = broker.clock.now();
    let limit = limit(&mut params)?;
    let bounds = Bounds::read(&mut params, now)?;
    let filter = params.text("filter").unwrap_or_else(|| "#".to_owned());
    let wrong = |why: String| Problem::malformed(format!("`filter`: {filter:?}: {why}"));
    let parsed = FilterRef::new(&filter).map_err(|error| wrong(error.to_string()))?;
    if parsed.share().is_some() {
        return Err(wrong(
            "a shared subscription is given no retained messages; write what stands behind it".to_owned(),
        ));
    }
    let mut cursor: Option<RetainedCursor> =
        params.read("after", "what an earlier answer has in `next`", |text| text.parse().ok())?;
    params.end(&["after", "filter", "limit", "max_size", "min_size", "newer_than", "older_than", "qos"])?;
    let (mut rows, mut found): (Vec<Value>, Vec<Arc<Message>>) = (Vec::new(), Vec::new());
    for _ in 0..RETAINED_PIECES {
        cursor = broker.engines.retained_from(parsed, cursor, limit - rows.len(), &mut found);
        rows.extend(found.drain(..).filter(|message| bounds.has(message, now)).map(|message| row(&message, now)));
        if cursor.is_none() || rows.len() >= limit {
            break;
        }
        // Whoever else asks has a turn.
        tokio::task::yield_now().await;
    }
    Ok(Json(json!({ "retained": rows, "next": cursor.map(|cursor| cursor.to_string()) })))
}

fn row(message: &Message, now: Time) -> Value {
    json!({
        "topic": message.topic.as_str(),
        "qos": message.qos.bits(),
        "payload_bytes": message.payload.len(),
        "received_at": rfc3339(message.received),
        "age_seconds": now.since(message.received).as_secs_f64(),
        "expires_at": message.expires.map(rfc3339),
    })
}

fn topic(text: &str) -> Result<TopicName, Problem> {
    TopicName::new(text).map_err(|error| Problem::malformed(format!("{text:?} is no topic name: {error}")))
}

fn none(topic: &TopicName) -> Problem {
    Problem::not_found(format!("topic {:?} has no retained message", topic.as_str()))
}

async fn show(State(Desk { broker, .. }): State<Desk>, Name(text): Name) -> Result<Json<Value>, Problem> {
    let (topic, now) = (topic(&text)?, broker.clock.now());
    let message = broker.engines.retained_message(topic.by_ref()).filter(|message| !is_over(message, now));
    let message = message.ok_or_else(|| none(&topic))?;
    let mut shown = row(&message, now);
    if let Some(shown) = shown.as_object_mut() {
        let bytes = message.payload.get(..PAYLOAD_SHOWN).unwrap_or(&message.payload);
        // A cut may go through a character.
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() && bytes.len() < message.payload.len() => {
                bytes.get(..error.valid_up_to()).and_then(|bytes| std::str::from_utf8(bytes).ok())
            }
            Err(_) => None,
        };
        match text {
            Some(text) => shown.insert("payload".to_owned(), text.into()),
            None => shown.insert("payload_base64".to_owned(), STANDARD.encode(bytes).into()),
        };
        shown.insert("payload_is_cut".to_owned(), (bytes.len() < message.payload.len()).into());
        if let Some(properties) = &message.properties {
            let pairs = UserProperties::from_encoded(&properties.user_properties);
            let pairs: Vec<Value> = pairs.iter().map(|(name, value)| json!([name, value])).collect();
            let of_it = json!({
                "content_type": properties.content_type.as_deref(),
                "response_topic": properties.response_topic.as_ref().map(TopicName::as_str),
                "payload_format": properties.payload_format,
                "correlation_data_base64": properties.correlation_data.as_ref().map(|data| STANDARD.encode(data)),
                "user_properties": pairs,
            });
            shown.insert("properties".to_owned(), of_it);
        }
    }
    Ok(Json(shown))
}

async fn clear(
    State(Desk { broker, .. }): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(text): Name,
) -> Result<StatusCode, Problem> {
    let topic = topic(&text)?;
    if text.starts_with("$SYS/") {
        let detail = format!("the broker says {text:?} itself, every sys.interval");
        return Err(Problem::new(StatusCode::CONFLICT, "own-topic", "The topic belongs to the broker", detail));
    }
    // Whose worker does it does not matter: the messages are everybody's.
    match ask(&broker, 0, |answer| Question::ClearRetained(topic.clone(), answer)).await? {
        Ok(true) => {
            tracing::info!(peer = %peer.0, topic = text, "the retained message is taken away by the API");
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(false) => Err(none(&topic)),
        Err(why) => Err(Problem::unavailable(format!("the store does not take it, and the message stays: {why}"))),
    }
}
