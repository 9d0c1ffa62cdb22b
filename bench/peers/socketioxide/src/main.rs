//! Bare socketioxide and axum: rooms in memory, nothing stored, nobody checked, the library's own broadcast. It is the
//! ceiling of what a service on that library reaches; bench/peers/README.md says which settings it has and why.

use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, routing::get};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use peer::{Ack, Join, Message, Refusal, Room, RoomRef, Send, Sent};
use serde::Serialize;
use serde_json::json;
use socketioxide::{
    SocketIo, TransportType,
    extract::{AckSender, Data, SocketRef, State, TryData},
    layer::SocketIoLayer,
};
use tokio::net::{TcpListener, TcpStream};

/// Packets that may wait for one socket. The library drops what comes after that without a word, so it is far above
/// what a burst of the scenarios needs; memory is taken only by what waits.
const QUEUED_PACKETS_MAX: usize = 4096;

/// Without files or memory, accepting fails at once again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The number of each room's last message.
#[derive(Clone, Default)]
struct Sequences(Arc<RwLock<HashMap<String, AtomicU64>>>);

impl Sequences {
    fn last(&self, room: &str) -> u64 {
        let rooms = self.0.read().expect("nothing panics with the lock");
        rooms.get(room).map_or(0, |last| last.load(Ordering::Relaxed))
    }

    fn next(&self, room: &str) -> u64 {
        if let Some(last) = self.0.read().expect("nothing panics with the lock").get(room) {
            return last.fetch_add(1, Ordering::Relaxed) + 1;
        }
        let mut rooms = self.0.write().expect("nothing panics with the lock");
        rooms.entry(room.to_owned()).or_default().fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (layer, io) = socket_io();
    io.ns("/", on_connect);
    let app = Router::new().route("/health", get(async || Json(json!({ "status": "ok" })))).layer(layer);

    let listening = peer::listen()?;
    listening.ready();
    tokio::select! {
        stopped = peer::stopped() => stopped?,
        () = accept(&listening.listener, app) => {}
    }
    Ok(())
}

fn socket_io() -> (SocketIoLayer, SocketIo) {
    SocketIo::builder()
        .req_path("/socket")
        .transports([TransportType::Websocket])
        .max_buffer_size(QUEUED_PACKETS_MAX)
        .ws_read_buffer_size(512)
        .ws_max_message_size(64 * 1024)
        .ws_max_frame_size(64 * 1024)
        .with_state(Sequences::default())
        .build_layer()
}

/// Events are handled from before the connection is answered, so that none is lost.
async fn on_connect(socket: SocketRef) {
    socket.on("join_room", join);
    socket.on("leave_room", leave);
    socket.on("send_message", send);
}

async fn join(socket: SocketRef, TryData(room): TryData<RoomRef>, State(sequences): State<Sequences>, ack: AckSender) {
    let Ok(RoomRef { room_id }) = room else { return answer(ack, &Refusal::INVALID) };
    socket.join(room_id.clone());
    let last_seq = sequences.last(&room_id);
    answer(ack, &Join::new(Room { id: room_id, last_seq }));
}

async fn leave(socket: SocketRef, Data(RoomRef { room_id }): Data<RoomRef>, ack: AckSender) {
    socket.leave(room_id);
    answer(ack, &Ack::default());
}

async fn send(
    io: SocketIo,
    socket: SocketRef,
    TryData(send): TryData<Send>,
    State(sequences): State<Sequences>,
    ack: AckSender,
) {
    let Ok(send) = send else { return answer(ack, &Refusal::INVALID) };
    let room = send.room_id.clone();
    if !socket.rooms().iter().any(|joined| *joined == room) {
        return answer(ack, &Refusal::NOT_A_MEMBER);
    }
    let message = Message::new(send, sequences.next(&room), socket.id.as_str());
    // An error tells of sockets that had gone or were full; the others have it.
    drop(io.to(room).emit("new_message", &message).await);
    answer(ack, &Sent::new(&message));
}

/// Answers, unless the client has gone.
fn answer<T: Serialize>(ack: AckSender, data: &T) {
    drop(ack.send(data));
}

/// `axum::serve` sets no `TCP_NODELAY` and takes more memory for a socket than hyper by itself.
async fn accept(listener: &TcpListener, app: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if stream.set_nodelay(true).is_ok() {
                    tokio::spawn(serve(stream, app.clone()));
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, app: Router) {
    let service = TowerToHyperService::new(app);
    // Clients that break off are no news.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await);
}
