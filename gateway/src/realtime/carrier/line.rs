//! The stream of sends to one replica of message-svc: what waits is written together, answers are handed to whoever waits
//! for them, and when the stream breaks, all who wait are told at once. It is opened for the first bundle, and again for
//! the first one after a break.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh::{
    client::{self, Clients, Replica},
    identity::{Identity, ServiceName},
    proto::message::v1::{
        SendBundle, SendBundleResult, SendMessageResponse, SendMessagesRequest, SendMessagesResponse, SendOutcome,
        SendRefusal, send_outcome::Outcome,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Bundle, Outcomes};

/// Bundles that are written together.
const TOGETHER: usize = 512;
/// Bytes of content and metadata over which no further bundle is put into one request: a quarter of what a gRPC message
/// may have.
const REQUEST_BYTES: usize = 1 << 20;
/// Requests that wait for the connection; behind them bundles gather.
const REQUESTS: usize = 2;

/// Who waits for the answer of a bundle that was written, by the bundle's number.
#[derive(Default)]
struct UnderWay(Mutex<HashMap<u64, oneshot::Sender<Result<Outcomes, Status>>>>);

impl UnderWay {
    fn all(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Outcomes, Status>>>> {
        // Nothing that could panic half-way runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the bundles of one replica for as long as anybody may have some.
pub(super) async fn keep(
    replica: Arc<Replica>,
    identity: Arc<Identity>,
    clients: Clients,
    mut waiting: mpsc::Receiver<Bundle>,
) {
    let mut bundles = Vec::new();
    while waiting.recv_many(&mut bundles, TOGETHER).await > 0 {
        let under_way = UnderWay::default();
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let bearer = identity.assertion(ServiceName::Message, None);
        let mut client = clients.sends_at(&replica);
        let opening = client.send_messages(client::stream_request(ReceiverStream::new(receiver), &bearer));
        let given_up = replica.given_up();
        let status = tokio::select! {
            status = async { hear(opening.await?.into_inner(), &under_way).await } => status.err(),
            () = write(&mut bundles, &mut waiting, &requests, &under_way) => None,
            () = given_up.cancelled() => None,
        };
        tracing::debug!(peer.address = %replica.address(), rpc.grpc.status = ?status.map(|status| status.code()),
            "The stream of sends ended");
        clients.message_replicas().suspect(&replica);
        let cut = || Status::unavailable("the stream of sends broke");
        under_way.all().drain().map(|(_, reply)| reply).for_each(|reply| drop(reply.send(Err(cut()))));
        bundles.drain(..).for_each(|bundle| drop(bundle.reply.send(Err(cut()))));
    }
}

/// Hands out answers until the stream ends.
async fn hear(mut answers: Streaming<SendMessagesResponse>, under_way: &UnderWay) -> Result<(), Status> {
    while let Some(SendMessagesResponse { results }) = answers.message().await? {
        let mut all = under_way.all();
        for SendBundleResult { id, outcomes } in results {
            if let Some(reply) = all.remove(&id) {
                // Whoever asked may have given up.
                drop(reply.send(Ok(outcomes.into_iter().map(outcome).collect())));
            }
        }
    }
    Ok(())
}

fn outcome(outcome: SendOutcome) -> Result<SendMessageResponse, Status> {
    match outcome.outcome {
        Some(Outcome::Sent(sent)) => Ok(sent),
        Some(Outcome::Refused(SendRefusal { code, message, details })) => {
            Err(Status::with_details(Code::from_i32(code), message, details.into()))
        }
        // Of a later version.
        None => Err(Status::internal("an outcome that this gateway does not know")),
    }
}

/// Writes what waits, all of it together, until the stream takes no more.
async fn write(
    bundles: &mut Vec<Bundle>,
    waiting: &mut mpsc::Receiver<Bundle>,
    requests: &mpsc::Sender<SendMessagesRequest>,
    under_way: &UnderWay,
) {
    let mut last_id = 0;
    loop {
        if bundles.is_empty() && waiting.recv_many(bundles, TOGETHER).await == 0 {
            return std::future::pending().await;
        }
        // Whoever could run now and has something to send puts it in first; with nobody there this takes no time.
        tokio::task::yield_now().await;
        let Ok(place) = requests.reserve().await else { return };
        while bundles.len() < TOGETHER
            && let Ok(bundle) = waiting.try_recv()
        {
            bundles.push(bundle);
        }
        let request = request(bundles, &mut last_id, under_way);
        if !request.bundles.is_empty() {
            place.send(request);
        }
    }
}

/// Takes as many bundles as one request may have.
fn request(bundles: &mut Vec<Bundle>, last_id: &mut u64, under_way: &UnderWay) -> SendMessagesRequest {
    let (now, mut bytes) = (Instant::now(), 0);
    let mut fits = |bundle: &Bundle| {
        bytes += bundle.messages.iter().map(|message| message.content.len() + 256).sum::<usize>();
        bytes <= REQUEST_BYTES
    };
    let count = bundles.iter().map_while(|bundle| Some(bundle).filter(|bundle| fits(bundle))).count().max(1);
    let mut request = SendMessagesRequest::default();
    let mut all = under_way.all();
    for Bundle { token, messages, until, traceparent, reply } in bundles.drain(..count) {
        if reply.is_closed() {
            continue;
        }
        *last_id += 1;
        all.insert(*last_id, reply);
        let left = until.saturating_duration_since(now).as_millis().max(1);
        let timeout_ms = u32::try_from(left).unwrap_or(u32::MAX);
        let (id, token) = (*last_id, token.to_string());
        request.bundles.push(SendBundle { id, token, timeout_ms, messages, traceparent });
    }
    request
}
