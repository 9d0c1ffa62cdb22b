//! A session by HTTP long-polling: a GET waits for what there is to fetch, a POST brings what the client sends, and one
//! task keeps the heartbeat and notices the end. A GET that is given up, a second one beside the first and a POST beside
//! another end the session, as with the reference server: packets may have been lost on the way.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::Instant;

use super::{
    Engine, Heard, Owner,
    pulse::Due,
    request::{Fault, answer},
    socket::{Ending, Socket, State, Wire},
};
use crate::realtime::meter::Closed;

/// Between the packets of one answer, or of one request.
const SEPARATOR: char = '\u{1e}';
/// What a client gets to fetch its last word.
const LAST_POLL: Duration = Duration::from_millis(500);
/// The packets that say that there is no more, and nothing.
const CLOSE: &str = "1";
const NOOP: &str = "6";

/// Keeps the heartbeat of a session until it has ended, or moved to WebSocket.
pub(super) async fn attend(mut owner: Owner) {
    let socket = Arc::clone(&owner.socket);
    let changed = match &socket.state().wire {
        Wire::Polling(polling) => Arc::clone(&polling.changed),
        Wire::WebSocket => return,
    };
    let mut last = None;
    loop {
        let (moved, ending) = {
            let state = socket.state();
            (matches!(state.wire, Wire::WebSocket), state.ending)
        };
        if moved {
            owner.hand_over();
            return;
        }
        let at = match ending {
            Ending::Over => return,
            Ending::Last(_) => *last.get_or_insert_with(|| Instant::now() + LAST_POLL),
            Ending::No => match owner.beat() {
                (Due::End, _) => return,
                (Due::Ping | Due::Nothing, at) => at,
            },
        };
        if last.is_some_and(|last| last <= Instant::now()) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = changed.notified() => {}
        }
    }
}

/// What one poll has a right to: it is told of its end also when the client gives it up.
struct Turn<'a> {
    socket: &'a Socket,
    answered: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // What it would have brought, or has brought in part, is lost.
            self.socket.end(Closed::Client);
        }
    }
}

/// Waits until there is something to fetch.
pub(super) async fn poll(engine: &Engine, socket: &Socket) -> Response {
    if let Err(fault) = begin(socket, |polling| &mut polling.polled) {
        return fault.response();
    }
    let mut turn = Turn { socket, answered: false };
    let bytes_max = engine.config().frame_bytes_max;
    let text = std::future::poll_fn(|cx| socket.state().poll_payload(cx, bytes_max)).await;
    turn.answered = true;
    answer(StatusCode::OK, "text/plain; charset=UTF-8", text)
}

/// Takes what the client sends.
pub(super) async fn post(engine: &Arc<Engine>, socket: &Arc<Socket>, request: Request<Body>) -> Response {
    if let Err(fault) = begin(socket, |polling| &mut polling.posting) {
        return fault.response();
    }
    let mut turn = Turn { socket, answered: false };
    // Version 4 of the protocol sends no bare bytes by polling.
    let bare = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream");
    if bare {
        return refuse(socket);
    }
    let body = Limited::new(request.into_body(), engine.config().frame_bytes_max).collect().await;
    if let Some(polling) = socket.state().polling() {
        polling.posting = false;
    }
    let body = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            turn.answered = true;
            return answer(StatusCode::PAYLOAD_TOO_LARGE, "text/plain; charset=UTF-8", "");
        }
        // The client has gone in the middle of it; nobody reads this.
        Err(_) => return Fault::BadRequest.response(),
    };
    let Ok(text) = std::str::from_utf8(&body) else { return refuse(socket) };
    turn.answered = true;
    for packet in text.split(SEPARATOR) {
        // The base64 of an attachment, whose event was refused when its text came.
        if packet.starts_with('b') {
            continue;
        }
        match engine.hear(socket, packet) {
            Heard::Taken | Heard::Beat(_) => {}
            Heard::Left => {
                if let Some(polling) = socket.state().polling() {
                    polling.left = true;
                }
                socket.end(Closed::Client);
                break;
            }
            Heard::Malformed => return refuse(socket),
        }
    }
    // As the reference server has it; `text/plain` made some clients offer it as a file.
    answer(StatusCode::OK, "text/html", "ok")
}

/// A request against the protocol ends the session.
fn refuse(socket: &Socket) -> Response {
    socket.end(Closed::Protocol);
    Fault::BadRequest.response()
}

/// Takes the one place that there is for a request of this kind.
fn begin(socket: &Socket, place: impl Fn(&mut super::socket::Polling) -> &mut bool) -> Result<(), Fault> {
    let mut state = socket.state();
    if state.ending == Ending::Over {
        return Err(Fault::UnknownSession);
    }
    let place = place(state.polling().ok_or(Fault::BadRequest)?);
    if std::mem::replace(place, true) {
        drop(state);
        socket.end(Closed::Protocol);
        return Err(Fault::BadRequest);
    }
    Ok(())
}

impl State {
    /// The answer to a poll, as soon as there is one.
    fn poll_payload(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<String> {
        self.listen(cx.waker());
        let text = match &mut self.wire {
            Wire::WebSocket => NOOP.to_owned(),
            Wire::Polling(polling) => match self.ending {
                Ending::Over => if polling.left { NOOP } else { CLOSE }.to_owned(),
                Ending::No if self.queue.is_empty() && polling.probed => NOOP.to_owned(),
                Ending::No if self.queue.is_empty() => return Poll::Pending,
                Ending::No | Ending::Last(_) => self.payload(bytes_max),
            },
        };
        if let Wire::Polling(polling) = &mut self.wire {
            polling.polled = false;
        }
        Poll::Ready(text)
    }

    /// The packets that wait, as many as one answer may have; the last one of a session that ends says so.
    fn payload(&mut self, bytes_max: usize) -> String {
        let mut text = String::new();
        while let Some(packet) = self.queue.front().and_then(|frame| frame.packet()) {
            if !text.is_empty() && text.len() + packet.len() >= bytes_max {
                return text;
            }
            append(&mut text, packet);
            self.queue.pop_front();
            self.waiting = self.waiting.saturating_sub(1);
        }
        if matches!(self.ending, Ending::Last(_)) {
            append(&mut text, CLOSE);
            self.finish(Ending::Over);
        }
        text
    }
}

fn append(text: &mut String, packet: &str) {
    let separator = if text.is_empty() { None } else { Some(SEPARATOR) };
    text.extend(separator);
    text.push_str(packet);
}
