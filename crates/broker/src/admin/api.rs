//! `/api/v1`: who is connected, what is listened on, reading the configuration again; bridges are in `bridges`.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use viaduct_engine::ClientView;

use super::problem::{Problem, finding};
use super::{Access, Desk, bridges};
use crate::limits::{ADMIN_BODY_BYTES, ASK_TIMEOUT};
use crate::mailbox::Letter;

pub(super) fn router(desk: &Desk, access: Access) -> Router<Desk> {
    let broker = Arc::clone(&desk.broker);
    Router::new()
        .route("/clients", get(clients))
        .route("/listeners", get(listeners))
        .route("/reload", post(reload))
        .merge(bridges::router())
        .fallback(|| async { Problem::not_found("the API has nothing at this address") })
        .method_not_allowed_fallback(method)
        .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let (access, broker) = (access.clone(), Arc::clone(&broker));
            async move {
                let method = request.method().clone();
                let response = match access.check(request.uri(), request.headers()) {
                    Ok(()) => next.run(request).await,
                    Err(problem) => problem.into_response(),
                };
                broker.api_calls.count(&method, response.status());
                response
            }
        }))
}

async fn method() -> Problem {
    let title = "This can't be done to it";
    let detail = "the Allow header names what can; what changes something is POST, PUT or DELETE";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title, detail)
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
    subscriptions: usize,
    queued_messages: usize,
    queued_bytes: usize,
    inflight_messages: usize,
    session_expiry_seconds: u32,
}

impl Client {
    fn new(worker: usize, view: &ClientView) -> Self {
        let text = |text: &Arc<str>| text.to_string();
        Self {
            client_id: view.client_id.as_str().to_owned(),
            username: view.username.as_ref().map(text),
            connected: view.peer.is_some(),
            peer: view.peer.as_ref().map(text),
            listener: view.listener.as_ref().map(text),
            level: view.level.map(viaduct_codec::Level::byte),
            worker,
            subscriptions: view.subscriptions,
            queued_messages: view.queued_messages,
            queued_bytes: view.queued_bytes,
            inflight_messages: view.inflight,
            session_expiry_seconds: view.session_expiry,
        }
    }
}

async fn clients(State(Desk { broker, .. }): State<Desk>) -> Result<Json<Value>, Problem> {
    let mut all = Vec::new();
    for (worker, mailbox) in broker.mailboxes.iter().enumerate() {
        let (answer, question) = oneshot::channel();
        mailbox.send(Letter::Clients(answer));
        match timeout(ASK_TIMEOUT, question).await {
            Ok(Ok(views)) => all.extend(views.iter().map(|view| Client::new(worker, view))),
            Ok(Err(_)) | Err(_) => return Err(Problem::unavailable(format!("worker {worker} does not answer"))),
        }
    }
    Ok(Json(json!({ "clients": all })))
}

async fn listeners(State(Desk { broker, .. }): State<Desk>) -> Json<Value> {
    let all: Vec<_> = broker
        .listeners
        .iter()
        .map(|listener| {
            let policy = listener.policy.load();
            let levels: Vec<u8> = policy.terms.allowed_levels.iter().map(|level| level.byte()).collect();
            json!({
                "name": &*listener.name,
                "address": listener.address,
                "transport": if listener.websocket.is_some() { "ws" } else { "tcp" },
                "path": listener.websocket,
                "tls": policy.tls.is_some(),
                "allowed_protocol_versions": levels,
                "allow_anonymous": policy.allow_anonymous,
                "connections": listener.connections(),
                "max_connections": policy.max_connections,
            })
        })
        .collect();
    Json(json!({ "listeners": all }))
}

async fn reload(State(desk): State<Desk>) -> Result<Json<Value>, Problem> {
    let reloaded = desk.orders.reload().await.map_err(|trouble| Problem::of(&trouble, None))?;
    let changes = reloaded.changes;
    let keys: Vec<&String> = changes.live_keys.iter().filter(|key| !key.starts_with("bridge[")).collect();
    let warnings: Vec<Value> = reloaded.warnings.iter().map(|warning| finding(warning, None)).collect();
    Ok(Json(json!({
        "changed": keys,
        "bridges_added": changes.bridges_added,
        "bridges_removed": changes.bridges_removed,
        "bridges_changed": changes.bridges_changed,
        "needs_restart": changes.restart,
        "warnings": warnings,
    })))
}
