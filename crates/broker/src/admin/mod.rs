//! HTTP for operators: metrics, health, and the API.
//!
//! In: requests on `[admin] bind`. Out: numbers and states, and changes of bridges. Metrics and health answer everybody who can
//! reach the address; `access` says who may use the API. Connections, heads and bodies are bounded in number, size and time.
//! Must never: change anything by GET.

mod access;
mod api;
mod bridges;
mod client;
mod params;
mod problem;
mod retained;
mod sessions;
mod view;
mod when;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::control::Orders;
use crate::limits::{
    ACCEPT_BACKOFF_MAX, ADMIN_CHECKS, ADMIN_CONNECTION_LIFE, ADMIN_CONNECTIONS, ADMIN_HEAD_BYTES, ADMIN_HEAD_TIME,
    ADMIN_LAST_ANSWER,
};
use crate::state::Broker;

pub(crate) use access::Access;
pub use client::{Answer, Ask, AskError, ask};

/// What the answers are made of.
#[derive(Clone, Debug)]
struct Desk {
    broker: Arc<Broker>,
    orders: Orders,
    /// Bridges may be checked so many at a time.
    checks: Arc<Semaphore>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

/// Answers until dropped.
pub(crate) async fn serve(broker: Arc<Broker>, orders: Orders, access: Access, socket: TcpListener) {
    let desk = Desk { broker, orders, checks: Arc::new(Semaphore::new(ADMIN_CHECKS)) };
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .nest("/api/v1", api::router(&desk, access))
        .with_state(desk);
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    loop {
        // Who comes when all places are taken waits in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match socket.accept().await {
            Ok((tcp, peer)) => drop(tokio::spawn(answer(tcp, app.clone().layer(Extension(Peer(peer))), place))),
            Err(error) => {
                tracing::warn!(%error, "the admin listener can't accept");
                sleep(ACCEPT_BACKOFF_MAX).await;
            }
        }
    }
}

/// One connection, for as long as it may last.
async fn answer(tcp: TcpStream, app: Router, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEAD_TIME)
        .max_buf_size(ADMIN_HEAD_BYTES)
        .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on a connection is its peer's business.
    if timeout(ADMIN_CONNECTION_LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(ADMIN_LAST_ANSWER, connection).await;
    }
}

async fn metrics(State(desk): State<Desk>) -> Response {
    match crate::metrics::render(&desk.broker) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(State(Desk { broker, .. }): State<Desk>) -> Response {
    let unavailable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if !broker.ready.load(Ordering::Acquire) {
        unavailable("not ready\n".to_owned())
    } else if let Some(why) = crate::storage::trouble(&broker.store) {
        unavailable(format!("the store can't write: {why}\n"))
    } else {
        "ready\n".into_response()
    }
}
