//! `/api/v1/bridges`: each bridge, what it does, and changing it while everything else goes on.
//!
//! In: requests. Out: views of bridges, orders for `control`. Must never: decide what a bridge may be; that is checked where
//! the file is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use viaduct_config::Written;

use super::problem::{Problem, finding};
use super::{Desk, Peer, view};
use crate::bridge::{BridgeStatus, CheckTarget, check_beside};
use crate::control::{Done, Wish};
use crate::limits::{ADMIN_BODY_TIME, BRIDGE_REFRESH};
use crate::mailbox::Letter;
use crate::state::Broker;

pub(super) fn router() -> Router<Desk> {
    Router::new()
        .route("/bridges", get(list).post(add))
        .route("/bridges/{name}", get(show).put(put).post(change).delete(remove))
        .route("/bridges/{name}/start", post(start))
        .route("/bridges/{name}/stop", post(stop))
        .route("/bridges/{name}/revert", post(revert))
        .route("/bridges/{name}/check", post(check))
}

/// The name in the address.
pub(super) struct Name(pub(super) String);

impl<S: Sync + Send> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|error| Problem::malformed(error.to_string()))
    }
}

/// The keys of a bridge in the body.
struct Body(Written);

impl<S: Sync + Send> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_toml = match kind.as_str() {
            "application/json" | "application/merge-patch+json" => false,
            "application/toml" => true,
            _ => {
                let detail = "Content-Type has to be application/json or application/toml";
                let title = "The body is of a kind that is not read";
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", title, detail));
            }
        };
        let bytes = match timeout(ADMIN_BODY_TIME, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let title = "The body is too large";
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title, error.to_string()));
            }
            Ok(Err(error)) => return Err(Problem::malformed(error.to_string())),
            Err(_) => {
                let title = "The body did not come in time";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timed-out", title, "send it at once"));
            }
        };
        let written = if is_toml {
            std::str::from_utf8(&bytes).map_err(|error| error.to_string()).and_then(Written::from_toml)
        } else {
            let json = serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string());
            json.and_then(|json| Written::from_json(&json))
        };
        written.map(Self).map_err(Problem::malformed)
    }
}

/// Waits until the bridges, or the one of that name, have put their numbers there: as they are now, after all that was done.
async fn refresh(broker: &Broker, name: Option<&str>) {
    let (done, mut all_done) = mpsc::channel(1);
    broker.send_all(|| Letter::BridgeNumbers(name.map(str::to_owned), done.clone()));
    drop(done);
    // Nothing is ever sent. One that can't answer in time is shown as it last was.
    let _ = timeout(BRIDGE_REFRESH, all_done.recv()).await;
}

async fn list(State(Desk { broker, .. }): State<Desk>) -> Json<Value> {
    refresh(&broker, None).await;
    let running = broker.running.load_full();
    let now = broker.clock.now();
    let all = running.config().bridges.iter().zip(&running.loaded.bridges).map(|(bridge, written)| {
        let status = broker.bridges.lock().get(&bridge.name).cloned();
        view::bridge(now, bridge, written, &status.unwrap_or_else(|| BridgeStatus::new(&bridge.name)))
    });
    let all: Vec<Value> = all.collect();
    let removed: Vec<&str> = running.source.run_time.removed().collect();
    Json(json!({ "bridges": all, "removed": removed }))
}

/// The bridge as it is now, with what became of an order about it.
async fn shown(desk: &Desk, name: &str, done: Option<&Done>) -> Result<Json<Value>, Problem> {
    refresh(&desk.broker, Some(name)).await;
    let running = desk.broker.running.load_full();
    let (bridge, written) =
        running.bridge(name).ok_or_else(|| Problem::not_found(format!("there is no bridge {name:?}")))?;
    let status = desk.broker.bridges.lock().get(name).cloned().unwrap_or_else(|| BridgeStatus::new(name));
    let mut view = view::whole(desk.broker.clock.now(), bridge, written, &status);
    if let (Some(view), Some(done)) = (view.as_object_mut(), done) {
        view.insert("changed".to_owned(), done.changed.into());
        let warnings: Vec<Value> = done.warnings.iter().map(|warning| finding(warning, Some(name))).collect();
        view.insert("warnings".to_owned(), warnings.into());
    }
    Ok(Json(view))
}

async fn show(State(desk): State<Desk>, Name(name): Name) -> Result<Json<Value>, Problem> {
    shown(&desk, &name, None).await
}

/// Has it done, and says so in the log.
async fn order(desk: &Desk, peer: Peer, name: &str, what: &str, wish: Wish) -> Result<Done, Problem> {
    match desk.orders.bridge(name, wish).await {
        Ok(done) => {
            if done.changed {
                tracing::info!(peer = %peer.0, "bridge \"{name}\": {what} by the API");
            } else {
                tracing::info!(peer = %peer.0, "bridge \"{name}\": to be {what} by the API; it was so already and is left alone");
            }
            Ok(done)
        }
        Err(trouble) => {
            tracing::info!(peer = %peer.0, "bridge {name:?}: not {what} by the API: {trouble}");
            Err(Problem::of(&trouble, Some(name)))
        }
    }
}

/// The answer to what made a bridge, or changed it.
async fn made(desk: &Desk, name: &str, done: &Done) -> Result<Response, Problem> {
    let view = shown(desk, name, Some(done)).await?;
    if !done.is_new {
        return Ok(view.into_response());
    }
    let location = format!("/api/v1/bridges/{}", in_address(name));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], view).into_response())
}

/// `name` as a part of an address.
fn in_address(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

async fn add(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Body(written): Body,
) -> Result<Response, Problem> {
    let name = written.name().map_err(|problem| Problem::value("name", &problem))?.to_owned();
    let done = order(&desk, peer, &name, "added", Wish::Add(written)).await?;
    made(&desk, &name, &done).await
}

async fn put(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(name): Name,
    Body(written): Body,
) -> Result<Response, Problem> {
    let done = order(&desk, peer, &name, "put", Wish::Put(written)).await?;
    made(&desk, &name, &done).await
}

async fn change(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(name): Name,
    Body(patch): Body,
) -> Result<Response, Problem> {
    let done = order(&desk, peer, &name, "changed", Wish::Change(patch)).await?;
    made(&desk, &name, &done).await
}

async fn remove(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(name): Name,
) -> Result<StatusCode, Problem> {
    order(&desk, peer, &name, "removed", Wish::Remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn start(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(name): Name,
) -> Result<Json<Value>, Problem> {
    let done = order(&desk, peer, &name, "started", Wish::Switch(true)).await?;
    shown(&desk, &name, Some(&done)).await
}

async fn stop(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(name): Name,
) -> Result<Json<Value>, Problem> {
    let done = order(&desk, peer, &name, "stopped", Wish::Switch(false)).await?;
    shown(&desk, &name, Some(&done)).await
}

async fn revert(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Name(name): Name,
) -> Result<Json<Value>, Problem> {
    let done = order(&desk, peer, &name, "reverted", Wish::Revert).await?;
    shown(&desk, &name, Some(&done)).await
}

/// The steps of `viaduct bridge check`, in this process.
async fn check(State(desk): State<Desk>, Name(name): Name) -> Result<Json<Value>, Problem> {
    let running = desk.broker.running.load_full();
    if running.bridge(&name).is_none() {
        return Err(Problem::not_found(format!("there is no bridge {name:?}")));
    }
    let permit = Arc::clone(&desk.checks).try_acquire_owned().map_err(|_| {
        let title = "Too many bridges are being checked";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", title, "wait until another check has ended")
    })?;
    let (of, guests) = (name.clone(), Arc::clone(&desk.broker.guests));
    let checked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut lines = Vec::new();
        let works = match running.bridge(&of) {
            Some((bridge, _)) => {
                check_beside(CheckTarget { config: running.config(), bridge }, Some(&guests), &mut lines)?
            }
            None => false,
        };
        Ok::<_, std::io::Error>((works, lines))
    });
    match checked.await.map_err(std::io::Error::other).flatten() {
        Ok((works, lines)) => {
            let steps: Vec<Value> = String::from_utf8_lossy(&lines).lines().map(step).collect();
            Ok(Json(json!({ "name": name, "works": works, "steps": steps })))
        }
        Err(error) => Err(Problem::unavailable(format!("the check can't be run: {error}"))),
    }
}

/// A line of the check, taken apart.
fn step(line: &str) -> Value {
    if let Some((step, detail)) = line.split_once(": FAIL: ") {
        return json!({ "step": step, "ok": false, "detail": detail, "line": line });
    }
    if let Some((step, detail)) = line.split_once(": ok (") {
        return json!({ "step": step, "ok": true, "detail": detail.strip_suffix(')').unwrap_or(detail), "line": line });
    }
    json!({ "line": line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_check_are_taken_apart() {
        let detail = "127.0.0.1:1883 (it)";
        assert_eq!(step(&format!("tcp: ok ({detail})"))["detail"], detail);
        assert_eq!(step("level 5: FAIL: the remote: no")["detail"], "the remote: no");
        assert_eq!(step("level 5: FAIL: the remote: no")["ok"], false);
        assert_eq!(step("mqtt://hub:1883"), json!({ "line": "mqtt://hub:1883" }));
    }

    #[test]
    fn a_name_is_one_part_of_an_address() {
        assert_eq!(in_address("hub-1.a_b~"), "hub-1.a_b~");
        assert_eq!(in_address("a b?%ü"), "a%20b%3F%25%C3%BC");
    }
}
