//! The stream of `WatchRevocations`: the keys first, then what the feed says. It holds no queue; the feed's follower is
//! asked for the next step when the stream is.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use mesh::proto::auth::v1::{
    Heartbeat, KeySet, Revocation, WatchRevocationsResponse, watch_revocations_response::Update,
};
use tonic::Status;

use super::refuse;
use crate::revocation::{Follower, Step};

/// The stream's type, as tonic wants it named.
pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

/// The whole stream. The signing key is the same for the life of the process, so the keys are said once.
pub(super) fn updates(jwks: &str, follower: Follower) -> Updates {
    let keys = Update::Keys(KeySet { jwks_json: jwks.to_owned() });
    let steps = stream::try_unfold(follower, async |mut follower| {
        let step = follower.next().await.map_err(refuse)?;
        Ok(Some((update(step), follower)))
    });
    Box::pin(
        stream::once(async { Ok(keys) })
            .chain(steps)
            .map(|update| update.map(|update| WatchRevocationsResponse { update: Some(update) })),
    )
}

fn update(step: Step) -> Update {
    match step {
        Step::Revoked(revocation) => Update::Revocation(Revocation {
            number: revocation.number,
            session_id: revocation.session_id.0.to_string(),
            expire_time: Some(revocation.expires_at.into()),
        }),
        Step::Heartbeat(number) => Update::Heartbeat(Heartbeat { number }),
    }
}
