//! Several replicas of message-svc behind one gateway: each room at its own, and the ring changing under load. Whatever
//! moves, every reader hears every entry once and in order ([`Reader`] sees to that).

use std::collections::HashSet;

use super::*;

const ROOMS: usize = 24;

/// Rooms with a socket in each, and what it has heard.
struct Crowd {
    bench: Bench,
    rooms: Vec<(Uuid, FakeLink, Reader)>,
}

impl Crowd {
    async fn start(replicas: usize) -> Self {
        let bench = Bench::with(FakeMesh::start_many(replicas, |_| ()));
        let known = || bench.mesh.edge.clients.message_replicas().now().iter().count();
        until("all replicas are known", || known() == replicas).await;
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            let (session, link) = session(FakeLink::new(4_096));
            let room = Uuid::new_v4();
            bench.join(&session, room, None).await.expect("joined");
            rooms.push((room, link, Reader::default()));
        }
        let crowd = Self { bench, rooms };
        crowd.settled(&(0..replicas).collect::<Vec<_>>()).await;
        crowd
    }

    /// The number of the replica that a room belongs to, as the gateway sees it now.
    fn owner(&self, room: Uuid) -> Option<usize> {
        let owner = self.bench.mesh.edge.clients.message_replicas().now().owner(room)?.address();
        let ring = self.bench.mesh.ring.lock().expect("lock");
        ring.iter().find(|(_, server)| server.is_at(owner)).map(|(number, _)| *number)
    }

    /// Waits until each room is followed at its owner, which is one of these replicas, and nowhere else.
    async fn settled(&self, replicas: &[usize]) {
        let messages = self.bench.mesh.messages.clone();
        until("every room is followed at its owner alone", || {
            let right = replicas.iter().all(|number| {
                let owned = self.rooms.iter().filter(|(room, ..)| self.owner(*room) == Some(*number));
                messages.followed_at(*number) == owned.map(|(room, ..)| room.to_string()).collect::<HashSet<_>>()
            });
            right && messages.followed() == ROOMS
        })
        .await;
    }

    /// Writes to every room.
    fn write(&self) {
        for (room, ..) in &self.rooms {
            self.bench.mesh.messages.write(*room, "more");
        }
    }

    /// Waits until the condition holds, with every room growing all the while.
    async fn write_until(&self, what: &str, mut so: impl FnMut() -> bool) {
        until(what, || {
            self.write();
            so()
        })
        .await;
    }

    /// Every reader has everything.
    async fn read(&mut self) {
        for (room, link, reader) in &mut self.rooms {
            reader.reads_to(link, self.bench.mesh.messages.last_seq(*room)).await;
        }
    }

    fn followed_at(&self, number: usize) -> usize {
        self.bench.mesh.messages.followed_at(number).len()
    }
}

#[tokio::test]
async fn rooms_follow_the_ring_without_a_gap_when_replicas_come_and_go() {
    let mut crowd = Crowd::start(2).await;
    crowd.write();
    crowd.bench.mesh.add(2);
    crowd.write_until("the new replica has rooms", || crowd.followed_at(2) > 0).await;
    crowd.settled(&[0, 1, 2]).await;
    crowd.write();
    crowd.read().await;

    // One is taken out of the name and runs on: it is left only when its rooms are followed elsewhere.
    crowd.bench.mesh.unname(0);
    crowd.write_until("the replica has no rooms any more", || crowd.followed_at(0) == 0).await;
    crowd.settled(&[1, 2]).await;
    crowd.write();
    crowd.read().await;
}

#[tokio::test]
async fn the_rooms_of_a_dead_replica_move_to_the_next_and_come_back_with_it() {
    let mut crowd = Crowd::start(3).await;
    crowd.write();
    let address = crowd.bench.mesh.kill(1);
    crowd.write_until("the others follow all rooms", || crowd.followed_at(0) + crowd.followed_at(2) == ROOMS).await;
    crowd.settled(&[0, 2]).await;
    crowd.write();
    crowd.read().await;

    crowd.bench.mesh.revive(1, address);
    crowd.write_until("it has rooms again", || crowd.followed_at(1) > 0).await;
    crowd.settled(&[0, 1, 2]).await;
    crowd.write();
    crowd.read().await;
}

#[tokio::test]
async fn what_names_a_room_goes_to_its_replica_and_to_the_next_while_that_is_dead() {
    let crowd = Crowd::start(2).await;
    let (session, link) = session(FakeLink::new(4_096));
    let messages = &crowd.bench.mesh.messages;
    messages.calls();
    for killed in [false, true] {
        if killed {
            crowd.bench.mesh.kill(0);
        }
        let before = messages.typing().len();
        for (room, ..) in &crowd.rooms {
            let message = serde_json::json!({"roomId": room, "content": "hello"});
            events::receive(&crowd.bench.hub, &session, format!(r#"21["send_message",{message}]"#).into());
            let typing = serde_json::json!({"roomId": room});
            events::receive(&crowd.bench.hub, &session, format!(r#"21["typing_start",{typing}]"#).into());
        }
        until("all have come in", || messages.typing().len() == before + ROOMS).await;
        let acks = link.take();
        assert!(acks.iter().all(|ack| ack.starts_with(r#"31[{"success":true"#)), "{acks:?}");
        let owners: HashSet<_> = crowd.rooms.iter().map(|(room, ..)| (crowd.owner(*room), room.to_string())).collect();
        let calls = messages.calls();
        assert_eq!(calls.len(), 2 * ROOMS, "each once");
        for (replica, room) in calls {
            assert!(owners.contains(&(Some(replica), room)), "a call came to replica {replica} and not to its room's");
        }
    }
}
