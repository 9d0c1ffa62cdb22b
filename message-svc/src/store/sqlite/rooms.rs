//! Reading rooms and members: what a task loads, what a caller sees, lists by keyset.

use std::sync::Arc;

use mesh::time::Millis;
use sqlx::{Connection as _, Row as _, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    log::limit,
    projection::{OWNER, hex_list},
    read_error,
};
use crate::{
    id::{LogId, RoomId, UserId},
    member::{Member, Members, Role, SHOWN_MAX, Standing},
    room::{RoomMeta, View, state::RoomState},
    store::{JoinedBefore, NamedAfter, StoreError, fold, payload},
};

/// Columns 0–13 of every query for views, with the end of the room's log; `m` is the caller's membership.
macro_rules! select_views {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.log_id, r.room_type, r.name, r.description, r.created_by, r.created_at, r.updated_at,
                 r.closed_at, r.member_count, m.user_id, m.role, m.standing, m.joined_at,
                 (SELECT max(e.seq) FROM entries e WHERE e.room_id = r.id),
                 (SELECT e.messages FROM entries e WHERE e.room_id = r.id ORDER BY e.seq DESC LIMIT 1) ",
            $rest
        )
    };
}

pub(super) async fn load(readers: &SqlitePool, room: RoomId) -> Result<Option<RoomState>, StoreError> {
    let mut connection = readers.acquire().await.map_err(read_error)?;
    // One transaction sees one moment.
    let mut moment = connection.begin().await.map_err(read_error)?;
    let row = sqlx::query(select_views!("FROM rooms r LEFT JOIN members m ON false WHERE r.id = ?"))
        .bind(room.0)
        .fetch_optional(&mut *moment)
        .await
        .map_err(read_error)?;
    let Some(row) = row else { return Ok(None) };
    let view = view_of(&row)?;
    let rows = sqlx::query("SELECT user_id, role, standing, joined_at FROM members WHERE room_id = ?")
        .bind(room.0)
        .fetch_all(&mut *moment)
        .await
        .map_err(read_error)?;
    moment.rollback().await.map_err(read_error)?;
    let members = rows.iter().map(|row| member_of(row, 0)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(RoomState {
        meta: view.meta,
        members: Members::new(members.into_iter().flatten()),
        closed: view.closed,
        last_seq: view.last_seq,
        messages: view.messages,
    }))
}

pub(super) async fn view(readers: &SqlitePool, room: RoomId, user: Option<UserId>) -> Result<Option<View>, StoreError> {
    let row = sqlx::query(select_views!(
        "FROM rooms r LEFT JOIN members m ON m.room_id = r.id AND m.user_id = ?2 WHERE r.id = ?1"
    ))
    .bind(room.0)
    .bind(user.map(|user| user.0))
    .fetch_optional(readers)
    .await
    .map_err(read_error)?;
    row.as_ref().map(view_of).transpose()
}

/// By the primary key.
pub(super) const ROOMS_AFTER: &str = "SELECT id FROM rooms WHERE id > ? ORDER BY id LIMIT ? + 0";

pub(super) async fn rooms_after(
    readers: &SqlitePool,
    after: Option<RoomId>,
    rooms_max: usize,
) -> Result<Vec<RoomId>, StoreError> {
    let after = after.map_or(Uuid::nil(), |room| room.0);
    let ids: Vec<Uuid> = sqlx::query_scalar(ROOMS_AFTER)
        .bind(after)
        .bind(limit(rooms_max))
        .fetch_all(readers)
        .await
        .map_err(read_error)?;
    Ok(ids.into_iter().map(RoomId).collect())
}

pub(super) const ROOMS_KNOWN_TO: &str =
    "SELECT room_id FROM visits WHERE user_id = ? AND room_id > ? ORDER BY room_id LIMIT ? + 0";

pub(super) async fn rooms_known_to(
    readers: &SqlitePool,
    user: UserId,
    after: Option<RoomId>,
    rooms_max: usize,
) -> Result<Vec<RoomId>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar(ROOMS_KNOWN_TO)
        .bind(user.0)
        .bind(after.map_or(Uuid::nil(), |room| room.0))
        .bind(limit(rooms_max))
        .fetch_all(readers)
        .await
        .map_err(read_error)?;
    Ok(ids.into_iter().map(RoomId).collect())
}

pub(super) async fn rooms_of(
    readers: &SqlitePool,
    user: UserId,
    after: Option<JoinedBefore>,
    rooms_max: usize,
) -> Result<Vec<View>, StoreError> {
    let (at, room) = after.map_or((i64::MAX, Uuid::max()), |after| (after.joined_at.0, after.room.0));
    let rows = sqlx::query(select_views!(
        "FROM members m INDEXED BY members_by_user CROSS JOIN rooms r ON r.id = m.room_id AND r.closed_at IS NULL
         WHERE m.user_id = ?1 AND (m.joined_at, m.room_id) < (?2, ?3)
         ORDER BY m.joined_at DESC, m.room_id DESC LIMIT ?4 + 0"
    ))
    .bind(user.0)
    .bind(at)
    .bind(room)
    .bind(limit(rooms_max))
    .fetch_all(readers)
    .await
    .map_err(read_error)?;
    rows.iter().map(view_of).collect()
}

pub(super) async fn public_rooms(
    readers: &SqlitePool,
    user: UserId,
    search: &str,
    after: Option<NamedAfter>,
    rooms_max: usize,
) -> Result<Vec<View>, StoreError> {
    let (name, room) = after.map_or((String::new(), Uuid::nil()), |after| (fold(&after.name), after.room.0));
    let rows = sqlx::query(select_views!(
        "FROM rooms r INDEXED BY rooms_public LEFT JOIN members m ON m.room_id = r.id AND m.user_id = ?1
         WHERE r.room_type = 1 AND r.closed_at IS NULL AND (r.name_key, r.id) > (?2, ?3)
           AND (?4 = '' OR instr(r.name_key, ?4) > 0)
         ORDER BY r.name_key, r.id LIMIT ?5 + 0"
    ))
    .bind(user.0)
    .bind(name)
    .bind(room)
    .bind(fold(search))
    .bind(limit(rooms_max))
    .fetch_all(readers)
    .await
    .map_err(read_error)?;
    rows.iter().map(view_of).collect()
}

pub(super) async fn members(
    readers: &SqlitePool,
    room: RoomId,
    after: Option<Standing>,
    members_max: usize,
) -> Result<Vec<Member>, StoreError> {
    let rows = sqlx::query(
        "SELECT user_id, role, standing, joined_at FROM members
         WHERE room_id = ? AND standing > ? ORDER BY standing LIMIT ? + 0",
    )
    .bind(room.0)
    .bind(after.map_or(-1, |standing| standing.0))
    .bind(limit(members_max))
    .fetch_all(readers)
    .await
    .map_err(read_error)?;
    let members = rows.iter().map(|row| member_of(row, 0)).collect::<Result<Vec<_>, _>>()?;
    Ok(members.into_iter().flatten().collect())
}

pub(super) async fn shown_members(readers: &SqlitePool, rooms: &[RoomId]) -> Result<Vec<Vec<UserId>>, StoreError> {
    // The inner query finds where a large room's first members end, so that the rest of them is not read.
    let rows = sqlx::query(
        "SELECT j.key, m.user_id
         FROM json_each(?1) AS j CROSS JOIN members m INDEXED BY members_by_standing
         ON m.room_id = unhex(j.value) AND m.standing <= coalesce(
             (SELECT n.standing FROM members n WHERE n.room_id = unhex(j.value) ORDER BY n.standing LIMIT 1 OFFSET ?2),
             9223372036854775807)
         ORDER BY j.key, m.standing",
    )
    .bind(hex_list(rooms.iter().map(|room| room.0)))
    .bind(limit(SHOWN_MAX - 1))
    .fetch_all(readers)
    .await
    .map_err(read_error)?;
    let mut shown = vec![Vec::new(); rooms.len()];
    for row in &rows {
        let place: i64 = row.try_get(0).map_err(read_error)?;
        let user = UserId(row.try_get(1).map_err(read_error)?);
        if let Some(users) = usize::try_from(place).ok().and_then(|place| shown.get_mut(place)) {
            users.push(user);
        }
    }
    Ok(shown)
}

fn view_of(row: &SqliteRow) -> Result<View, StoreError> {
    let created_by: Option<Uuid> = row.try_get(5).map_err(read_error)?;
    let closed_at: Option<i64> = row.try_get(8).map_err(read_error)?;
    let last_seq: Option<i64> = row.try_get(14).map_err(read_error)?;
    let messages: Option<i64> = row.try_get(15).map_err(read_error)?;
    Ok(View {
        meta: Arc::new(RoomMeta {
            id: RoomId(row.try_get(0).map_err(read_error)?),
            log: LogId(row.try_get(1).map_err(read_error)?),
            room_type: payload::room_type(row.try_get(2).map_err(read_error)?)?,
            name: row.try_get(3).map_err(read_error)?,
            description: row.try_get(4).map_err(read_error)?,
            created_by: created_by.map(UserId),
            created_at: Millis(row.try_get(6).map_err(read_error)?),
            updated_at: Millis(row.try_get(7).map_err(read_error)?),
        }),
        closed: closed_at.is_some(),
        member_count: row.try_get(9).map_err(read_error)?,
        member: member_of(row, 10)?,
        last_seq: last_seq.unwrap_or(0),
        messages: messages.unwrap_or(0),
    })
}

/// The member whose columns start there, if there is one.
fn member_of(row: &SqliteRow, from: usize) -> Result<Option<Member>, StoreError> {
    let Some(user) = row.try_get::<Option<Uuid>, _>(from).map_err(read_error)? else { return Ok(None) };
    let role: i64 = row.try_get(from + 1).map_err(read_error)?;
    Ok(Some(Member {
        user: UserId(user),
        role: if role == OWNER { Role::Owner } else { Role::Member },
        standing: Standing(row.try_get(from + 2).map_err(read_error)?),
        joined_at: Millis(row.try_get(from + 3).map_err(read_error)?),
    }))
}
