//! `/api/v1/clients` and `/api/v1/sessions`: who is here, connected or not, and ending a session.
//!
//! In: requests, and what workers say. Out: views of sessions. Must never: end the session of a bridge: that is the bridge's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use viaduct_engine::{ClientView, Dropped, SubscriptionView};

use super::bridges::Name;
use super::params::Params;
use super::problem::Problem;
use super::when::rfc3339;
use super::{Desk, Peer};
use crate::bridge::bridge_of;
use crate::limits::{ASK_TIMEOUT, PAGE, PAGE_MAX, SESSION_FILTERS};
use crate::mailbox::Letter;
use crate::questions::{Ended, Question, Wanted};
use crate::state::Broker;

pub(super) fn router() -> Router<Desk> {
    Router::new()
        .route("/clients", get(clients))
        .route("/sessions", get(list))
        .route("/sessions/{client_id}", get(show).delete(end))
}

/// Asks a worker, and waits for its answer.
pub(super) async fn ask<T>(
    broker: &Broker,
    worker: usize,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> Result<T, Problem> {
    let (answer, answered) = oneshot::channel();
    if let Some(mailbox) = broker.mailboxes.get(worker) {
        mailbox.send(Letter::Ask(question(answer)));
    }
    match timeout(ASK_TIMEOUT, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Problem::unavailable(format!("worker {worker} does not answer"))),
    }
}

#[derive(Serialize)]
struct Client {
    client_id: String,
    username: Option<String>,
    connected: bool,
    peer: Option<String>,
    listener: Option<String>,
    level: Option<u8>,
    worker: usize,
    bridge: Option<String>,
    mountpoint: Option<String>,
    subscriptions: usize,
    queued_messages: usize,
    queued_bytes: usize,
    inflight_messages: usize,
    dropped_messages: u64,
    session_expiry_seconds: u32,
    expires_at: Option<String>,
}

impl Client {
    fn new(worker: usize, view: &ClientView) -> Self {
        let text = |text: &Arc<str>| text.to_string();
        let client_id = view.client_id.as_str();
        Self {
            client_id: client_id.to_owned(),
            username: view.username.as_ref().map(text),
            connected: view.peer.is_some(),
            peer: view.peer.as_ref().map(text),
            listener: view.listener.as_ref().map(text),
            level: view.level.map(viaduct_codec::Level::byte),
            worker,
            bridge: bridge_of(client_id).filter(|_| view.local).map(str::to_owned),
            mountpoint: view.mountpoint.as_ref().map(text),
            subscriptions: view.subscriptions,
            queued_messages: view.queued_messages,
            queued_bytes: view.queued_bytes,
            inflight_messages: view.inflight,
            dropped_messages: view.dropped,
            session_expiry_seconds: view.session_expiry,
            expires_at: view.expires.map(rfc3339),
        }
    }
}

async fn clients(State(Desk { broker, .. }): State<Desk>) -> Result<Json<Value>, Problem> {
    let mut all = Vec::new();
    for worker in 0..broker.mailboxes.len() {
        let views = ask(&broker, worker, Question::Clients).await?;
        all.extend(views.iter().map(|view| Client::new(worker, view)));
    }
    Ok(Json(json!({ "clients": all })))
}

/// A number of things on a page.
pub(super) fn limit(params: &mut Params) -> Result<usize, Problem> {
    let within = |text: &str| text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    Ok(params.read("limit", &format!("a number from 1 to {PAGE_MAX}"), within)?.unwrap_or(PAGE))
}

async fn list(State(Desk { broker, .. }): State<Desk>, mut params: Params) -> Result<Json<Value>, Problem> {
    let limit = limit(&mut params)?;
    let wanted = Wanted {
        after: params.text("after"),
        // One more says whether there are more.
        most: limit + 1,
        containing: params.text("match"),
        connected: params.read("connected", "true or false", |text| text.parse().ok())?,
    };
    params.end(&["after", "connected", "limit", "match"])?;
    let mut found = Vec::new();
    for worker in 0..broker.mailboxes.len() {
        let views = ask(&broker, worker, |answer| Question::Sessions(wanted.clone(), answer)).await?;
        found.extend(views.iter().map(|view| Client::new(worker, view)));
    }
    found.sort_unstable_by(|one, other| one.client_id.cmp(&other.client_id));
    let is_all = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_all).map(|last| last.client_id.clone());
    Ok(Json(json!({ "sessions": found, "next": next })))
}

async fn show(State(Desk { broker, .. }): State<Desk>, Name(client_id): Name) -> Result<Json<Value>, Problem> {
    let worker = usize::from(broker.worker_of(&client_id).0);
    let session = ask(&broker, worker, |answer| Question::Session(client_id.clone(), answer)).await?;
    let (view, subscriptions) = session.ok_or_else(|| no_session(&client_id))?;
    let mut shown = serde_json::to_value(Client::new(worker, &view)).unwrap_or_default();
    let reasons = Dropped::ALL.iter().zip(view.dropped_for).filter(|(_, count)| *count > 0);
    let reasons: serde_json::Map<_, _> = reasons.map(|(why, count)| (why.name().to_owned(), count.into())).collect();
    let filters: Vec<Value> = subscriptions.iter().map(subscription).collect();
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("dropped_by_reason".to_owned(), reasons.into());
        shown.insert("filters".to_owned(), filters.into());
        shown.insert("filters_not_shown".to_owned(), view.subscriptions.saturating_sub(SESSION_FILTERS).into());
    }
    Ok(Json(shown))
}

fn subscription(view: &SubscriptionView) -> Value {
    json!({
        "filter": view.filter.as_str(),
        "qos": view.options.qos.bits(),
        "no_local": view.options.no_local,
        "retain_as_published": view.options.retain_as_published,
        "retain_handling": view.options.retain_handling as u8,
        "identifier": view.id.map(viaduct_codec::VarInt::get),
    })
}

async fn end(
    State(Desk { broker, .. }): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(client_id): Name,
) -> Result<StatusCode, Problem> {
    let worker = usize::from(broker.worker_of(&client_id).0);
    match ask(&broker, worker, |answer| Question::EndSession(client_id.clone(), answer)).await? {
        Ended::Done => {
            tracing::info!(peer = %peer.0, client_id, "the session is ended by the API, with what waited in it");
            Ok(StatusCode::NO_CONTENT)
        }
        Ended::NotThere => Err(no_session(&client_id)),
        Ended::OfBridge => {
            let name = bridge_of(&client_id).unwrap_or_default();
            let detail = format!(
                "{client_id:?} is what bridge {name:?} waits with for its remote: stop the bridge, or remove it, which ends its session too"
            );
            Err(Problem::new(StatusCode::CONFLICT, "session-of-bridge", "The session belongs to a bridge", detail))
        }
    }
}

fn no_session(client_id: &str) -> Problem {
    Problem::not_found(format!("there is no session of ClientID {client_id:?}"))
}
