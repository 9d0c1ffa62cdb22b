//! A SQLite store as records, from the list of its tables ([`Kind`]). Everything is read in one transaction, so what is
//! handed out was true at one moment; it is written in batches, each one statement for many rows.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use mesh::moving::{House, Kind, Line, Mark, MoveError, Out, Record, Type, hex};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Error, Row as _, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

/// The store.
#[derive(Debug)]
pub struct Tables {
    kinds: &'static [Kind],
    marks: Marks,
    readers: SqlitePool,
}

impl Tables {
    /// The tables of these kinds.
    #[must_use]
    pub fn new(kinds: &'static [Kind], writer: SqlitePool, readers: SqlitePool) -> Self {
        Self { kinds, marks: Marks { writer }, readers }
    }
}

#[async_trait]
impl House for Tables {
    fn kinds(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        self.kinds.iter().map(|kind| (kind.name, kind.fields.iter().map(|(name, _)| *name).collect())).collect()
    }

    async fn export(&self, out: &Out) -> Result<(), MoveError> {
        let mut connection = self.readers.acquire().await.map_err(MoveError::store)?;
        let mut moment = connection.begin().await.map_err(MoveError::store)?;
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
        for kind in self.kinds.iter().filter(|kind| !kind.one) {
            let sql = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {})", kind.table));
            if sqlx::query_scalar(sql).fetch_one(&self.readers).await.map_err(MoveError::store)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write(&self, lines: Vec<Line>) -> Result<(), MoveError> {
        let mut write = self.marks.writer.begin_with("BEGIN IMMEDIATE").await.map_err(MoveError::store)?;
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
        self.readers.close().await;
        mesh::moving::Marks::close(&self.marks).await;
    }
}

fn select(kind: &Kind) -> String {
    let columns: Vec<_> = kind.fields.iter().map(|(name, _)| *name).collect();
    format!("SELECT {} FROM {} ORDER BY {}", columns.join(", "), kind.table, kind.key.join(", "))
}

fn record(kind: &Kind, row: &SqliteRow) -> Result<Record, Error> {
    let mut record = Record::new(kind.name);
    for (place, (name, field)) in kind.fields.iter().enumerate() {
        record = match field {
            Type::Id => record.with(name, &row.try_get::<Option<Uuid>, _>(place)?),
            Type::Bytes => record.with(name, &row.try_get::<Option<&[u8]>, _>(place)?.map(hex)),
            Type::Text => record.with(name, &row.try_get::<Option<&str>, _>(place)?),
            Type::Texts => {
                let list: Option<&str> = row.try_get(place)?;
                let list: Option<Vec<String>> = list
                    .map(serde_json::from_str)
                    .transpose()
                    .map_err(|error| Error::ColumnDecode { index: (*name).to_owned(), source: Box::new(error) })?;
                record.with(name, &list)
            }
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
        Type::Id => format!("unhex(value ->> '{name}', '-')"),
        Type::Bytes => format!("unhex(value ->> '{name}')"),
        // The list stays JSON.
        Type::Texts => format!("nullif(value -> '{name}', 'null')"),
        Type::Text | Type::Number | Type::Flag => format!("value ->> '{name}'"),
    });
    let values: Vec<_> = values.collect();
    let columns: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let (table, columns, values) = (kind.table, columns.join(", "), values.join(", "));
    if kind.one {
        return format!("UPDATE {table} SET ({columns}) = (SELECT {values} FROM json_each(?))");
    }
    // `WHERE true` keeps the parser from taking ON for a join's.
    format!("INSERT INTO {table} ({columns}) SELECT {values} FROM json_each(?) WHERE true ON CONFLICT DO NOTHING")
}

/// What a file remembers of an import, in a table that is made for the first.
#[derive(Debug)]
pub struct Marks {
    /// A connection that writes.
    pub writer: SqlitePool,
}

#[async_trait]
impl mesh::moving::Marks for Marks {
    async fn get(&self) -> Result<Option<Mark>, MoveError> {
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'import_mark')")
            .fetch_one(&self.writer)
            .await
            .map_err(MoveError::store)?;
        if !there {
            return Ok(None);
        }
        let found: Option<(Uuid, bool)> = sqlx::query_as("SELECT file, done FROM import_mark")
            .fetch_optional(&self.writer)
            .await
            .map_err(MoveError::store)?;
        Ok(found.map(|(file, done)| Mark { file, done }))
    }

    async fn set(&self, mark: Mark) -> Result<(), MoveError> {
        let mut write = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(MoveError::store)?;
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS import_mark
                (one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), file BLOB NOT NULL, done INTEGER NOT NULL) STRICT",
        )
        .execute(&mut *write)
        .await
        .map_err(MoveError::store)?;
        sqlx::query("INSERT OR REPLACE INTO import_mark (one, file, done) VALUES (1, ?, ?)")
            .bind(mark.file)
            .bind(mark.done)
            .execute(&mut *write)
            .await
            .map_err(MoveError::store)?;
        write.commit().await.map_err(MoveError::store)
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}
