//! `/api/v1`: what is connected, bridged and listened on, as JSON.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use tokio::time::timeout;
use viaduct_engine::ClientView;

use super::Access;
use crate::limits::ASK_TIMEOUT;
use crate::mailbox::Letter;
use crate::state::Broker;

pub(super) fn router(access: Access) -> Router<Arc<Broker>> {
    Router::new()
        .route("/clients", get(clients))
        .route("/bridges", get(bridges))
        .route("/listeners", get(listeners))
        .layer(middleware::from_fn(move |request, next| check(access.clone(), request, next)))
}

async fn check(access: Access, request: Request, next: Next) -> Response {
    let allowed = match &access {
        Access::Open => true,
        Access::Closed => false,
        Access::Token(token) => request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .is_some_and(|given| given.ct_eq(token).into()),
    };
    if allowed {
        return next.run(request).await;
    }
    let error = match access {
        Access::Closed => "the API answers only with a token here: set admin.token_file",
        _ => "a token is needed: Authorization: Bearer <the content of admin.token_file>",
    };
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], Json(json!({ "error": error }))).into_response()
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

async fn clients(State(broker): State<Arc<Broker>>) -> Response {
    let mut all = Vec::new();
    for (worker, mailbox) in broker.mailboxes.iter().enumerate() {
        let (answer, question) = oneshot::channel();
        mailbox.send(Letter::Clients(answer));
        match timeout(ASK_TIMEOUT, question).await {
            Ok(Ok(views)) => all.extend(views.iter().map(|view| Client::new(worker, view))),
            Ok(Err(_)) | Err(_) => {
                let error = format!("worker {worker} does not answer");
                return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response();
            }
        }
    }
    Json(json!({ "clients": all })).into_response()
}

async fn bridges(State(broker): State<Arc<Broker>>) -> Response {
    let statuses: Vec<_> = broker.bridges.lock().values().cloned().collect();
    let all: Vec<_> = statuses
        .iter()
        .map(|status| {
            let stats = status.stats.lock().clone();
            json!({
                "name": status.name,
                "up": stats.up,
                "level": stats.level.map(viaduct_codec::Level::byte),
                "address": stats.address.map(|address| address.to_string()),
                "since_ms": stats.since.as_millis(),
                "connects": stats.connects,
                "messages_in": stats.messages_in,
                "messages_out": stats.messages_out,
                "queued_messages": status.queued.load(Ordering::Relaxed),
                "last_error": stats.last_error.as_ref().map(|(_, error)| error.to_string()),
                "last_error_ms": stats.last_error.as_ref().map(|(at, _)| at.as_millis()),
            })
        })
        .collect();
    Json(json!({ "bridges": all })).into_response()
}

async fn listeners(State(broker): State<Arc<Broker>>) -> Response {
    let all: Vec<_> = broker
        .listeners
        .iter()
        .map(|listener| {
            let policy = listener.policy.load();
            let levels: Vec<u8> = policy.terms.allowed_levels.iter().map(|level| level.byte()).collect();
            json!({
                "name": &*listener.name,
                "address": listener.address,
                "tls": policy.tls.is_some(),
                "allowed_protocol_versions": levels,
                "allow_anonymous": policy.allow_anonymous,
                "connections": listener.connections(),
                "max_connections": policy.max_connections,
            })
        })
        .collect();
    Json(json!({ "listeners": all })).into_response()
}
