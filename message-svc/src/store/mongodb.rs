//! MongoDB: the store to grow on. Every write is confirmed by most of the replica set with its journal (`w: majority,
//! j: true`) and every read sees only such writes, on the primary. There are no transactions over several documents: the
//! log (`mongodb/log.rs`) is the truth, `mongodb/projection.rs` follows it, `mongodb/rooms.rs` reads both together, and
//! `mongodb/claims.rs` finds rooms by user and by name. Collections and indexes are in `mongodb/schema.rs`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mesh::{
    config::Secret,
    migration::{Migrated, Migrations},
    telemetry::Origin,
};
use mongodb::{
    Client, Collection, Database,
    bson::{Document, RawDocumentBuf, doc},
    options::ClientOptions,
};
use tracing::Instrument as _;

use self::{
    calls::{Calls, Failure},
    claims::Claims,
};
use crate::{
    config::MongodbConfig,
    entry::{Entry, Seq},
    id::{RoomId, UserId},
    member::{Member, Standing},
    message::ClientMessageId,
    room::{NewRoom, View, state::RoomState},
    store::{
        Batch, Created, Head, JoinedBefore, NamedAfter, OpenError, Outcome, Store, StoreError, Upkeep, commit_span,
    },
};

mod calls;
mod claims;
mod connect;
mod documents;
mod log;
mod projection;
mod rooms;
mod schema;
#[cfg(test)]
mod tests;
mod upkeep;

/// Rooms in a MongoDB database.
pub(super) struct MongodbStore {
    client: Client,
    calls: Calls,
    collections: Arc<Collections>,
}

/// What all calls work with.
struct Collections {
    db: Database,
    entries: Collection<RawDocumentBuf>,
    rooms: Collection<RawDocumentBuf>,
    members: Collection<RawDocumentBuf>,
    memberships: Collection<RawDocumentBuf>,
    directory: Collection<RawDocumentBuf>,
    /// After so long the server gives a call up as well.
    call: Duration,
}

impl Collections {
    fn new(db: Database, call: Duration) -> Self {
        Self {
            entries: db.collection(schema::ENTRIES),
            rooms: db.collection(schema::ROOMS),
            members: db.collection(schema::MEMBERS),
            memberships: db.collection(schema::MEMBERSHIPS),
            directory: db.collection(schema::DIRECTORY),
            db,
            call,
        }
    }

    /// The write concern for commands that the driver has no method for.
    fn concern(&self) -> Document {
        let wait = i64::try_from(self.call.as_millis()).expect("invariant: at most a minute");
        doc! { "w": "majority", "j": true, "wtimeout": wait }
    }
}

impl MongodbStore {
    /// Finds the servers, waiting for them as long as the settings say, and sees to the collections.
    pub(super) async fn open(url: &Secret, config: &MongodbConfig, migrations: Migrations) -> Result<Self, OpenError> {
        Self::open_with(url, config, migrations, |_| {}).await
    }

    async fn open_with(
        url: &Secret,
        config: &MongodbConfig,
        migrations: Migrations,
        adjust: impl FnOnce(&mut ClientOptions),
    ) -> Result<Self, OpenError> {
        let (client, db) = connect::connect(url, config, adjust).await?;
        schema::see_to(&db, migrations).await?;
        let calls = Calls::new(config.connections_max, config.call());
        Ok(Self { client, calls, collections: Arc::new(Collections::new(db, config.call())) })
    }

    fn with(&self) -> Arc<Collections> {
        Arc::clone(&self.collections)
    }

    /// Makes the claims; nothing else is written before they are durable.
    async fn claim(&self, claims: Claims) -> Result<(), StoreError> {
        if claims.is_empty() {
            return Ok(());
        }
        let written = self.calls.run(claims.write(self.with())).await;
        written.map_err(|failure: Failure| StoreError::unavailable(failure.cause()))
    }

    /// Writes what follows from what was just written. When that fails, or takes too long, it is left to others.
    async fn follow(&self, room: RoomId) {
        let store = self.with();
        let followed = self.calls.run(async move {
            rooms::catch_up(&store, room).await;
            Ok(())
        });
        if let Err(failure) = followed.await {
            tracing::debug!(room.id = %room, error = %failure.cause(), "a room's documents stay behind its log");
        }
    }
}

/// Where the mark of an import is kept.
pub(super) async fn marks(url: &Secret, config: &MongodbConfig) -> Result<schema::Marks, OpenError> {
    let (client, db) = connect::connect(url, config, |_| {}).await?;
    Ok(schema::Marks::new(client, &db))
}

/// What [`super::Upkeep`] asks for; how many rooms there are.
pub(super) async fn upkeep(url: &Secret, config: &MongodbConfig, what: Upkeep) -> Result<u64, OpenError> {
    let (client, db) = connect::connect(url, config, |_| {}).await?;
    // Of a restored database these may be missing.
    schema::see_to(&db, Migrations::Run).await?;
    let store = Arc::new(Collections::new(db, config.call()));
    let done = match what {
        Upkeep::Rebuild => upkeep::rebuild(store).await,
        Upkeep::RenewLogs => upkeep::renew_logs(store).await,
    };
    client.shutdown().immediate(true).await;
    done.map_err(|fault| {
        let cause = fault.of_read();
        OpenError { sentence: format!("MongoDB did not do it: {cause}; run it again"), source: Some(Box::new(cause)) }
    })
}

/// Brings the database up to date, apart from any service.
pub(super) async fn migrate(url: &Secret, config: &MongodbConfig) -> Result<Migrated, OpenError> {
    let (client, db) = connect::connect(url, config, |_| {}).await?;
    let migrated = schema::see_to(&db, Migrations::Run).await;
    client.shutdown().immediate(true).await;
    migrated
}

#[async_trait]
impl Store for MongodbStore {
    async fn create_room(&self, room: &NewRoom) -> Result<Created, StoreError> {
        let (id, by) = (room.meta.id, room.founders.first().map(|(user, _)| *user));
        if let Some(view) = self.view(id, by).await? {
            return Ok(Created::Exists(view));
        }
        self.claim(Claims::of_new(room)).await?;
        let made = match self.calls.run(rooms::create(self.with(), room.clone())).await {
            Ok(()) => true,
            Err(failure) => rooms::judge_create(failure)?,
        };
        if made {
            self.follow(id).await;
            return Ok(Created::New);
        }
        match self.view(id, by).await? {
            Some(view) => Ok(Created::Exists(view)),
            None => Err(StoreError::Damaged("a room that exists cannot be read".into())),
        }
    }

    async fn load(&self, room: RoomId) -> Result<Option<RoomState>, StoreError> {
        let store = self.with();
        self.calls.read(async move { rooms::load(&store, room).await }).await
    }

    async fn view(&self, room: RoomId, user: Option<UserId>) -> Result<Option<View>, StoreError> {
        let store = self.with();
        let seen = self.calls.read(async move { rooms::views(&store, &[room], user).await }).await?;
        Ok(seen.into_values().next().map(|seen| seen.view))
    }

    async fn append(&self, batch: Batch) -> Result<Outcome, StoreError> {
        let Some(room) = batch.first().map(|entry| entry.room) else { return Ok(Outcome::Done) };
        self.claim(Claims::of_entries(&batch)).await?;
        let documents = log::documents(&batch);
        let one_command = log::is_one_command(&documents);
        let origin = Origin::current();
        let span = commit_span("mongodb", &origin, batch.len());
        let outcome = match self.calls.run(log::insert(self.with(), documents)).instrument(span).await {
            Ok(()) => Outcome::Done,
            Err(failure) => log::judge(failure, one_command)?,
        };
        // Of a batch that was displaced the beginning may be there.
        if batch.iter().any(|entry| entry.message().is_none()) {
            self.follow(room).await;
        }
        Ok(outcome)
    }

    async fn entries_after(
        &self,
        room: RoomId,
        after: Seq,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.calls.read(log::entries_after(self.with(), room, after, entries_max, bytes_max)).await
    }

    async fn sent(&self, room: RoomId, keys: &[(UserId, ClientMessageId)]) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.calls.read(log::sent(self.with(), room, keys.to_vec())).await
    }

    async fn messages(&self, room: RoomId, first: i64, last: i64) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.calls.read(log::messages(self.with(), room, first, last)).await
    }

    async fn messages_through(&self, room: RoomId, seq: Seq) -> Result<i64, StoreError> {
        self.calls.read(log::messages_through(self.with(), room, seq)).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Head>, StoreError> {
        self.calls.read(log::heads(self.with(), rooms.to_vec())).await
    }

    async fn rooms_after(&self, after: Option<RoomId>, rooms_max: usize) -> Result<Vec<RoomId>, StoreError> {
        self.calls.read(rooms::rooms_after(self.with(), after, rooms_max)).await
    }

    async fn shown_members(&self, rooms: &[RoomId]) -> Result<Vec<Vec<UserId>>, StoreError> {
        self.calls.read(rooms::shown_members(self.with(), rooms.to_vec())).await
    }

    async fn rooms_of(
        &self,
        user: UserId,
        after: Option<JoinedBefore>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        self.calls.read(claims::rooms_of(self.with(), user, after, rooms_max)).await
    }

    async fn public_rooms(
        &self,
        user: UserId,
        search: &str,
        after: Option<NamedAfter>,
        rooms_max: usize,
    ) -> Result<Vec<View>, StoreError> {
        self.calls.read(claims::public_rooms(self.with(), user, search.to_owned(), after, rooms_max)).await
    }

    async fn members(
        &self,
        room: RoomId,
        after: Option<Standing>,
        members_max: usize,
    ) -> Result<Vec<Member>, StoreError> {
        self.calls.read(rooms::members(self.with(), room, after, members_max)).await
    }

    async fn rooms_known_to(
        &self,
        user: UserId,
        after: Option<RoomId>,
        rooms_max: usize,
    ) -> Result<Vec<RoomId>, StoreError> {
        self.calls.read(rooms::rooms_known_to(self.with(), user, after, rooms_max)).await
    }

    async fn sent_by(
        &self,
        room: RoomId,
        sender: UserId,
        after: Option<&ClientMessageId>,
        messages_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.calls.read(log::sent_by(self.with(), room, sender, after.cloned(), messages_max)).await
    }

    async fn rewrite(&self, messages: &[Arc<Entry>]) -> Result<(), StoreError> {
        let written = self.calls.run(log::rewrite(self.with(), messages.to_vec())).await;
        written.map_err(|failure| StoreError::unknown(failure.cause()))
    }

    async fn check(&self) -> Result<(), StoreError> {
        let store = self.with();
        // On the primary, as every call: without one nothing can be written.
        self.calls
            .read(async move {
                store.db.run_command(doc! { "ping": 1 }).await?;
                Ok(())
            })
            .await
    }

    async fn close(&self) {
        self.calls.close().await;
        self.client.clone().shutdown().immediate(true).await;
    }
}
