//! What the relay says to Redis: three commands. RESP3 lets one connection both publish and subscribe, and brings what is
//! published to a function instead of a queue. How the connection is made is in `mesh::redis`.

use std::sync::Arc;

use ::redis::{AsyncConnectionConfig, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use mesh::redis::{LinkError, Server};
use tokio_util::sync::CancellationToken;

use super::receive::Receiver;

/// One connection.
pub(super) struct Link {
    connection: MultiplexedConnection,
    lost: CancellationToken,
}

impl Link {
    /// A new connection, on which the receiver gets what is published.
    pub(super) async fn open(server: &Server, receiver: Arc<Receiver>) -> Result<Self, LinkError> {
        let lost = CancellationToken::new();
        let ended = lost.clone();
        let push = move |push: PushInfo| -> Result<(), ::redis::aio::SendError> {
            match (push.kind, &push.data[..]) {
                (PushKind::Message, [Value::BulkString(channel), Value::BulkString(payload)]) => {
                    receiver.take(channel, payload);
                }
                (PushKind::Disconnection, _) => ended.cancel(),
                _ => {}
            }
            Ok(())
        };
        let connection = server.open(AsyncConnectionConfig::new().set_push_sender(push)).await?;
        Ok(Self { connection, lost })
    }

    /// Hears what is published on these channels from now on.
    pub(super) async fn subscribe(&mut self, channels: &[String]) -> Result<(), LinkError> {
        Ok(self.connection.subscribe(channels).await?)
    }

    /// Hears it no more.
    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> Result<(), LinkError> {
        Ok(self.connection.unsubscribe(channels).await?)
    }

    /// Publishes each on its channel, in one round trip.
    pub(super) async fn publish(&mut self, messages: Vec<(String, Vec<u8>)>) -> Result<(), LinkError> {
        let mut pipeline = ::redis::pipe();
        for (channel, payload) in &messages {
            pipeline.cmd("PUBLISH").arg(channel).arg(payload).ignore();
        }
        Ok(pipeline.query_async(&mut self.connection).await?)
    }

    /// Waits until the connection has ended.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}
