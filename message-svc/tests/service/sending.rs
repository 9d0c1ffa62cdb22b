//! Sending by bundles, as gateways do: what comes of each message is what `SendMessage` would have answered.

use mesh::{
    error::{Reason, Refusal},
    proto::message::v1::{send_outcome::Outcome, *},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::world::{Person, World, soon};

/// A gateway's stream.
struct Stream {
    requests: mpsc::Sender<SendMessagesRequest>,
    answers: Streaming<SendMessagesResponse>,
}

impl Stream {
    async fn open(world: &World) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let (mut client, request) = world.sends(ReceiverStream::new(receiver)).await;
        let answers = client.send_messages(request).await.expect("a gateway may").into_inner();
        Self { requests, answers }
    }

    async fn send(&self, bundles: Vec<SendBundle>) {
        self.requests.send(SendMessagesRequest { bundles }).await.expect("it is read");
    }

    /// The answers of so many bundles, by their numbers.
    async fn answers(&mut self, count: usize) -> Vec<SendBundleResult> {
        let mut results = Vec::new();
        while results.len() < count {
            let answer = soon("an answer", self.answers.message()).await.expect("no break").expect("no end");
            results.extend(answer.results);
        }
        results.sort_by_key(|result| result.id);
        results
    }

    async fn answer(&mut self) -> Vec<Result<SendMessageResponse, Refusal>> {
        outcomes(self.answers(1).await.remove(0))
    }
}

fn outcomes(result: SendBundleResult) -> Vec<Result<SendMessageResponse, Refusal>> {
    let outcomes = result.outcomes.into_iter().map(|outcome| match outcome.outcome.expect("an outcome") {
        Outcome::Sent(sent) => Ok(sent),
        Outcome::Refused(SendRefusal { code, message, details }) => {
            Err(Refusal::from_status(&Status::with_details(Code::from_i32(code), message, details.into())))
        }
    });
    outcomes.collect()
}

fn message(room: &str, content: &str, id: &str) -> SendMessageRequest {
    SendMessageRequest {
        room_id: room.into(),
        content: content.into(),
        client_message_id: id.into(),
        ..SendMessageRequest::default()
    }
}

fn bundle(id: u64, who: &Person, messages: Vec<SendMessageRequest>) -> SendBundle {
    SendBundle { id, token: who.assertion(), timeout_ms: 0, messages, traceparent: String::new() }
}

fn reasons(outcomes: &[Result<SendMessageResponse, Refusal>]) -> Vec<Option<Reason>> {
    outcomes.iter().map(|outcome| outcome.as_ref().err().map(|refusal| refusal.reason)).collect()
}

#[tokio::test]
async fn a_bundle_is_taken_in_its_order_and_each_of_its_messages_once() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("bundles", RoomType::Public).await;
    let mut stream = Stream::open(&world).await;
    let messages = [("a", "0"), ("b", "1"), (" ", "2"), ("c", "3"), ("other", "0")];
    let messages: Vec<_> = messages.iter().map(|(content, id)| message(&room, content, id)).collect();
    for replayed in [false, true] {
        stream.send(vec![bundle(7, &ada, messages.clone())]).await;
        let outcomes = stream.answer().await;
        assert_eq!(reasons(&outcomes), [None, None, Some(Reason::ValidationFailed), None, None]);
        assert_eq!(outcomes[2].as_ref().expect_err("refused").violations[0].field, "content");
        let sent: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
        assert_eq!(sent.iter().map(|sent| sent.replayed).collect::<Vec<_>>(), [replayed, replayed, replayed, true]);
        let seqs: Vec<_> = sent.iter().map(|sent| sent.message.as_ref().expect("a message").seq).collect();
        assert_eq!(seqs, [seqs[0], seqs[0] + 1, seqs[0] + 2, seqs[0]]);
        assert!(sent.iter().all(|sent| sent.message.as_ref().is_some_and(|message| message.username == "ada")));
    }
    let page = ada.history(&room, None, 50).await.expect("history");
    let contents: Vec<_> = page.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["a", "b", "c"]);
    world.stop().await;
}

#[tokio::test]
async fn bundles_of_one_stream_are_of_many_users_and_each_may_do_what_its_user_may() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada"), world.person("bob"));
    let room = ada.create("hers", RoomType::Public).await;
    let one = |text: &str| vec![message(&room, text, text)];
    let mut stream = Stream::open(&world).await;
    let nobody = SendBundle {
        id: 2,
        token: "x.y.z".into(),
        timeout_ms: 0,
        messages: one("nobody's"),
        traceparent: "no traceparent".into(),
    };
    let service = SendBundle {
        id: 3,
        token: world.assertion(),
        timeout_ms: 0,
        messages: one("a service's"),
        traceparent: String::new(),
    };
    stream.send(vec![bundle(0, &ada, one("hers")), bundle(1, &bob, one("his")), nobody, service]).await;
    let refused: Vec<_> = stream.answers(4).await.into_iter().map(|result| reasons(&outcomes(result))[0]).collect();
    let expected = [None, Some(Reason::NotAMember), Some(Reason::TokenInvalid), Some(Reason::Unauthorized)];
    assert_eq!(refused, expected);
    world.stop().await;
}

#[tokio::test]
async fn only_gateways_may_open_the_stream() {
    let world = World::start().await;
    let (_requests, receiver) = mpsc::channel::<SendMessagesRequest>(1);
    let (mut client, _) = world.sends(ReceiverStream::new(receiver)).await;
    let (_requests, receiver) = mpsc::channel(1);
    let request = world.person("ada").stream_request(ReceiverStream::new(receiver));
    let status = client.send_messages(request).await.expect_err("a user may not");
    assert_eq!(Refusal::from_status(&status).reason, Reason::Forbidden);
    let (_requests, receiver) = mpsc::channel(1);
    let status = client.send_messages(ReceiverStream::new(receiver)).await.expect_err("a stranger may not");
    assert_eq!(Refusal::from_status(&status).reason, Reason::Unauthorized);
    world.stop().await;
}

#[tokio::test]
async fn a_bundle_is_bounded_and_what_is_in_progress_on_a_stream_too() {
    let world = crate::world::Ground::new().await.serve(|config| config.message.sends.in_progress_max = 256).await;
    let ada = world.person("ada");
    let room = ada.create("many", RoomType::Public).await;
    let many = |count: usize| (0..count).map(|place| message(&room, "x", &place.to_string())).collect::<Vec<_>>();
    let mut stream = Stream::open(&world).await;
    stream.send(vec![bundle(0, &ada, many(257)), bundle(1, &ada, many(256)), bundle(2, &ada, Vec::new())]).await;
    let results = stream.answers(3).await;
    let refused: Vec<_> = results.into_iter().map(|result| reasons(&outcomes(result))).collect();
    assert_eq!(refused, [vec![Some(Reason::ValidationFailed); 257], vec![None; 256], Vec::new()]);
    // Far more than may be in progress at once: it is all done, a part at a time.
    for id in 3..11 {
        stream.send(vec![bundle(id, &ada, many(256))]).await;
    }
    assert!(stream.answers(8).await.into_iter().all(|result| outcomes(result).iter().all(Result::is_ok)));
    world.stop().await;
}

#[tokio::test]
async fn a_bundle_that_is_late_is_told_so() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("late", RoomType::Public).await;
    let mut stream = Stream::open(&world).await;
    // Nobody can say who this is, and it takes a while to find out.
    let stranger = world.person("stranger");
    *world.people.lock().expect("lock") = None;
    let late = SendBundle { timeout_ms: 1, ..bundle(0, &stranger, vec![message(&room, "x", "x")]) };
    stream.send(vec![late]).await;
    assert_eq!(reasons(&stream.answer().await), [Some(Reason::DeadlineExceeded)]);
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_has_taken_and_ends_the_stream() {
    let world = World::start().await;
    let ada = world.person("ada");
    let room = ada.create("until the end", RoomType::Public).await;
    let mut stream = Stream::open(&world).await;
    stream.send(vec![bundle(0, &ada, vec![message(&room, "x", "x")])]).await;
    assert_eq!(reasons(&stream.answer().await), [None]);
    let stopping = tokio::spawn(world.stop());
    assert!(soon("the end", stream.answers.message()).await.expect("no break").is_none());
    stopping.await.expect("no panic");
}
