//! `/api/v1`: what is listened on, reading the configuration again; the rest is in rooms of its own.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::problem::{Problem, finding};
use super::{Access, Desk, bridges, retained, sessions};
use crate::limits::ADMIN_BODY_BYTES;

pub(super) fn router(desk: &Desk, access: Access) -> Router<Desk> {
    let broker = Arc::clone(&desk.broker);
    Router::new()
        .route("/listeners", get(listeners))
        .route("/reload", post(reload))
        .merge(bridges::router())
        .merge(sessions::router())
        .merge(retained::router())
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
