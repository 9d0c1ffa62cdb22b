//! Sends of sockets on their way to message-svc: together, in their order, each once, whatever breaks on the way.

use super::*;

/// One socket and the room that it sends into.
struct Sender {
    bench: Bench,
    room: Uuid,
    session: Arc<Session>,
    link: FakeLink,
    /// What was answered, by the number of the send.
    acks: Vec<(usize, Value)>,
}

impl Sender {
    async fn start_with(change: impl FnOnce(&mut crate::config::GatewayConfig)) -> Self {
        let bench = Bench::with(FakeMesh::start_with(change).await);
        let (session, link) = session(FakeLink::new(4_096));
        Self { bench, room: Uuid::new_v4(), session, link, acks: Vec::new() }
    }

    /// Sends each of these numbers as a message of its own, without waiting for anything.
    fn send(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let payload = serde_json::json!({"roomId": self.room, "content": number.to_string()});
            self.event(number, "send_message", &payload);
        }
    }

    fn event(&self, number: usize, name: &str, payload: &Value) {
        events::receive(&self.bench.hub, &self.session, format!(r#"2{number}["{name}",{payload}]"#).into());
    }

    /// Waits until so many are answered.
    async fn answered(&mut self, count: usize) {
        let (link, acks) = (&self.link, &mut self.acks);
        until("all are answered", || {
            for frame in link.take() {
                let (number, ack) = frame.strip_prefix('3').and_then(|frame| frame.split_once('[')).expect("an ack");
                let ack = serde_json::from_str::<Value>(&format!("[{ack}")).expect("JSON")[0].take();
                acks.push((number.parse().expect("a number"), ack));
            }
            acks.len() >= count
        })
        .await;
    }

    fn code(&self, number: usize) -> &str {
        let (_, ack) = self.acks.iter().find(|(one, _)| *one == number).expect("an answer");
        if ack["success"] == true { "ok" } else { ack["code"].as_str().expect("a code") }
    }

    fn stored(&self) -> Vec<String> {
        self.bench.mesh.messages.contents(self.room)
    }
}

fn numbers(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn sends_that_wait_go_together_in_their_order_up_to_the_limit() {
    let mut sender = Sender::start_with(|config| config.realtime.sends_max = 4).await;
    sender.send(0..10);
    sender.answered(10).await;
    assert_eq!(sender.stored(), numbers(0..10));
    assert_eq!(sender.bench.mesh.messages.bundles(), [4, 4, 2]);
    assert!(sender.acks.iter().enumerate().all(|(place, (number, _))| place == *number), "answered in their order");
}

#[tokio::test]
async fn what_follows_sends_waits_for_them() {
    let mut sender = Sender::start_with(|_| ()).await;
    sender.send(0..3);
    sender.event(3, "typing_start", &serde_json::json!({"roomId": sender.room}));
    sender.send(4..6);
    sender.answered(6).await;
    assert_eq!(sender.acks.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(sender.bench.mesh.messages.bundles(), [3, 2]);
}

#[tokio::test]
async fn a_break_in_the_middle_changes_no_order_and_repeats_nothing() {
    let mut sender = Sender::start_with(|_| ()).await;
    sender.bench.mesh.messages.break_sends_after(7);
    sender.send(0..20);
    sender.answered(20).await;
    assert_eq!(sender.stored(), numbers(0..20));
    assert!((0..20).all(|number| sender.code(number) == "ok"));
    assert_eq!(sender.bench.mesh.messages.bundles(), [20, 20], "all are sent again, for nobody knows what was taken");
}

#[tokio::test]
async fn a_send_that_was_overtaken_is_refused_and_one_that_was_not_is_sent_again() {
    let mut sender = Sender::start_with(|_| ()).await;
    sender.bench.mesh.messages.refuse_once("1");
    sender.bench.mesh.messages.refuse_once("3");
    sender.send(0..4);
    sender.answered(4).await;
    assert_eq!([0, 1, 2, 3].map(|number| sender.code(number)), ["ok", "UNAVAILABLE", "ok", "ok"]);
    assert_eq!(sender.stored(), numbers([0, 2, 3]));
}

#[tokio::test]
async fn a_replica_that_does_not_answer_one_socket_in_time_answers_the_others_and_the_next_send() {
    let mut sender = Sender::start_with(|config| config.call_timeout_ms = 500).await;
    sender.bench.mesh.messages.hold("0");
    sender.send(0..2);
    let (other, other_link) = session(FakeLink::new(16));
    let payload = serde_json::json!({"roomId": Uuid::new_v4(), "content": "of another socket"});
    events::receive(&sender.bench.hub, &other, format!(r#"20["send_message",{payload}]"#).into());
    until("the other is answered", || other_link.take().iter().any(|ack| ack.contains(r#""success":true"#))).await;
    sender.answered(2).await;
    assert_eq!([0, 1].map(|number| sender.code(number)), ["DEADLINE_EXCEEDED"; 2]);
    sender.send(2..3);
    sender.answered(3).await;
    assert_eq!((sender.code(2), sender.stored()), ("ok", numbers([2])));
}

#[tokio::test]
async fn a_bad_send_among_good_ones_is_refused_alone() {
    let mut sender = Sender::start_with(|_| ()).await;
    sender.send(0..1);
    sender.event(1, "send_message", &serde_json::json!({"roomId": sender.room}));
    sender.send(2..3);
    sender.answered(3).await;
    assert_eq!([0, 1, 2].map(|number| sender.code(number)), ["ok", "VALIDATION_FAILED", "ok"]);
    assert_eq!(sender.stored(), numbers([0, 2]));
}
