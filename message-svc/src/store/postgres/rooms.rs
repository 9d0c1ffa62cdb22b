//! Reading rooms and members: what a task loads, what a caller sees, lists by keyset. One statement sees one moment, so
//! nothing here needs a transaction.

use std::sync::Arc;

use mesh::time::Millis;
use sqlx::{Error, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{OWNER, Rows, limit, read_error};
use crate::{
    id::{LogId, RoomId, UserId},
    member::{Member, Members, Role, SHOWN_MAX, Standing},
    room::{RoomMeta, View, state::RoomState},
    store::{JoinedBefore, NamedAfter, StoreError, fold, payload},
};

/// Columns 0–15 of every query for views: the room `r`, the caller's membership `m`, the end of the room's log `e`.
macro_rules! select_views {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.log_id, r.room_type, r.name, r.description, r.created_by, r.created_at, r.updated_at,
                    r.closed_at, r.member_count, m.user_id, m.role, m.standing, m.joined_at, e.seq, e.messages ",
            $rest
        )
    };
}

/// The room with nobody's membership, and after it the members in four lists.
pub(super) const LOAD: &str =
    "SELECT r.id, r.log_id, r.room_type, r.name, r.description, r.created_by, r.created_at, r.updated_at, r.closed_at,
            r.member_count, NULL::uuid, NULL::smallint, NULL::bigint, NULL::bigint, e.seq, e.messages,
            m.users, m.roles, m.standings, m.joined
     FROM rooms AS r
     LEFT JOIN LATERAL (SELECT seq, messages FROM entries WHERE room_id = r.id ORDER BY seq DESC LIMIT 1) AS e ON true
     LEFT JOIN LATERAL (SELECT array_agg(user_id) AS users, array_agg(role) AS roles, array_agg(standing) AS standings,
                               array_agg(joined_at) AS joined FROM members WHERE room_id = r.id) AS m ON true
     WHERE r.id = $1";

pub(super) const VIEW: &str = select_views!(
    "FROM rooms AS r
     LEFT JOIN members AS m ON m.room_id = r.id AND m.user_id = $2
     LEFT JOIN LATERAL (SELECT seq, messages FROM entries WHERE room_id = r.id ORDER BY seq DESC LIMIT 1) AS e ON true
     WHERE r.id = $1"
);

pub(super) const ROOMS_AFTER: &str = "SELECT id FROM rooms WHERE id > $1 ORDER BY id LIMIT $2";

pub(super) async fn rooms_after(
    db: &mut PgConnection,
    after: Option<RoomId>,
    rooms_max: usize,
) -> Result<Vec<RoomId>, Error> {
    let after = after.map_or(Uuid::nil(), |room| room.0);
    let ids: Vec<Uuid> = sqlx::query_scalar(ROOMS_AFTER).bind(after).bind(limit(rooms_max)).fetch_all(db).await?;
    Ok(ids.into_iter().map(RoomId).collect())
}

pub(super) const ROOMS_KNOWN_TO: &str =
    "SELECT room_id FROM visits WHERE user_id = $1 AND room_id > $2 ORDER BY room_id LIMIT $3";

pub(super) async fn rooms_known_to(
    db: &mut PgConnection,
    user: UserId,
    after: Option<RoomId>,
    rooms_max: usize,
) -> Result<Vec<RoomId>, Error> {
    let after = after.map_or(Uuid::nil(), |room| room.0);
    let query = sqlx::query_scalar(ROOMS_KNOWN_TO).bind(user.0).bind(after).bind(limit(rooms_max));
    let ids: Vec<Uuid> = query.fetch_all(db).await?;
    Ok(ids.into_iter().map(RoomId).collect())
}

pub(super) const ROOMS_OF: &str = select_views!(
    "FROM members AS m
     JOIN rooms AS r ON r.id = m.room_id AND r.closed_at IS NULL
     LEFT JOIN LATERAL (SELECT seq, messages FROM entries WHERE room_id = r.id ORDER BY seq DESC LIMIT 1) AS e ON true
     WHERE m.user_id = $1 AND (m.joined_at, m.room_id) < ($2, $3)
     ORDER BY m.joined_at DESC, m.room_id DESC LIMIT $4"
);

pub(super) const PUBLIC_ROOMS: &str = select_views!(
    "FROM rooms AS r
     LEFT JOIN members AS m ON m.room_id = r.id AND m.user_id = $1
     LEFT JOIN LATERAL (SELECT seq, messages FROM entries WHERE room_id = r.id ORDER BY seq DESC LIMIT 1) AS e ON true
     WHERE r.room_type = 1 AND r.closed_at IS NULL AND (r.name_key, r.id) > ($2, $3) AND strpos(r.name_key, $4) > 0
     ORDER BY r.name_key, r.id LIMIT $5"
);

pub(super) const MEMBERS: &str = "SELECT user_id, role, standing, joined_at FROM members
     WHERE room_id = $1 AND standing > $2 ORDER BY standing LIMIT $3";

pub(super) const SHOWN_MEMBERS: &str = "SELECT asked.place, m.user_id
     FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (room, place)
     CROSS JOIN LATERAL (SELECT user_id, standing FROM members WHERE room_id = asked.room
                         ORDER BY standing LIMIT $2) AS m
     ORDER BY asked.place, m.standing";

/// A table is read, not only a constant, so that a database without our tables is noticed.
pub(super) const IS_WRITABLE: &str =
    "SELECT current_setting('transaction_read_only') = 'off' AND (SELECT count(*) FROM rooms WHERE id = $1) >= 0";

pub(super) async fn load(db: &mut PgConnection, room: RoomId) -> Rows {
    sqlx::query(LOAD).bind(room.0).fetch_all(db).await
}

pub(super) async fn view(db: &mut PgConnection, room: RoomId, user: Option<UserId>) -> Rows {
    sqlx::query(VIEW).bind(room.0).bind(user.map(|user| user.0)).fetch_all(db).await
}

pub(super) async fn rooms_of(
    db: &mut PgConnection,
    user: UserId,
    after: Option<JoinedBefore>,
    rooms_max: usize,
) -> Rows {
    let (at, room) = after.map_or((i64::MAX, Uuid::max()), |after| (after.joined_at.0, after.room.0));
    sqlx::query(ROOMS_OF).bind(user.0).bind(at).bind(room).bind(limit(rooms_max)).fetch_all(db).await
}

pub(super) async fn public_rooms(
    db: &mut PgConnection,
    user: UserId,
    search: &str,
    after: Option<&NamedAfter>,
    rooms_max: usize,
) -> Rows {
    let (name, room) = after.map_or((String::new(), Uuid::nil()), |after| (fold(&after.name), after.room.0));
    sqlx::query(PUBLIC_ROOMS)
        .bind(user.0)
        .bind(name)
        .bind(room)
        .bind(fold(search))
        .bind(limit(rooms_max))
        .fetch_all(db)
        .await
}

pub(super) async fn members(db: &mut PgConnection, room: RoomId, after: Option<Standing>, members_max: usize) -> Rows {
    let after = after.map_or(-1, |standing| standing.0);
    sqlx::query(MEMBERS).bind(room.0).bind(after).bind(limit(members_max)).fetch_all(db).await
}

pub(super) async fn shown_members(db: &mut PgConnection, rooms: &[RoomId]) -> Rows {
    let rooms: Vec<Uuid> = rooms.iter().map(|room| room.0).collect();
    sqlx::query(SHOWN_MEMBERS).bind(rooms).bind(limit(SHOWN_MAX)).fetch_all(db).await
}

pub(super) async fn is_writable(db: &mut PgConnection) -> Result<bool, Error> {
    sqlx::query_scalar(IS_WRITABLE).bind(RoomId::GENERAL.0).fetch_one(db).await
}

pub(super) fn shown_of(rows: &[PgRow], rooms: usize) -> Result<Vec<Vec<UserId>>, StoreError> {
    let mut shown = vec![Vec::new(); rooms];
    for row in rows {
        let place: i64 = row.try_get(0).map_err(read_error)?;
        let user = UserId(row.try_get(1).map_err(read_error)?);
        // The first place is 1.
        if let Some(users) = usize::try_from(place - 1).ok().and_then(|place| shown.get_mut(place)) {
            users.push(user);
        }
    }
    Ok(shown)
}

pub(super) fn state_of(row: &PgRow) -> Result<RoomState, StoreError> {
    let view = view_of(row)?;
    let users: Option<Vec<Uuid>> = row.try_get(16).map_err(read_error)?;
    let roles: Option<Vec<i16>> = row.try_get(17).map_err(read_error)?;
    let standings: Option<Vec<i64>> = row.try_get(18).map_err(read_error)?;
    let joined: Option<Vec<i64>> = row.try_get(19).map_err(read_error)?;
    let members = users
        .into_iter()
        .flatten()
        .zip(roles.into_iter().flatten())
        .zip(standings.into_iter().flatten().zip(joined.into_iter().flatten()))
        .map(|((user, role), (standing, joined_at))| member(user, role, standing, joined_at));
    Ok(RoomState {
        meta: view.meta,
        members: Members::new(members),
        closed: view.closed,
        last_seq: view.last_seq,
        messages: view.messages,
    })
}

pub(super) fn view_of(row: &PgRow) -> Result<View, StoreError> {
    let room_type: i16 = row.try_get(2).map_err(read_error)?;
    let created_by: Option<Uuid> = row.try_get(5).map_err(read_error)?;
    let closed_at: Option<i64> = row.try_get(8).map_err(read_error)?;
    let last_seq: Option<i64> = row.try_get(14).map_err(read_error)?;
    let messages: Option<i64> = row.try_get(15).map_err(read_error)?;
    let inside: Option<Uuid> = row.try_get(10).map_err(read_error)?;
    Ok(View {
        meta: Arc::new(RoomMeta {
            id: RoomId(row.try_get(0).map_err(read_error)?),
            log: LogId(row.try_get(1).map_err(read_error)?),
            room_type: payload::room_type(room_type.into())?,
            name: row.try_get(3).map_err(read_error)?,
            description: row.try_get(4).map_err(read_error)?,
            created_by: created_by.map(UserId),
            created_at: Millis(row.try_get(6).map_err(read_error)?),
            updated_at: Millis(row.try_get(7).map_err(read_error)?),
        }),
        closed: closed_at.is_some(),
        member_count: row.try_get(9).map_err(read_error)?,
        member: inside.map(|_| member_of(row, 10)).transpose()?,
        last_seq: last_seq.unwrap_or(0),
        messages: messages.unwrap_or(0),
    })
}

pub(super) fn listed_of(row: &PgRow) -> Result<Member, StoreError> {
    member_of(row, 0)
}

/// The member whose columns start there.
fn member_of(row: &PgRow, from: usize) -> Result<Member, StoreError> {
    Ok(member(
        row.try_get(from).map_err(read_error)?,
        row.try_get(from + 1).map_err(read_error)?,
        row.try_get(from + 2).map_err(read_error)?,
        row.try_get(from + 3).map_err(read_error)?,
    ))
}

fn member(user: Uuid, role: i16, standing: i64, joined_at: i64) -> Member {
    Member {
        user: UserId(user),
        role: if role == OWNER { Role::Owner } else { Role::Member },
        standing: Standing(standing),
        joined_at: Millis(joined_at),
    }
}
