//! The statements that write. One statement is one transaction: it does all of a commit or nothing, in one round trip,
//! and no connection can be lost in the middle of it and keep a room locked. Entries come first in each; whoever has
//! inserted a room's next entry is the only one that touches what follows from it.
//!
//! Rows are in the order of their rooms, so that two processes that write the same rooms never wait for one another in a
//! circle.

use sqlx::{Error, PgConnection, Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::{
    MEMBER, OWNER,
    projection::{Came, Projection, Who},
};
use crate::{
    entry::Entry,
    id::RoomId,
    member::{Role, Standing},
    room::NewRoom,
    store::{
        fold,
        payload::{self, Kind},
    },
};

/// Writes messages, and everything else from which nothing follows.
pub(super) const ENTRIES: &str =
    "INSERT INTO entries (room_id, seq, entry_id, kind, messages, at, sender, client_id, payload)
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::smallint[], $5::bigint[], $6::bigint[], $7::uuid[],
                          $8::text[], $9::text[])";

/// Writes entries and what follows from them. `held` is read by each of the other parts, so that they wait for all
/// entries to be there.
pub(super) const ENTRIES_AND_PROJECTION: &str = "WITH written AS (
         INSERT INTO entries (room_id, seq, entry_id, kind, messages, at, sender, client_id, payload)
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::smallint[], $5::bigint[], $6::bigint[],
                              $7::uuid[], $8::text[], $9::text[])
         RETURNING 1),
     held AS MATERIALIZED (SELECT count(*) FROM written),
     gone AS (
         DELETE FROM members AS m USING held, unnest($10::uuid[], $11::uuid[]) AS one (room, who)
         WHERE m.room_id = one.room AND m.user_id = one.who),
     came AS (
         INSERT INTO members (room_id, user_id, role, standing, joined_at)
         SELECT one.* FROM held, unnest($12::uuid[], $13::uuid[], $14::smallint[], $15::bigint[], $16::bigint[]) AS one
         ON CONFLICT (room_id, user_id) DO UPDATE SET
             role = excluded.role, standing = excluded.standing, joined_at = excluded.joined_at),
     promoted AS (
         UPDATE members AS m SET role = $17 FROM held, unnest($18::uuid[], $19::uuid[]) AS one (room, who)
         WHERE m.room_id = one.room AND m.user_id = one.who),
     visited AS (
         INSERT INTO visits (room_id, user_id)
         SELECT one.* FROM held, unnest($27::uuid[], $28::uuid[]) AS one ON CONFLICT DO NOTHING)
     UPDATE rooms AS r SET
         name = coalesce(one.name, r.name), name_key = coalesce(one.name_key, r.name_key),
         description = coalesce(one.description, r.description), updated_at = coalesce(one.updated_at, r.updated_at),
         closed_at = coalesce(one.closed_at, r.closed_at), member_count = coalesce(one.member_count, r.member_count)
     FROM held, unnest($20::uuid[], $21::text[], $22::text[], $23::text[], $24::bigint[], $25::bigint[], $26::bigint[])
         AS one (room, name, name_key, description, updated_at, closed_at, member_count)
     WHERE r.id = one.room";

/// Which rooms have entries that something else holds the place of. A subquery with a limit is run for each row, so the
/// planner cannot begin at the other end, with the table.
pub(super) const DISPLACED: &str = "SELECT one.room FROM unnest($1::uuid[], $2::bigint[]) AS one (room, seq)
     CROSS JOIN LATERAL (SELECT FROM entries WHERE room_id = one.room AND seq = one.seq LIMIT 1) AS e
     UNION
     SELECT one.room FROM unnest($3::uuid[], $4::uuid[], $5::text[]) AS one (room, sender, client_id)
     CROSS JOIN LATERAL (SELECT FROM entries WHERE room_id = one.room AND sender = one.sender
                         AND client_id = one.client_id AND kind = 1 LIMIT 1) AS e";

/// Makes a room with its founders, unless its id is in use.
pub(super) const ROOM: &str = "WITH made AS (
         INSERT INTO rooms (id, log_id, room_type, name, name_key, description, created_by, created_at, updated_at,
                            member_count)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING RETURNING id),
     founders AS (
         INSERT INTO members (room_id, user_id, role, standing, joined_at)
         SELECT made.id, one.who, one.role, one.standing, $8
         FROM made, unnest($11::uuid[], $12::smallint[], $13::bigint[]) AS one (who, role, standing)),
     visited AS (
         INSERT INTO visits (user_id, room_id)
         SELECT one.who, made.id FROM made, unnest($11::uuid[]) AS one (who) ON CONFLICT DO NOTHING)
     SELECT id FROM made";

/// An entry and its stored form.
pub(super) type Row<'a> = (&'a Entry, &'a str);

/// Writes all of it or nothing. It is durable when this answers.
pub(super) async fn write(db: &mut PgConnection, rows: &[Row<'_>]) -> Result<(), Error> {
    let projection = Projection::of(rows.iter().map(|(entry, _)| *entry));
    let query = if projection.is_empty() {
        bind_entries(sqlx::query(ENTRIES), rows)
    } else {
        bind_projection(bind_entries(sqlx::query(ENTRIES_AND_PROJECTION), rows), projection)
    };
    // To the end of the answer, which comes after the commit.
    query.execute(db).await.map(|_| ())
}

/// The rooms among these whose entries cannot be written, because something else holds a seq or a client id of them.
pub(super) async fn displaced(db: &mut PgConnection, rows: &[Row<'_>]) -> Result<Vec<RoomId>, Error> {
    let (mut rooms, mut senders, mut client_ids) = (Vec::new(), Vec::new(), Vec::new());
    for (entry, _) in rows {
        if let Some(message) = entry.message() {
            rooms.push(entry.room.0);
            senders.push(message.sender.0);
            client_ids.push(message.client_id.as_str());
        }
    }
    let found: Vec<Uuid> = sqlx::query_scalar(DISPLACED)
        .bind(column(rows, |entry| entry.room.0))
        .bind(column(rows, |entry| entry.seq))
        .bind(rooms)
        .bind(senders)
        .bind(client_ids)
        .fetch_all(db)
        .await?;
    Ok(found.into_iter().map(RoomId).collect())
}

/// Makes a room; answers false and changes nothing when its id is in use. It is durable when this answers.
pub(super) async fn create(db: &mut PgConnection, room: &NewRoom) -> Result<bool, Error> {
    let meta = &room.meta;
    let room_type = i16::try_from(payload::type_number(meta.room_type)).map_err(|error| Error::Encode(error.into()))?;
    let roles = room.founders.iter().map(|(_, role)| if *role == Role::Owner { OWNER } else { MEMBER });
    // All rows, that is to the end of the answer, which comes after the commit.
    let made = sqlx::query(ROOM)
        .bind(meta.id.0)
        .bind(meta.log.0)
        .bind(room_type)
        .bind(&meta.name)
        .bind(fold(&meta.name))
        .bind(&meta.description)
        .bind(meta.created_by.map(|user| user.0))
        .bind(meta.created_at.0)
        .bind(meta.updated_at.0)
        .bind(i64::try_from(room.founders.len()).unwrap_or(i64::MAX))
        .bind(room.founders.iter().map(|(user, _)| user.0).collect::<Vec<_>>())
        .bind(roles.collect::<Vec<_>>())
        .bind((0..room.founders.len()).map(|place| Standing::new(0, place).0).collect::<Vec<_>>())
        .fetch_all(db)
        .await?;
    Ok(!made.is_empty())
}

type Insert<'q> = Query<'q, Postgres, PgArguments>;

fn column<T>(rows: &[Row<'_>], value: impl Fn(&Entry) -> T) -> Vec<T> {
    rows.iter().map(|(entry, _)| value(entry)).collect()
}

fn bind_entries<'q>(query: Insert<'q>, rows: &[Row<'q>]) -> Insert<'q> {
    let client_ids: Vec<_> =
        rows.iter().map(|(entry, _)| entry.message().map(|message| message.client_id.as_str())).collect();
    let payloads: Vec<_> = rows.iter().map(|(_, payload)| *payload).collect();
    query
        .bind(column(rows, |entry| entry.room.0))
        .bind(column(rows, |entry| entry.seq))
        .bind(column(rows, |entry| entry.id.0))
        .bind(column(rows, |entry| Kind::of(&entry.event) as i16))
        .bind(column(rows, |entry| entry.messages))
        .bind(column(rows, |entry| entry.at.0))
        .bind(column(rows, |entry| entry.message().map(|message| message.sender.0)))
        .bind(client_ids)
        .bind(payloads)
}

fn bind_projection(query: Insert<'_>, projection: Projection) -> Insert<'_> {
    let Projection { gone, came, promoted, visited, rooms } = projection;
    let (gone_rooms, gone_users): (Vec<_>, Vec<_>) = gone.into_iter().unzip();
    let (visited_rooms, visited_users): (Vec<_>, Vec<_>) = visited.into_iter().unzip();
    let (promoted_rooms, promoted_users): (Vec<_>, Vec<_>) = promoted.into_iter().unzip();
    let query = query.bind(gone_rooms).bind(gone_users);
    let query = bind_came(query, &came).bind(OWNER).bind(promoted_rooms).bind(promoted_users);
    let (mut ids, mut names, mut keys, mut descriptions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut updated, mut closed, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for room in rooms {
        ids.push(room.room);
        names.push(room.name);
        keys.push(room.name_key);
        descriptions.push(room.description);
        updated.push(room.updated_at);
        closed.push(room.closed_at);
        counts.push(room.member_count);
    }
    query
        .bind(ids)
        .bind(names)
        .bind(keys)
        .bind(descriptions)
        .bind(updated)
        .bind(closed)
        .bind(counts)
        .bind(visited_rooms)
        .bind(visited_users)
}

fn bind_came<'q>(query: Insert<'q>, came: &[Came]) -> Insert<'q> {
    let who: (Vec<Uuid>, Vec<Uuid>) = came.iter().map(|one| -> Who { one.who }).unzip();
    query
        .bind(who.0)
        .bind(who.1)
        .bind(came.iter().map(|one| one.role).collect::<Vec<_>>())
        .bind(came.iter().map(|one| one.standing).collect::<Vec<_>>())
        .bind(came.iter().map(|one| one.joined_at).collect::<Vec<_>>())
}
