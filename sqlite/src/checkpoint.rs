//! Copies the write-ahead log back into the file while the writer goes on. SQLite does it within a commit, which then waits
//! for thousands of pages to be copied and for the disk: one send in fifty did, at a thousand a second. The writer still
//! copies the end of the log, which nobody else can, when it has come to its `wal_autocheckpoint`; little is left by then,
//! and what this task does not get done the writer does as ever, so that the log has its bound.

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions as _, Connection as _, Error, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{Mutex, oneshot},
    task::JoinHandle,
    time::sleep,
};

/// The time between two looks at the log. One costs some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The time after which a log that could not be copied is tried again. The writer copies it meanwhile.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The task that copies. It ends when this is closed or dropped.
#[derive(Debug)]
pub struct Checkpointer(Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>);

/// How long the log is and how much of it has been copied, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Log {
    pages: i64,
    copied: i64,
}

impl Checkpointer {
    /// Starts it for a file that is open, whose writer copies the log at so many pages.
    #[must_use]
    pub fn start(options: SqliteConnectOptions, writer_at_pages: u32) -> Self {
        let (stop, stopped) = oneshot::channel();
        // A checkpoint of its own commits would be none of its business.
        let task = tokio::spawn(run(options.pragma("wal_autocheckpoint", "0"), writer_at_pages.into(), stopped));
        Self(Mutex::new(Some((stop, task))))
    }

    /// Ends it and closes its connection.
    pub async fn close(&self) {
        let Some((stop, task)) = self.0.lock().await.take() else { return };
        drop(stop);
        if task.await.is_err() {
            tracing::error!("the checkpointer panicked");
        }
    }
}

async fn run(options: SqliteConnectOptions, writer_at: i64, mut stopped: oneshot::Receiver<()>) {
    let mut connection = None;
    let mut wait = LOOK_EVERY;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            () = sleep(wait) => {}
        }
        wait = match look(&mut connection, &options, writer_at).await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                connection = None;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the write-ahead log could not be copied back; its writer will do it");
                RETRY_AFTER
            }
        };
    }
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "the checkpointer did not close cleanly");
    }
}

/// Copies the log when the writer would soon: from three quarters of its bound on, whenever a sixteenth of it is new.
async fn look(
    connection: &mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
    writer_at: i64,
) -> Result<(), Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.connect().await?),
    };
    let log = checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)").await?;
    if log.pages < writer_at - writer_at / 4 || log.pages - log.copied < (writer_at / 16).max(1) {
        return Ok(());
    }
    let begun = Instant::now();
    // Passive: it takes no lock that a writer or a reader waits for.
    checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").await?;
    metrics::histogram!("switchboard_sqlite_checkpoint_seconds").record(begun.elapsed().as_secs_f64());
    Ok(())
}

async fn checkpoint(connection: &mut SqliteConnection, sql: &'static str) -> Result<Log, Error> {
    let (_busy, pages, copied): (i64, i64, i64) = sqlx::query_as(sql).fetch_one(connection).await?;
    Ok(Log { pages, copied })
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteJournalMode;

    use super::*;

    /// The writer's bound in these tests.
    const WRITER_AT: u32 = 64;

    async fn writer(path: &std::path::Path) -> (SqliteConnectOptions, SqliteConnection) {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("wal_autocheckpoint", "0");
        let mut writer = options.connect().await.expect("opens");
        sqlx::query("CREATE TABLE notes (text TEXT)").execute(&mut writer).await.expect("made");
        (options, writer)
    }

    async fn write(writer: &mut SqliteConnection) {
        sqlx::query("INSERT INTO notes VALUES (hex(randomblob(2000)))").execute(writer).await.expect("written");
    }

    #[tokio::test]
    async fn a_log_that_grows_is_copied_back_by_the_task_and_begun_anew_by_the_writer() {
        let folder = tempfile::tempdir().expect("folder");
        let (options, mut writer) = writer(&folder.path().join("notes.db")).await;
        let checkpointer = Checkpointer::start(options, WRITER_AT);
        let (mut longest, mut rows) = (0, 0);
        // The writer copies nothing here: the log begins anew only when the task has copied all of it.
        loop {
            write(&mut writer).await;
            rows += 1;
            let log = checkpoint(&mut writer, "PRAGMA wal_checkpoint(NOOP)").await.expect("the log");
            if log.pages < longest {
                break;
            }
            longest = log.pages;
            assert!(longest < 64 * i64::from(WRITER_AT), "nobody copies the log: {log:?}");
            // Time for the task, which a writer that never pauses would not leave the end of the log to.
            if log.pages >= WRITER_AT.into() {
                sleep(LOOK_EVERY).await;
            }
        }
        assert!(longest >= i64::from(WRITER_AT - WRITER_AT / 4), "{longest}");
        checkpointer.close().await;
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&mut writer).await.expect("count");
        assert_eq!(found, rows);
    }

    #[tokio::test]
    async fn a_short_log_is_left_alone_and_a_file_that_cannot_be_opened_is_tried_again() {
        let folder = tempfile::tempdir().expect("folder");
        let (options, mut writer) = writer(&folder.path().join("notes.db")).await;
        let mut connection = None;
        for _ in 0..5 {
            write(&mut writer).await;
            look(&mut connection, &options, WRITER_AT.into()).await.expect("looks");
        }
        let log = checkpoint(&mut writer, "PRAGMA wal_checkpoint(NOOP)").await.expect("the log");
        assert!(log.pages > 0 && log.copied == 0, "{log:?}");
        let nowhere = SqliteConnectOptions::new().filename(folder.path().join("none/notes.db"));
        look(&mut None, &nowhere, WRITER_AT.into()).await.expect_err("there is no such folder");
    }
}
