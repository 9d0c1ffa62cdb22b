//! What follows from entries, written in the same transaction: the members as they are now, a room's name, counts. The
//! committer calls it; nothing here decides anything.

use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{
    entry::{Entry, Event, MembersChanged},
    id::UserId,
    member::{Role, Standing},
    room::NewRoom,
    store::{fold, payload},
};

/// Roles as numbers.
pub(super) const MEMBER: i64 = 1;
/// See [`MEMBER`].
pub(super) const OWNER: i64 = 2;

/// Takes in one entry.
pub(super) async fn project(connection: &mut SqliteConnection, entry: &Entry) -> Result<(), sqlx::Error> {
    let room = entry.room.0;
    match &entry.event {
        Event::Message(_) => {}
        Event::Members(change) => members(connection, entry, change).await?,
        Event::Updated(updated) => {
            sqlx::query("UPDATE rooms SET name = ?, name_key = ?, description = ?, updated_at = ? WHERE id = ?")
                .bind(&updated.name)
                .bind(fold(&updated.name))
                .bind(&updated.description)
                .bind(entry.at.0)
                .bind(room)
                .execute(connection)
                .await?;
        }
        Event::Closed(_) => {
            sqlx::query("UPDATE rooms SET closed_at = ? WHERE id = ?")
                .bind(entry.at.0)
                .bind(room)
                .execute(connection)
                .await?;
        }
    }
    Ok(())
}

async fn members(connection: &mut SqliteConnection, entry: &Entry, change: &MembersChanged) -> Result<(), sqlx::Error> {
    let room = entry.room.0;
    let gone: Vec<UserId> = change.left.iter().chain(&change.removed).copied().collect();
    if !gone.is_empty() {
        sqlx::query("DELETE FROM members WHERE room_id = ? AND user_id IN (SELECT unhex(value) FROM json_each(?))")
            .bind(room)
            .bind(hex_list(gone.iter().map(|user| user.0)))
            .execute(&mut *connection)
            .await?;
    }
    if !change.joined.is_empty() {
        // `key` is the place in the list; `WHERE true` keeps the parser from taking ON for a join's.
        sqlx::query(
            "INSERT INTO members (room_id, user_id, role, standing, joined_at)
             SELECT ?1, unhex(value), ?2, ?3 + key, ?4 FROM json_each(?5) WHERE true
             ON CONFLICT (room_id, user_id) DO UPDATE SET
                role = excluded.role, standing = excluded.standing, joined_at = excluded.joined_at",
        )
        .bind(room)
        .bind(MEMBER)
        .bind(Standing::new(entry.seq, 0).0)
        .bind(entry.at.0)
        .bind(hex_list(change.joined.iter().map(|user| user.0)))
        .execute(&mut *connection)
        .await?;
        visit(connection, room, change.joined.iter().map(|user| user.0)).await?;
    }
    if let Some(owner) = change.new_owner {
        sqlx::query("UPDATE members SET role = ? WHERE room_id = ? AND user_id = ?")
            .bind(OWNER)
            .bind(room)
            .bind(owner.0)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("UPDATE rooms SET member_count = ? WHERE id = ?")
        .bind(change.member_count)
        .bind(room)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that people have been in a room; that stays when they leave.
async fn visit(
    connection: &mut SqliteConnection,
    room: Uuid,
    users: impl Iterator<Item = Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT OR IGNORE INTO visits (user_id, room_id) SELECT unhex(value), ? FROM json_each(?)")
        .bind(room)
        .bind(hex_list(users))
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes a room with its founders; answers false and changes nothing when the id is in use.
pub(super) async fn create(connection: &mut SqliteConnection, room: &NewRoom) -> Result<bool, sqlx::Error> {
    let meta = &room.meta;
    let made = sqlx::query(
        "INSERT INTO rooms (id, log_id, room_type, name, name_key, description, created_by, created_at, updated_at,
             member_count)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )
    .bind(meta.id.0)
    .bind(meta.log.0)
    .bind(payload::type_number(meta.room_type))
    .bind(&meta.name)
    .bind(fold(&meta.name))
    .bind(&meta.description)
    .bind(meta.created_by.map(|user| user.0))
    .bind(meta.created_at.0)
    .bind(meta.updated_at.0)
    .bind(i64::try_from(room.founders.len()).unwrap_or(i64::MAX))
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if made == 0 {
        return Ok(false);
    }
    for (place, (user, role)) in room.founders.iter().enumerate() {
        sqlx::query("INSERT INTO members (room_id, user_id, role, standing, joined_at) VALUES (?, ?, ?, ?, ?)")
            .bind(meta.id.0)
            .bind(user.0)
            .bind(if *role == Role::Owner { OWNER } else { MEMBER })
            .bind(Standing::new(0, place).0)
            .bind(meta.created_at.0)
            .execute(&mut *connection)
            .await?;
    }
    visit(connection, meta.id.0, room.founders.iter().map(|(user, _)| user.0)).await?;
    Ok(true)
}

/// Ids as a JSON list of hexadecimal text, for `unhex(value) FROM json_each(?)`: one parameter for any number of ids.
pub(super) fn hex_list(ids: impl Iterator<Item = Uuid>) -> String {
    let mut list = String::from("[");
    for id in ids {
        if list.len() > 1 {
            list.push(',');
        }
        list.push('"');
        list.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        list.push('"');
    }
    list.push(']');
    list
}
