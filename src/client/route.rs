//! Where one call goes: a healthy replica of its service, or the one that a room belongs to. It is what the generated
//! clients call through. A replica whose connection fails under a call is taken for dead at once, so that the next try
//! finds another.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tonic::{Status, body::Body};
use tower::{BoxError, Service, ServiceExt as _};
use uuid::Uuid;

use super::replicas::{Replica, Replicas, unreachable};

/// Which replica a call wants.
#[derive(Clone, Debug)]
enum Choice {
    /// Any.
    Any,
    /// The one that this room belongs to.
    Room(Uuid),
    /// This one, whatever becomes of it.
    One(Arc<Replica>),
}

/// A way to a service. Cheap to clone; each call is sent where it belongs at that moment.
#[derive(Clone, Debug)]
pub struct Route {
    replicas: Replicas,
    choice: Choice,
}

impl Route {
    pub(super) fn any(replicas: &Replicas) -> Self {
        Self { replicas: replicas.clone(), choice: Choice::Any }
    }

    pub(super) fn room(replicas: &Replicas, room: Uuid) -> Self {
        Self { replicas: replicas.clone(), choice: Choice::Room(room) }
    }

    pub(super) fn one(replicas: &Replicas, replica: &Arc<Replica>) -> Self {
        Self { replicas: replicas.clone(), choice: Choice::One(Arc::clone(replica)) }
    }
}

impl Service<http::Request<Body>> for Route {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { replicas, choice } = self.clone();
        Box::pin(async move {
            let replica = match choice {
                Choice::One(replica) => Some(replica),
                Choice::Any => replicas.known().await.any(),
                Choice::Room(room) => replicas.known().await.owner(room),
            };
            let replica = replica.ok_or_else(|| Status::unavailable("the service's name has no address"))?;
            let given_up = replica.given_up();
            let answer = async {
                let mut channel = replica.channel();
                channel.ready().await?.call(request).await
            };
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|error| {
                    let status = Status::from_error(error.into());
                    // A call that took too long says nothing of its connection.
                    if unreachable(&status) {
                        replicas.failed(&replica);
                    }
                    status.into()
                }),
                () = given_up.cancelled() => Err(Status::unavailable("the replica does not answer any more").into()),
            }
        })
    }
}
