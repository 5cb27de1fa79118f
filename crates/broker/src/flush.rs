//! The end of a turn: what the engine has to say is written, once for each connection, and mailed, once for each worker.
//!
//! Without turns a dense message takes ten times the instructions and a system call of its own (docs/hot-path.md).
//!
//! In: that somebody used the engine. Out: bytes on sockets, mail, and the engine's next deadline. A socket that does
//! not take everything is left to its own task, which waits until it does. Must never: wait for a socket, or let one
//! that does not read hold up the others.

use std::rc::Rc;
use std::task::Poll;

use viaduct_codec::Time;
use viaduct_engine::ConnectionId;

use crate::alarm::Alarm;
use crate::connection::{End, Link};
use crate::limits::{CLOSE_GRACE, FLUSH_TURN, SWEEP, WRITE_STALL};
use crate::links::Outlet;
use crate::worker::Worker;

/// Runs for as long as the worker does.
pub(crate) async fn run(worker: Rc<Worker>) {
    let mut alarm = Alarm::new(worker.broker.clock);
    loop {
        alarm.set(worker.engine.borrow().next_timeout());
        let timed_out = std::future::poll_fn(|cx| {
            if alarm.poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            worker.poll_flush_due(cx).map(|()| false)
        })
        .await;
        if timed_out || is_due(&worker) {
            worker.engine.borrow_mut().handle_timeout(worker.now());
        }
        if flush(&worker) {
            worker.flush_soon();
            tokio::task::yield_now().await;
        }
    }
}

/// Whether a deadline has come that no timer needs to wait for: what is to be stored at the end of the turn.
fn is_due(worker: &Worker) -> bool {
    let next = worker.engine.borrow().next_timeout();
    next.is_some_and(|next| next <= worker.now())
}

/// Writes and mails; `true` when there is more than one turn's worth.
fn flush(worker: &Worker) -> bool {
    mail(worker);
    // One look at the clock is near enough for all that is written in a turn.
    let now = worker.now();
    let mut written = 0;
    let mut more = false;
    loop {
        let next = worker.engine.borrow_mut().poll_dirty();
        let Some(id) = next else { break };
        let outlet = worker.links.borrow().get(id);
        match outlet {
            Some(Outlet::Socket(link)) => write(worker, now, id, &link),
            Some(Outlet::Bridge(local)) => local.wake(),
            None => {}
        }
        written += 1;
        if written >= FLUSH_TURN {
            more = true;
            break;
        }
    }
    more
}

/// Sends the mail of the turn. Before anything is written: once a client reads that its message was taken, the message is
/// where the others will look before they handle what is sent after it.
pub(crate) fn mail(worker: &Worker) {
    loop {
        let next = worker.engine.borrow_mut().poll_mail();
        let Some((to, mail)) = next else { return };
        worker.broker.send_mail(to, mail);
    }
}

/// Writes what waits for the connection as far as its socket takes it, and closes it when that was the last.
pub(crate) fn write(worker: &Worker, now: Time, id: ConnectionId, link: &Link) {
    if link.has_ended() {
        return;
    }
    let mut sent = 0;
    let result = {
        let mut engine = worker.engine.borrow_mut();
        let Some(output) = engine.output(id) else { return };
        let mut transport = link.transport.borrow_mut();
        loop {
            let unsent = output.unsent();
            if unsent.is_empty() {
                break transport.try_flush();
            }
            match transport.try_write(unsent) {
                Ok(0) => break Err(std::io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    output.advance(taken);
                    sent += taken;
                }
                Err(error) => break Err(error),
            }
        }
    };
    worker.traffic.bytes_sent.add(sent as u64);
    match result {
        Ok(()) => {
            // What the transport had taken earlier went out only now.
            let was_blocked = link.blocked_since().is_some();
            link.unblock();
            let mut engine = worker.engine.borrow_mut();
            let why = engine.closing(id).map(ToString::to_string);
            if let Some(why) = why {
                drop(engine);
                link.transport.borrow_mut().shut_down();
                worker.closed(id, &why);
                link.end(End::Linger);
            } else if sent > 0 || was_blocked {
                engine.handle_drained(now, id);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => link.block(now, sent > 0),
        Err(error) => {
            worker.closed(id, &format!("writing failed: {error}"));
            link.end(End::Now);
        }
    }
}

/// Closes connections that have taken nothing of what waits for them for too long.
pub(crate) async fn sweep(worker: Rc<Worker>) {
    let mut alarm = Alarm::new(worker.broker.clock);
    loop {
        alarm.after(SWEEP).await;
        let now = worker.now();
        let stuck: Vec<_> = {
            let links = worker.links.borrow();
            let engine = worker.engine.borrow();
            links
                .sockets()
                .filter_map(|(id, link)| {
                    let since = now.since(link.blocked_since()?);
                    let limit = if engine.closing(id).is_some() { CLOSE_GRACE } else { WRITE_STALL };
                    (since >= limit).then(|| (id, Rc::clone(link), engine.peer_of(id).unwrap_or_default()))
                })
                .collect()
        };
        for (id, link, peer) in stuck {
            worker.traffic.stalled.add(1);
            tracing::info!(%peer, "closed: it took nothing of what waits for it for too long");
            worker.closed(id, "it took nothing of what waits for it for too long");
            link.end(End::Now);
        }
    }
}
