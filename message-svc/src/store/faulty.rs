//! A store that fails on purpose: before a write, after it, in the middle, or so that the write lands later. It wraps
//! any other store, so what is proven with it holds for every backend, the ones that write in order without
//! transactions included.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::{Batch, Created, Head, JoinedBefore, NamedAfter, Outcome, Store, StoreError};
use crate::{
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    member::{Member, Standing},
    message::ClientMessageId,
    room::{NewRoom, View, state::RoomState},
};

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It surely does not happen.
    Before,
    /// It does not happen, and nobody knows.
    LostBefore,
    /// It happens, and nobody knows.
    LostAfter,
    /// The first entries happen, as where a batch is no transaction, and nobody knows.
    LostMiddle,
    /// Nobody knows; it happens a little later.
    Late,
}

/// A store that fails on purpose.
pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    plan: Mutex<VecDeque<Fault>>,
    away: AtomicBool,
    refused: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Mutex::default(), away: AtomicBool::new(false), refused: AtomicUsize::new(0) })
    }

    /// What happens to the next writes.
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().expect("lock").extend(faults);
    }

    /// What happens to the next writes, instead of what was planned and has not happened.
    pub(crate) fn replan(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut plan = self.plan.lock().expect("lock");
        plan.clear();
        plan.extend(faults);
    }

    /// Whether nothing at all can be asked.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// How many calls were made while nothing could be asked.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    fn here(&self) -> Result<&dyn Store, StoreError> {
        if self.away.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::unavailable("away"));
        }
        Ok(&*self.inner)
    }
}

fn lost() -> StoreError {
    StoreError::unknown("the answer was lost")
}

#[async_trait]
impl Store for Faulty {
    async fn append(&self, batch: Batch) -> Result<Outcome, StoreError> {
        let inner = self.here()?;
        let fault = self.plan.lock().expect("lock").pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => inner.append(batch).await,
            Fault::Before => Err(StoreError::unavailable("refused")),
            Fault::LostBefore => Err(lost()),
            Fault::LostAfter => inner.append(batch).await.and(Err(lost())),
            Fault::LostMiddle => {
                let some = batch[..batch.len().div_ceil(2)].to_vec();
                inner.append(some.into()).await.and(Err(lost()))
            }
            Fault::Late => {
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    inner.append(batch).await
                });
                Err(lost())
            }
        }
    }

    async fn create_room(&self, room: &NewRoom) -> Result<Created, StoreError> {
        self.here()?.create_room(room).await
    }

    async fn load(&self, room: RoomId) -> Result<Option<RoomState>, StoreError> {
        self.here()?.load(room).await
    }

    async fn view(&self, room: RoomId, user: Option<UserId>) -> Result<Option<View>, StoreError> {
        self.here()?.view(room, user).await
    }

    async fn entries_after(
        &self,
        room: RoomId,
        after: Seq,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.here()?.entries_after(room, after, entries_max, bytes_max).await
    }

    async fn sent(&self, room: RoomId, keys: &[(UserId, ClientMessageId)]) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.here()?.sent(room, keys).await
    }

    async fn messages(&self, room: RoomId, first: i64, last: i64) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.here()?.messages(room, first, last).await
    }

    async fn messages_through(&self, room: RoomId, seq: Seq) -> Result<i64, StoreError> {
        self.here()?.messages_through(room, seq).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Head>, StoreError> {
        self.here()?.heads(rooms).await
    }

    async fn rooms_after(&self, after: Option<RoomId>, rooms_max: usize) -> Result<Vec<RoomId>, StoreError> {
        self.here()?.rooms_after(after, rooms_max).await
    }

    async fn shown_members(&self, rooms: &[RoomId]) -> Result<Vec<Vec<UserId>>, StoreError> {
        self.here()?.shown_members(rooms).await
    }

    async fn rooms_of(
        &self,
        user: UserId,
        after: Option<JoinedBefore>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        self.here()?.rooms_of(user, after, rooms_max).await
    }

    async fn public_rooms(
        &self,
        user: UserId,
        search: &str,
        after: Option<NamedAfter>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        self.here()?.public_rooms(user, search, after, rooms_max).await
    }

    async fn members(
        &self,
        room: RoomId,
        after: Option<Standing>,
        members_max: usize,
    ) -> Result<Vec<Member>, StoreError> {
        self.here()?.members(room, after, members_max).await
    }

    async fn rooms_known_to(
        &self,
        user: UserId,
        after: Option<RoomId>,
        rooms_max: usize,
    ) -> Result<Vec<RoomId>, StoreError> {
        self.here()?.rooms_known_to(user, after, rooms_max).await
    }

    async fn sent_by(
        &self,
        room: RoomId,
        sender: UserId,
        after: Option<&ClientMessageId>,
        messages_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.here()?.sent_by(room, sender, after, messages_max).await
    }

    async fn rewrite(&self, messages: &[Arc<Entry>]) -> Result<(), StoreError> {
        self.here()?.rewrite(messages).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.here()?.check().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
