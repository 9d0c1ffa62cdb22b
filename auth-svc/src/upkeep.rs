//! Forgetting what has expired (sessions, revocations, spent WebSocket tokens, old audit entries), a little at a time, for
//! as long as the process runs, and writing how many attempts failed. Nothing depends on it but the size of the store.

use std::{sync::Arc, time::Duration};

use mesh::time::Millis;
use tokio_util::sync::CancellationToken;

use crate::{audit::Failures, store::Store};

/// Rows of each kind that one step forgets: a few milliseconds of the writer.
const STEP: u32 = 500;

/// Forgets until the process stops.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    failures: Arc<Failures>,
    interval: Duration,
    audit_keep: Duration,
    stop: CancellationToken,
) {
    loop {
        let stopped = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            () = stop.cancelled() => true,
        };
        let until = (!stopped).then(Millis::now);
        if let Err(error) = failures.flush(store.as_ref(), until).await {
            tracing::warn!(
                error.message = error.cause(),
                "how many attempts failed cannot be written; the count is lost"
            );
        }
        if stopped {
            return;
        }
        if let Err(error) = forget(store.as_ref(), audit_keep, &stop).await {
            tracing::warn!(error.message = error.cause(), "what has expired cannot be forgotten; trying again later");
        }
    }
}

async fn forget(
    store: &dyn Store,
    audit_keep: Duration,
    stop: &CancellationToken,
) -> Result<(), crate::store::StoreError> {
    while !stop.is_cancelled() && store.prune(Millis::now(), STEP).await? > 0 {
        tokio::task::yield_now().await;
    }
    while !stop.is_cancelled() && store.prune_audit(Millis::now().minus(audit_keep), STEP).await? > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}
