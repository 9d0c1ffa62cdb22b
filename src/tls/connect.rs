//! Connections to other services that show this process' certificate and judge theirs. What counts when one is made counts
//! for it; those that are open go on with what they were made with.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::{Tls, refusals::Reason};
use crate::identity::ServiceName;

/// Connects to the replicas of one service.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    tls: Arc<Tls>,
    callee: ServiceName,
}

impl Connector {
    pub(crate) fn new(tls: &Arc<Tls>, callee: ServiceName) -> Self {
        Self { tls: Arc::clone(tls), callee }
    }

    async fn connect(self, place: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let authority = place.authority().ok_or(io::ErrorKind::InvalidInput)?;
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.callee.as_str()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls.current().1.client));
        let connected = connector.connect(name, stream).await.inspect_err(|error| self.refused(error));
        connected.map(TokioIo::new)
    }

    fn refused(&self, error: &io::Error) {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else { return };
        // A certificate that was refused has been told of by who judged it.
        if !matches!(error, rustls::Error::InvalidCertificate(_)) {
            self.tls.refusals.callee(Reason::of(error), self.callee.as_str(), &error.to_string());
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, place: Uri) -> Self::Future {
        Box::pin(self.clone().connect(place))
    }
}
