//! The stream on which a gateway sends for its users: bundles come in, are worked on side by side, and are answered as
//! they are done, all that are done in one answer. A message is judged as one that comes by `SendMessage` is; nothing
//! here decides who may send. Only bundles of one stream share anything: the limit on what is in progress.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _, stream::FuturesUnordered};
use mesh::{
    error::{Answer, Reason, Refusal},
    identity::{self, Caller, Identity, ServiceName},
    proto::message::v1::{
        SendBundle, SendBundleResult, SendMessageRequest, SendMessageResponse, SendMessagesRequest,
        SendMessagesResponse, SendOutcome, SendRefusal, send_outcome::Outcome, send_service_server::SendService,
    },
    telemetry::{self, Origin},
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    answer,
    outgoing::{Outgoing, Outlet},
    request,
};
use crate::{
    config::{Limits, SendsConfig},
    error::Error,
    id::UserId,
    names::Names,
    rooms::{Rooms, Submitted},
};

/// Messages of one bundle; the contract says so.
const BUNDLE_MAX: usize = 256;
/// Answers that wait for a reader; each is as large as the configuration says, and what is behind them is in progress.
const ANSWERS: usize = 4;

/// What sending needs.
pub(crate) struct Sending {
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) names: Arc<Names>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) limits: Limits,
    pub(crate) config: SendsConfig,
    /// The longest that a bundle may take.
    pub(crate) deadline_max: Duration,
    /// How long a gateway may leave its answers unread.
    pub(crate) stall: Duration,
    pub(crate) shutdown: CancellationToken,
}

/// `SendService` of the contract.
pub(crate) struct Sends(Arc<Sending>);

impl Sends {
    pub(crate) fn new(sending: Sending) -> Self {
        Self(Arc::new(sending))
    }
}

#[tonic::async_trait]
impl SendService for Sends {
    type SendMessagesStream = Outgoing<SendMessagesResponse>;

    async fn send_messages(
        &self,
        request: Request<Streaming<SendMessagesRequest>>,
    ) -> Answer<Self::SendMessagesStream> {
        identity::service(&request, &[ServiceName::Gateway])?;
        let (sending, wanted) = (Arc::clone(&self.0), request.into_inner());
        // It ends by itself at shutdown, when what was read is done.
        let until_then = CancellationToken::new();
        Ok(Response::new(Outgoing::spawn(ANSWERS, self.0.stall, until_then, |outlet| async move {
            sending.serve(wanted, &outlet).await
        })))
    }
}

/// What came of one bundle, and how many messages it had.
struct Done {
    result: SendBundleResult,
    messages: usize,
}

impl Sending {
    /// Works on what comes until the gateway has said all or this process stops, and then until that is done.
    async fn serve(
        &self,
        mut wanted: impl Stream<Item = Result<SendMessagesRequest, Status>> + Unpin,
        outlet: &Outlet<SendMessagesResponse>,
    ) -> Result<(), Refusal> {
        let mut working = FuturesUnordered::new();
        let (mut in_progress, mut open) = (0, true);
        while open || !working.is_empty() {
            tokio::select! {
                biased;
                Some(done) = working.next(), if !working.is_empty() => {
                    let mut answers = SendMessagesResponse::default();
                    let (mut next, mut bytes) = (Some(done), 0);
                    while let Some(Done { result, messages }) = next {
                        in_progress -= messages;
                        bytes += weight(&result);
                        answers.results.push(result);
                        // What is done at the same time, as the messages of one commit are, goes in one answer.
                        let more = bytes < self.config.answer_bytes_max;
                        next = if more { working.next().now_or_never().flatten() } else { None };
                    }
                    outlet.send(answers).await?;
                }
                () = self.shutdown.cancelled(), if open => open = false,
                request = wanted.next(), if open && in_progress < self.config.in_progress_max => match request {
                    Some(Ok(request)) => for bundle in request.bundles {
                        in_progress += bundle.messages.len();
                        working.push(self.bundle(bundle));
                    },
                    // It has said all that it wanted.
                    Some(Err(_)) | None => open = false,
                },
            }
        }
        Ok(())
    }

    async fn bundle(&self, bundle: SendBundle) -> Done {
        let origin = Origin::parse(&bundle.traceparent);
        let span = telemetry::continued(&origin, || span(bundle.messages.len()));
        self.work(bundle).instrument(span).await
    }

    async fn work(&self, bundle: SendBundle) -> Done {
        let begun = Instant::now();
        let SendBundle { id, token, timeout_ms, messages, traceparent: _ } = bundle;
        let count = messages.len();
        let limit = match timeout_ms {
            0 => self.deadline_max,
            limit => Duration::from_millis(limit.into()).min(self.deadline_max),
        };
        let outcomes = match timeout(limit, self.outcomes(&token, messages)).await {
            Ok(outcomes) => outcomes,
            // Those that are in line are taken out again; what is being written may still be.
            Err(_) => {
                all(count, &Refusal::new(Reason::DeadlineExceeded, "The answer did not come within the deadline"))
            }
        };
        note(&outcomes, begun.elapsed());
        let outcomes = outcomes.into_iter().map(outcome).collect();
        Done { result: SendBundleResult { id, outcomes }, messages: count }
    }

    async fn outcomes(
        &self,
        token: &str,
        messages: Vec<SendMessageRequest>,
    ) -> Vec<Result<SendMessageResponse, Refusal>> {
        let count = messages.len();
        if !(1..=BUNDLE_MAX).contains(&count) {
            return all(count, &Refusal::field("messages", format!("must be 1–{BUNDLE_MAX}")));
        }
        let me = match self.identity.caller(token).await {
            // Only people have sockets; a program with a key sends by calls that its scopes open.
            Ok(Caller::User(user)) if user.scopes.is_none() => UserId(user.user_id),
            Ok(Caller::User(_)) => return all(count, &Refusal::new(Reason::Forbidden, "No API key can do this")),
            Ok(Caller::Service(_)) => return all(count, &Refusal::unauthorized()),
            Err(refusal) => return all(count, &refusal),
        };
        let username = match self.names.of_caller(me).await {
            Ok(username) => username,
            Err(error) => return all(count, &error.into()),
        };
        let mut full: Option<Error> = None;
        let submit = |message| -> Result<Submitted, Refusal> {
            let (room, draft) = request::draft(message, &self.limits)?;
            // In line behind one that is not in line, it would overtake that one when it comes again.
            if let Some(error) = &full {
                return Err(error.clone().into());
            }
            let submitted = self.rooms.submit(room, draft.by(me, Arc::clone(&username)));
            Ok(submitted.inspect_err(|error| full = Some(error.clone()))?)
        };
        // All are in line before the first is waited for.
        let submitted: Vec<_> = messages.into_iter().map(submit).collect();
        let mut outcomes = Vec::with_capacity(count);
        for one in submitted {
            outcomes.push(match one {
                Ok(submitted) => submitted.done().await.map(|sent| answer::sent(&sent)).map_err(Refusal::from),
                Err(refusal) => Err(refusal),
            });
        }
        outcomes
    }
}

/// The span of a bundle, as of a call of its own.
fn span(messages: usize) -> Span {
    tracing::info_span!(
        "bundle",
        otel.name = "switchboard.message.v1.SendService/SendBundle",
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = "switchboard.message.v1.SendService",
        rpc.method = "SendBundle",
        messaging.batch.message_count = telemetry::number(messages),
        "error.type" = Empty
    )
}

fn all(count: usize, refusal: &Refusal) -> Vec<Result<SendMessageResponse, Refusal>> {
    vec![Err(refusal.clone()); count]
}

fn outcome(result: Result<SendMessageResponse, Refusal>) -> SendOutcome {
    let outcome = match result {
        Ok(sent) => Outcome::Sent(sent),
        Err(refusal) => {
            let status = Status::from(refusal);
            let (message, details) = (status.message().to_owned(), status.details().to_vec());
            Outcome::Refused(SendRefusal { code: status.code().into(), message, details })
        }
    };
    SendOutcome { outcome: Some(outcome) }
}

/// About how many bytes a result takes.
fn weight(result: &SendBundleResult) -> usize {
    /// Ids, times and the cursor.
    const EACH: usize = 400;
    let content = |outcome: &SendOutcome| match &outcome.outcome {
        Some(Outcome::Sent(SendMessageResponse { message: Some(message), .. })) => message.content.len(),
        Some(Outcome::Sent(_) | Outcome::Refused(_)) | None => 0,
    };
    result.outcomes.iter().map(|outcome| EACH + content(outcome)).sum()
}

/// Counts what came of a bundle, and logs it when the fault is ours: a stream has a line of its own only at its end.
fn note(outcomes: &[Result<SendMessageResponse, Refusal>], took: Duration) {
    metrics::histogram!("switchboard_message_bundle_duration_seconds").record(took.as_secs_f64());
    let sent = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    metrics::counter!("switchboard_message_bundled_total", "outcome" => "ok").increment(sent as u64);
    let mut fault = None;
    for refusal in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        metrics::counter!("switchboard_message_bundled_total", "outcome" => refusal.reason.as_str()).increment(1);
        fault = fault.or_else(|| (refusal.reason.http() >= 500).then_some(refusal));
    }
    if let Some(refusal) = fault {
        let (code, cause) = (refusal.reason.as_str(), std::error::Error::source(refusal));
        let span = Span::current();
        span.record("error.type", code);
        span.record("otel.status_code", "ERROR");
        tracing::error!(error.code = code, error.cause = cause, "Sends of a bundle failed");
    }
}
