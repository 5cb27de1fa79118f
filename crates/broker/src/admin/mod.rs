//! HTTP for operators: metrics, health, and a first, reading API.
//!
//! In: requests on `[admin] bind`. Out: numbers and states. Metrics and health answer everybody who can reach the
//! address; the API asks for the token where there is one, and without one answers loopback only. Must never: change
//! anything by GET.

mod api;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::Broker;

/// Who may use the API.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// Whoever knows the token.
    Token(Arc<[u8]>),
    /// Whoever reaches a loopback address.
    Open,
    /// Nobody: it is not loopback and there is no token.
    Closed,
}

impl Access {
    /// By the address and the content of the token file.
    pub(crate) fn new(bind: SocketAddr, token: Option<Vec<u8>>) -> Self {
        match token {
            Some(token) => Self::Token(token.into()),
            None if bind.ip().is_loopback() => Self::Open,
            None => Self::Closed,
        }
    }
}

/// Answers until dropped.
pub(crate) async fn serve(broker: Arc<Broker>, access: Access, socket: tokio::net::TcpListener) {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .nest("/api/v1", api::router(access))
        .with_state(broker);
    if let Err(error) = axum::serve(socket, app).await {
        tracing::error!(%error, "the admin listener ended");
    }
}

async fn metrics(State(broker): State<Arc<Broker>>) -> Response {
    match crate::metrics::render(&broker) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(broker): State<Arc<Broker>>) -> Response {
    let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if !broker.ready.load(Ordering::Acquire) {
        unavailable("not ready\n".to_owned())
    } else if let Some(why) = crate::storage::trouble(&broker.store) {
        unavailable(format!("the store can't write: {why}\n"))
    } else {
        "ready\n".into_response()
    }
}
