//! The stream of `WatchRevocations`: the keys first, then what the feed says, and the keys again whenever they change. It
//! holds no queue; the feed's follower is asked for the next step when the stream is.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use mesh::proto::auth::v1::{
    Heartbeat, KeySet, Revocation, WatchRevocationsResponse, watch_revocations_response::Update,
};
use tokio::sync::watch;
use tonic::Status;

use super::refuse;
use crate::{
    revocation::{Follower, Step},
    signing::Keys,
};

/// The stream's type, as tonic wants it named.
pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

/// The whole stream.
pub(super) fn updates(mut keys: watch::Receiver<Arc<Keys>>, follower: Follower) -> Updates {
    // Those that there are now come first.
    keys.mark_changed();
    Box::pin(stream::try_unfold((keys, follower), async |(mut keys, mut follower)| {
        let update = tokio::select! {
            biased;
            // Whoever learns of a key late meets tokens that they do not know; revocations wait for one update.
            Ok(()) = keys.changed() => {
                Update::Keys(KeySet { jwks_json: keys.borrow_and_update().jwks().to_owned() })
            }
            step = follower.next() => update(step.map_err(refuse)?),
        };
        Ok(Some((WatchRevocationsResponse { update: Some(update) }, (keys, follower))))
    }))
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
