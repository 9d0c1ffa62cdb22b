//! The task that follows auth-svc's keys and revocations for a process (P6): a snapshot, then live, again and again
//! after each break. It feeds [`Identity`] and does nothing else.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Identity, ServiceName};
use crate::{
    client::{self, Backoff, Clients},
    proto::auth::v1::{WatchRevocationsRequest, watch_revocations_response::Update},
    text,
    time::Millis,
};

/// Follows until shutdown. A break is logged once, not at every try.
pub async fn follow(identity: Arc<Identity>, clients: Clients, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut whole = true;
    while !shutdown.is_cancelled() {
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = stream(&identity, &clients, &mut backoff, &mut whole) => result,
        };
        if whole {
            let cause = result.err().map(|status| status.code().to_string()).unwrap_or_default();
            tracing::warn!(rpc.grpc.status = cause, "the revocation stream broke; connecting again");
            whole = false;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = backoff.wait() => {}
        }
    }
}

async fn stream(
    identity: &Arc<Identity>,
    clients: &Clients,
    backoff: &mut Backoff,
    whole: &mut bool,
) -> Result<(), Status> {
    let message = WatchRevocationsRequest { after: identity.revocations.number() };
    let bearer = identity.assertion(ServiceName::Auth, None);
    let silence_max = identity.silence_max();
    let mut auth = clients.auth();
    let opening = auth.watch_revocations(client::stream_request(message, &bearer));
    let timeout = |_| Status::deadline_exceeded("silence");
    let mut updates = tokio::time::timeout(silence_max, opening).await.map_err(timeout)??.into_inner();
    // A half-open connection is silent for ever: the heartbeats are missed after the same time as everywhere.
    while let Some(response) = tokio::time::timeout(silence_max, updates.message()).await.map_err(timeout)?? {
        match response.update {
            Some(Update::Keys(keys)) => identity.set_keys(&keys.jwks_json),
            Some(Update::Revocation(revocation)) => {
                if let Ok(session) = text::uuid("session_id", &revocation.session_id) {
                    let expires = revocation.expire_time.map_or(Millis(i64::MAX), Millis::from);
                    identity.revoke(session, revocation.number, expires);
                }
            }
            Some(Update::Heartbeat(heartbeat)) => {
                identity.heartbeat(heartbeat.number);
                backoff.reset();
                if !*whole {
                    tracing::info!("the revocation stream is whole again");
                    *whole = true;
                }
            }
            None => {}
        }
    }
    Ok(())
}
