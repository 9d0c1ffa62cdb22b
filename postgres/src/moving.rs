//! A PostgreSQL store as records, from the list of its tables ([`Kind`]). Everything is read in one transaction that sees
//! one moment; it is written in batches, each one statement for many rows. Neither has the time limit of a call.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use mesh::moving::{House, Kind, Line, Mark, MoveError, Out, Record, Type, hex};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Error, Executor as _, PgConnection, Row as _, postgres::PgRow};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::Server;

/// Takes the limits of a call away.
const PATIENT: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// The store.
#[derive(Debug)]
pub struct Tables {
    kinds: &'static [Kind],
    marks: Marks,
}

impl Tables {
    /// The tables of these kinds.
    #[must_use]
    pub fn new(kinds: &'static [Kind], server: Server) -> Self {
        Self { kinds, marks: Marks::new(server) }
    }
}

#[async_trait]
impl House for Tables {
    fn kinds(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        self.kinds.iter().map(|kind| (kind.name, kind.fields.iter().map(|(name, _)| *name).collect())).collect()
    }

    async fn export(&self, out: &Out) -> Result<(), MoveError> {
        let mut connection = self.marks.server.connect().await.map_err(MoveError::store)?;
        connection.execute(PATIENT).await.map_err(MoveError::store)?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        let mut moment = connection.begin_with(begin).await.map_err(MoveError::store)?;
        for kind in self.kinds {
            let sql = AssertSqlSafe(select(kind));
            let mut rows = sqlx::query(sql).fetch(&mut *moment);
            while let Some(row) = rows.try_next().await.map_err(MoveError::store)? {
                out.put(record(kind, &row).map_err(MoveError::store)?).await?;
            }
        }
        moment.rollback().await.map_err(MoveError::store)
    }

    async fn is_empty(&self) -> Result<bool, MoveError> {
        let mut connection = self.marks.server.connect().await.map_err(MoveError::store)?;
        for kind in self.kinds.iter().filter(|kind| !kind.one) {
            let sql = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {})", kind.table));
            if sqlx::query_scalar(sql).fetch_one(&mut connection).await.map_err(MoveError::store)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write(&self, lines: Vec<Line>) -> Result<(), MoveError> {
        let mut guard = self.marks.connection().await?;
        let connection = guard.as_mut().expect("invariant: it has been made");
        let mut write = connection.begin().await.map_err(MoveError::store)?;
        for some in lines.chunk_by(|one, next| one.kind == next.kind && one.fields.keys().eq(next.fields.keys())) {
            let [first, ..] = some else { continue };
            let kind = self.kinds.iter().find(|kind| kind.name == first.kind);
            let kind = kind.ok_or_else(|| first.wrong("its kind is not this store's"))?;
            some.iter().try_for_each(|line| kind.check(line))?;
            let rows: Value = some.iter().map(|line| Value::Object(line.fields.clone())).collect();
            sqlx::query(AssertSqlSafe(insert(kind, first))).bind(rows.to_string()).execute(&mut *write).await.map_err(
                |error| first.wrong(format_args!("it or one of the {} after it is refused: {error}", some.len() - 1)),
            )?;
        }
        write.commit().await.map_err(MoveError::store)
    }

    fn marks(&self) -> &dyn mesh::moving::Marks {
        &self.marks
    }

    async fn close(&self) {
        mesh::moving::Marks::close(&self.marks).await;
    }
}

fn select(kind: &Kind) -> String {
    let columns: Vec<_> = kind.fields.iter().map(|(name, _)| *name).collect();
    format!("SELECT {} FROM {} ORDER BY {}", columns.join(", "), kind.table, kind.key.join(", "))
}

fn record(kind: &Kind, row: &PgRow) -> Result<Record, Error> {
    let mut record = Record::new(kind.name);
    for (place, (name, field)) in kind.fields.iter().enumerate() {
        record = match field {
            Type::Id => record.with(name, &row.try_get::<Option<Uuid>, _>(place)?),
            Type::Bytes => record.with(name, &row.try_get::<Option<&[u8]>, _>(place)?.map(hex)),
            Type::Text => record.with(name, &row.try_get::<Option<&str>, _>(place)?),
            Type::Texts => record.with(name, &row.try_get::<Option<Vec<String>>, _>(place)?),
            Type::Number => record.with(name, &row.try_get::<Option<i64>, _>(place)?),
            Type::Flag => record.with(name, &row.try_get::<Option<bool>, _>(place)?),
        };
    }
    Ok(record)
}

/// Writes the rows of a JSON list. A row that is there stays as it is; the one row of a table that has one is changed.
fn insert(kind: &Kind, like: &Line) -> String {
    let fields: Vec<_> = kind.fields.iter().filter(|(name, _)| like.fields.contains_key(*name)).collect();
    let values = fields.iter().map(|(name, field)| match field {
        Type::Id => format!("(r ->> '{name}')::uuid"),
        Type::Bytes => format!("decode(r ->> '{name}', 'hex')"),
        Type::Text => format!("r ->> '{name}'"),
        Type::Texts => format!("ARRAY(SELECT json_array_elements_text(r -> '{name}'))"),
        Type::Number => format!("(r ->> '{name}')::bigint"),
        Type::Flag => format!("(r ->> '{name}')::boolean"),
    });
    let values: Vec<_> = values.collect();
    let columns: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let (table, columns, values) = (kind.table, columns.join(", "), values.join(", "));
    if kind.one {
        return format!("UPDATE {table} SET ({columns}) = (SELECT {values} FROM json_array_elements($1::json) AS r)");
    }
    format!(
        "INSERT INTO {table} ({columns}) SELECT {values} FROM json_array_elements($1::json) AS r ON CONFLICT DO NOTHING"
    )
}

/// What a schema remembers of an import, in a table that is made for the first.
#[derive(Debug)]
pub struct Marks {
    server: Server,
    /// The connection that writes, made when it is needed.
    connection: Mutex<Option<PgConnection>>,
}

impl Marks {
    /// Of this server.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self { server, connection: Mutex::new(None) }
    }

    async fn connection(&self) -> Result<tokio::sync::MutexGuard<'_, Option<PgConnection>>, MoveError> {
        let mut guard = self.connection.lock().await;
        if guard.is_none() {
            let mut connection = self.server.connect().await.map_err(MoveError::store)?;
            connection.execute(PATIENT).await.map_err(MoveError::store)?;
            *guard = Some(connection);
        }
        Ok(guard)
    }
}

#[async_trait]
impl mesh::moving::Marks for Marks {
    async fn get(&self) -> Result<Option<Mark>, MoveError> {
        let mut guard = self.connection().await?;
        let connection = guard.as_mut().expect("invariant: it has been made");
        let there: bool = sqlx::query_scalar("SELECT to_regclass('import_mark') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await
            .map_err(MoveError::store)?;
        if !there {
            return Ok(None);
        }
        let found: Option<(Uuid, bool)> = sqlx::query_as("SELECT file, done FROM import_mark")
            .fetch_optional(&mut *connection)
            .await
            .map_err(MoveError::store)?;
        Ok(found.map(|(file, done)| Mark { file, done }))
    }

    async fn set(&self, mark: Mark) -> Result<(), MoveError> {
        let mut guard = self.connection().await?;
        let connection = guard.as_mut().expect("invariant: it has been made");
        connection
            .execute(
                "CREATE TABLE IF NOT EXISTS import_mark
                    (one integer NOT NULL PRIMARY KEY CHECK (one = 1), file uuid NOT NULL, done boolean NOT NULL)",
            )
            .await
            .map_err(MoveError::store)?;
        sqlx::query(
            "INSERT INTO import_mark (one, file, done) VALUES (1, $1, $2)
             ON CONFLICT (one) DO UPDATE SET file = excluded.file, done = excluded.done",
        )
        .bind(mark.file)
        .bind(mark.done)
        .execute(&mut *connection)
        .await
        .map_err(MoveError::store)?;
        Ok(())
    }

    async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            // Everything has been answered; how the connection ends adds nothing.
            drop(connection.close().await);
        }
    }
}
