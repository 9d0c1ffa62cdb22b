//! A store whose calls are measured and, when their trace is sampled, are spans of it. It changes nothing else.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use mesh::telemetry;
use tracing::{Instrument as _, field::Empty};

use super::{Batch, Created, Head, JoinedBefore, NamedAfter, Outcome, Store, StoreError};
use crate::{
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    member::{Member, Standing},
    message::ClientMessageId,
    room::{NewRoom, View, state::RoomState},
};

/// A store of this kind.
pub(super) struct Watched<S> {
    system: &'static str,
    store: S,
}

impl<S: Store> Watched<S> {
    /// `system` is the kind's name in OpenTelemetry's conventions.
    pub(super) fn over(system: &'static str, store: S) -> Arc<dyn Store> {
        Arc::new(Self { system, store })
    }

    /// A call with a span of its own.
    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if !telemetry::is_sampled() {
            return self.measured(operation, call).await;
        }
        let span = tracing::info_span!(
            "store",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = self.system,
            db.query.summary = operation
        );
        let result = self.measured(operation, call).instrument(span.clone()).await;
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        result
    }

    async fn measured<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = call.await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(StoreError::Unavailable(_)) => "unavailable",
            Err(StoreError::Unknown(_)) => "unknown",
            Err(StoreError::Damaged(_)) => "damaged",
        };
        let labels = [("system", self.system), ("operation", operation), ("outcome", outcome)];
        metrics::histogram!("switchboard_message_store_duration_seconds", &labels)
            .record(begun.elapsed().as_secs_f64());
        result
    }
}

#[async_trait]
impl<S: Store> Store for Watched<S> {
    async fn create_room(&self, room: &NewRoom) -> Result<Created, StoreError> {
        self.call("create_room", self.store.create_room(room)).await
    }

    async fn load(&self, room: RoomId) -> Result<Option<RoomState>, StoreError> {
        self.call("load", self.store.load(room)).await
    }

    async fn view(&self, room: RoomId, user: Option<UserId>) -> Result<Option<View>, StoreError> {
        self.call("view", self.store.view(room, user)).await
    }

    async fn append(&self, batch: Batch) -> Result<Outcome, StoreError> {
        // The statement has a span of its own, which may be shared with other rooms' batches.
        self.measured("append", self.store.append(batch)).await
    }

    async fn entries_after(
        &self,
        room: RoomId,
        after: Seq,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.call("entries_after", self.store.entries_after(room, after, entries_max, bytes_max)).await
    }

    async fn sent(&self, room: RoomId, keys: &[(UserId, ClientMessageId)]) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.call("sent", self.store.sent(room, keys)).await
    }

    async fn messages(&self, room: RoomId, first: i64, last: i64) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.call("messages", self.store.messages(room, first, last)).await
    }

    async fn messages_through(&self, room: RoomId, seq: Seq) -> Result<i64, StoreError> {
        self.call("messages_through", self.store.messages_through(room, seq)).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Head>, StoreError> {
        self.call("heads", self.store.heads(rooms)).await
    }

    async fn rooms_after(&self, after: Option<RoomId>, rooms_max: usize) -> Result<Vec<RoomId>, StoreError> {
        self.call("rooms_after", self.store.rooms_after(after, rooms_max)).await
    }

    async fn shown_members(&self, rooms: &[RoomId]) -> Result<Vec<Vec<UserId>>, StoreError> {
        self.call("shown_members", self.store.shown_members(rooms)).await
    }

    async fn rooms_of(
        &self,
        user: UserId,
        after: Option<JoinedBefore>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        self.call("rooms_of", self.store.rooms_of(user, after, rooms_max)).await
    }

    async fn public_rooms(
        &self,
        user: UserId,
        search: &str,
        after: Option<NamedAfter>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        self.call("public_rooms", self.store.public_rooms(user, search, after, rooms_max)).await
    }

    async fn members(
        &self,
        room: RoomId,
        after: Option<Standing>,
        members_max: usize,
    ) -> Result<Vec<Member>, StoreError> {
        self.call("members", self.store.members(room, after, members_max)).await
    }

    async fn rooms_known_to(
        &self,
        user: UserId,
        after: Option<RoomId>,
        rooms_max: usize,
    ) -> Result<Vec<RoomId>, StoreError> {
        self.call("rooms_known_to", self.store.rooms_known_to(user, after, rooms_max)).await
    }

    async fn sent_by(
        &self,
        room: RoomId,
        sender: UserId,
        after: Option<&ClientMessageId>,
        messages_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.call("sent_by", self.store.sent_by(room, sender, after, messages_max)).await
    }

    async fn rewrite(&self, messages: &[Arc<Entry>]) -> Result<(), StoreError> {
        self.call("rewrite", self.store.rewrite(messages)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
