//! The stream of sends of the fake message-svc: bundles side by side, the messages of each in their order, and a stream
//! that breaks in the middle when a test wants it to.

use futures::StreamExt as _;
use mesh::proto::message::v1::{self as pb, send_service_server::SendService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Streaming};

use super::{
    Stream,
    messages::{FakeMessages, Later, user_of},
};

impl FakeMessages {
    /// A message of a bundle; an error when the stream breaks instead of answering.
    async fn store_bundled(&self, user: &str, request: pb::SendMessageRequest) -> Result<pb::SendOutcome, ()> {
        let outcome = match self.store(user, request).await {
            Ok(sent) => pb::send_outcome::Outcome::Sent(sent),
            Err(status) => pb::send_outcome::Outcome::Refused(pb::SendRefusal {
                code: status.code().into(),
                message: status.message().to_owned(),
                details: status.details().to_vec(),
            }),
        };
        let mut state = self.state();
        match &mut state.break_sends_after {
            Some(0 | 1) => {
                state.break_sends_after = None;
                return Err(());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(pb::SendOutcome { outcome: Some(outcome) })
    }
}

impl SendService for FakeMessages {
    type SendMessagesStream = Stream<pb::SendMessagesResponse>;

    fn send_messages<'a, 'b>(
        &'a self,
        request: Request<Streaming<pb::SendMessagesRequest>>,
    ) -> Later<'b, Self::SendMessagesStream>
    where
        'a: 'b,
        Self: 'b,
    {
        let (outlet, responses) = mpsc::unbounded_channel();
        let (messages, mut requests, broken) = (self.clone(), request.into_inner(), CancellationToken::new());
        let cut = broken.clone();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                for bundle in request.bundles {
                    messages.state().bundles.push(bundle.messages.len());
                    let (messages, outlet, cut) = (messages.clone(), outlet.clone(), cut.clone());
                    tokio::spawn(async move {
                        let user = user_of(&bundle.token);
                        let mut outcomes = Vec::new();
                        for message in bundle.messages {
                            match messages.store_bundled(&user, message).await {
                                Ok(outcome) => outcomes.push(outcome),
                                Err(()) => return cut.cancel(),
                            }
                        }
                        let results = vec![pb::SendBundleResult { id: bundle.id, outcomes }];
                        drop(outlet.send(Ok(pb::SendMessagesResponse { results })));
                    });
                }
            }
        });
        let responses = UnboundedReceiverStream::new(responses).take_until(broken.cancelled_owned());
        Box::pin(async { Ok(Response::new(Box::pin(responses) as Self::SendMessagesStream)) })
    }
}
