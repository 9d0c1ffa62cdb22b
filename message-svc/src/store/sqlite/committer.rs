//! The committer: a task that owns the only writing connection. It takes the batches of all rooms that wait, writes
//! them in one transaction and answers each after the commit, so that a crowd of rooms costs one fsync. When one batch
//! breaks a constraint, all of them are written again, each behind a savepoint, and only that one is displaced.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mesh::telemetry::Origin;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection,
    query::Query,
    sqlite::{Sqlite, SqliteArguments, SqliteConnectOptions},
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::projection;
use crate::{
    config::SqliteConfig,
    entry::Entry,
    room::NewRoom,
    store::{
        Batch, Outcome, StoreError, commit_span,
        payload::{self, Kind},
    },
};

/// The rows of one INSERT are a power of two up to this, so that eight prepared statements write any number of rows.
const ROWS_MAX: usize = 128;
/// Parameters of one row.
const COLUMNS: usize = 9;
/// The wait between two tries to open the connection again.
const REOPEN_WAIT: Duration = Duration::from_millis(200);

/// A handle on the committer's task.
pub(super) struct Committer {
    queue: mpsc::Sender<Job>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Whether the last transaction failed for another reason than its content.
    failing: Arc<AtomicBool>,
}

struct Job {
    work: Work,
    /// The span that it is written for, when its trace is sampled.
    origin: Option<Origin>,
    reply: oneshot::Sender<Result<bool, StoreError>>,
}

/// What is to be written. Each answers true when it is written and false when something else is there.
enum Work {
    Append {
        batch: Batch,
        payloads: Vec<String>,
        only_messages: bool,
    },
    Create(Box<NewRoom>),
    /// What these messages say from now on.
    Rewrite(Vec<(Arc<Entry>, String)>),
    /// Nothing: what waits is written, then the task ends.
    Stop,
}

/// A transaction that did not come to its end.
enum Failure {
    /// A unique index holds something else; nothing is written.
    Displaced,
    /// Nothing is written.
    Before(sqlx::Error),
    /// The commit itself failed.
    During(sqlx::Error),
}

impl Committer {
    /// Starts the task; it ends when the handle is closed or dropped.
    pub(super) fn start(connection: SqliteConnection, options: SqliteConnectOptions, config: &SqliteConfig) -> Self {
        let (queue, jobs) = mpsc::channel(config.commit_queue_max);
        let failing = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            connection: Some(connection),
            options,
            inserts: (0..=ROWS_MAX.ilog2()).map(|power| insert_sql(1 << power)).collect(),
        };
        let task = tokio::spawn(run(writer, jobs, config.commit_entries_max, Arc::clone(&failing)));
        Self { queue, task: Mutex::new(Some(task)), failing }
    }

    pub(super) async fn append(&self, batch: Batch) -> Result<Outcome, StoreError> {
        // Encoded here, in the rooms' own tasks, so that the one committer only binds and waits for the disk.
        let payloads = batch.iter().map(|entry| payload::encode(&entry.event)).collect();
        let only_messages = batch.iter().all(|entry| entry.message().is_some());
        let done = self.submit(Work::Append { batch, payloads, only_messages }).await?;
        Ok(if done { Outcome::Done } else { Outcome::Displaced })
    }

    /// Answers whether the room was made by this.
    pub(super) async fn create(&self, room: NewRoom) -> Result<bool, StoreError> {
        self.submit(Work::Create(Box::new(room))).await
    }

    /// Changes what messages say.
    pub(super) async fn rewrite(&self, messages: &[Arc<Entry>]) -> Result<(), StoreError> {
        let rows = messages.iter().map(|entry| (Arc::clone(entry), payload::encode(&entry.event))).collect();
        self.submit(Work::Rewrite(rows)).await.map(|_| ())
    }

    async fn submit(&self, work: Work) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job { work, origin: Origin::current(), reply };
        self.queue.send(job).await.map_err(|closed| StoreError::unavailable(closed.to_string()))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::unknown("the committer ended")))
    }

    /// Whether writing works, as far as it has been tried.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.failing.load(Ordering::Relaxed) || self.queue.is_closed() {
            return Err(StoreError::unavailable("the last transaction failed"));
        }
        Ok(())
    }

    /// Writes what waits and closes the connection.
    pub(super) async fn close(&self) {
        if let Some(task) = self.task.lock().await.take() {
            let (reply, _) = oneshot::channel();
            if self.queue.send(Job { work: Work::Stop, origin: None, reply }).await.is_ok() && task.await.is_err() {
                tracing::error!("the committer's task panicked");
            }
        }
    }
}

impl Job {
    fn entries(&self) -> usize {
        match &self.work {
            Work::Append { batch, .. } => batch.len(),
            Work::Create(_) | Work::Rewrite(_) | Work::Stop => 0,
        }
    }
}

async fn run(mut writer: Writer, mut jobs: mpsc::Receiver<Job>, entries_max: usize, failing: Arc<AtomicBool>) {
    let mut stopping = false;
    while !stopping {
        let Some(first) = jobs.recv().await else { break };
        let mut round = Vec::new();
        let mut entries = 0;
        let mut next = Some(first);
        while let Some(job) = next {
            entries += job.entries();
            if matches!(job.work, Work::Stop) {
                stopping = true;
                jobs.close();
            } else {
                round.push(job);
            }
            next = if entries < entries_max { jobs.try_recv().ok() } else { None };
        }
        if round.is_empty() {
            continue;
        }
        metrics::gauge!("switchboard_message_commit_waiting")
            .set(f64::from(u32::try_from(jobs.len()).unwrap_or(u32::MAX)));
        metrics::histogram!("switchboard_message_commit_entries")
            .record(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)));
        let span = commit_span("sqlite", round.iter().filter_map(|job| job.origin.as_ref()), entries);
        let answers = writer.commit(&round).instrument(span).await;
        failing.store(answers.is_err(), Ordering::Relaxed);
        match answers {
            Ok(answers) => round.into_iter().zip(answers).for_each(|(job, done)| answer(job, Ok(done))),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a transaction failed");
                round.into_iter().for_each(|job| answer(job, Err(error.clone())));
            }
        }
    }
    if let Some(connection) = writer.connection.take()
        && let Err(error) = connection.close().await
    {
        tracing::error!(error = &error as &dyn std::error::Error, "the database did not close cleanly");
    }
}

fn answer(job: Job, result: Result<bool, StoreError>) {
    // The caller may be gone; what was written stays written.
    drop(job.reply.send(result));
}

struct Writer {
    /// None after a failure that may have left it in the middle of something.
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    /// The INSERT for 1, 2, 4, 8 … rows.
    inserts: Vec<Arc<str>>,
}

impl Writer {
    /// Writes the round; answers for each job whether it is written.
    async fn commit(&mut self, round: &[Job]) -> Result<Vec<bool>, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reopen().await?,
        };
        let result = match self.all_at_once(&mut connection, round).await {
            Ok(answers) => Ok(answers),
            Err(Failure::Displaced) if round.len() == 1 => Ok(vec![false]),
            Err(Failure::Displaced) => one_by_one(&self.inserts, &mut connection, round).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(answers) => {
                self.connection = Some(connection);
                Ok(answers)
            }
            // The connection is let go, and with it whatever it still holds.
            Err(Failure::During(error)) => Err(StoreError::unknown(error)),
            Err(Failure::Before(error)) => Err(StoreError::unavailable(error)),
            Err(Failure::Displaced) => Err(StoreError::unavailable("a savepoint was displaced")),
        }
    }

    async fn reopen(&self) -> Result<SqliteConnection, StoreError> {
        match self.options.connect().await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                // The rooms' tasks come again at once; the disk is not asked more often for that.
                tokio::time::sleep(REOPEN_WAIT).await;
                Err(StoreError::unavailable(error))
            }
        }
    }

    async fn all_at_once(&self, connection: &mut SqliteConnection, round: &[Job]) -> Result<Vec<bool>, Failure> {
        let rows: usize = round.iter().map(Job::entries).sum();
        let only_messages = round.iter().all(|job| matches!(job.work, Work::Append { only_messages: true, .. }));
        if only_messages && rows <= ROWS_MAX && rows.is_power_of_two() {
            // One statement is a transaction of its own.
            insert(&self.inserts, connection, round).await.map_err(Failure::of_commit)?;
            return Ok(vec![true; round.len()]);
        }
        execute(connection, "BEGIN IMMEDIATE").await.map_err(Failure::Before)?;
        match write(&self.inserts, connection, round).await {
            Ok(answers) => {
                execute(connection, "COMMIT").await.map_err(Failure::During)?;
                Ok(answers)
            }
            Err(error) => {
                execute(connection, "ROLLBACK").await.map_err(Failure::Before)?;
                Err(Failure::before_commit(error))
            }
        }
    }
}

/// Writes each job behind a savepoint of its own.
async fn one_by_one(
    inserts: &[Arc<str>],
    connection: &mut SqliteConnection,
    round: &[Job],
) -> Result<Vec<bool>, Failure> {
    execute(connection, "BEGIN IMMEDIATE").await.map_err(Failure::Before)?;
    let mut answers = Vec::with_capacity(round.len());
    for job in round {
        execute(connection, "SAVEPOINT job").await.map_err(Failure::Before)?;
        match write(inserts, connection, std::slice::from_ref(job)).await {
            Ok(done) => answers.extend(done),
            Err(error) if is_unique_violation(&error) => {
                execute(connection, "ROLLBACK TO job").await.map_err(Failure::Before)?;
                answers.push(false);
            }
            Err(error) => return Err(Failure::Before(error)),
        }
        execute(connection, "RELEASE job").await.map_err(Failure::Before)?;
    }
    execute(connection, "COMMIT").await.map_err(Failure::During)?;
    Ok(answers)
}

/// Writes all jobs within the transaction that is open: all entries first, then what follows from them.
async fn write(
    inserts: &[Arc<str>],
    connection: &mut SqliteConnection,
    round: &[Job],
) -> Result<Vec<bool>, sqlx::Error> {
    insert(inserts, connection, round).await?;
    let mut answers = Vec::with_capacity(round.len());
    for job in round {
        answers.push(match &job.work {
            Work::Append { only_messages: true, .. } => true,
            Work::Append { batch, .. } => {
                for entry in batch.iter() {
                    projection::project(connection, entry).await?;
                }
                true
            }
            Work::Create(room) => projection::create(connection, room).await?,
            Work::Rewrite(messages) => {
                for (entry, payload) in messages {
                    rewrite(connection, entry, payload).await?;
                }
                true
            }
            Work::Stop => false,
        });
    }
    Ok(answers)
}

/// Inserts the entries of all jobs, in statements of as many rows as there are, largest first.
async fn insert(inserts: &[Arc<str>], connection: &mut SqliteConnection, round: &[Job]) -> Result<(), sqlx::Error> {
    let mut left: usize = round.iter().map(Job::entries).sum();
    let mut rows = round.iter().flat_map(|job| match &job.work {
        Work::Append { batch, payloads, .. } => batch.iter().zip(payloads).collect::<Vec<_>>(),
        Work::Create(_) | Work::Rewrite(_) | Work::Stop => Vec::new(),
    });
    while left > 0 {
        let power = left.min(ROWS_MAX).ilog2();
        let count = 1 << power;
        let sql = inserts.get(power as usize).expect("invariant: a statement for each power");
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
        for (entry, payload) in rows.by_ref().take(count) {
            query = bind(query, entry, payload);
        }
        query.execute(&mut *connection).await?;
        left -= count;
    }
    Ok(())
}

/// Changes what one message says, if it is there and by the same sender.
async fn rewrite(connection: &mut SqliteConnection, entry: &Entry, payload: &str) -> Result<(), sqlx::Error> {
    let Some(message) = entry.message() else { return Ok(()) };
    sqlx::query("UPDATE entries SET payload = ? WHERE room_id = ? AND seq = ? AND kind = 1 AND sender = ?")
        .bind(payload)
        .bind(entry.room.0)
        .bind(entry.seq)
        .bind(message.sender.0)
        .execute(connection)
        .await?;
    Ok(())
}

type Insert<'q> = Query<'q, Sqlite, SqliteArguments>;

fn bind<'q>(query: Insert<'q>, entry: &'q Entry, payload: &'q str) -> Insert<'q> {
    let message = entry.message();
    query
        .bind(entry.room.0)
        .bind(entry.seq)
        .bind(entry.id.0)
        .bind(Kind::of(&entry.event) as i64)
        .bind(entry.messages)
        .bind(entry.at.0)
        .bind(message.map(|message| message.sender.0))
        .bind(message.map(|message| message.client_id.as_str()))
        .bind(payload)
}

fn insert_sql(rows: usize) -> Arc<str> {
    let row = format!("({})", ["?"; COLUMNS].join(","));
    let columns = "room_id,seq,entry_id,kind,messages,at,sender,client_id,payload";
    format!("INSERT INTO entries ({columns}) VALUES {}", vec![row; rows].join(",")).into()
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

impl Failure {
    fn before_commit(error: sqlx::Error) -> Self {
        if is_unique_violation(&error) { Self::Displaced } else { Self::Before(error) }
    }

    /// Of a statement that is a transaction of its own: it may have failed at its commit.
    fn of_commit(error: sqlx::Error) -> Self {
        if is_unique_violation(&error) {
            Self::Displaced
        } else if mesh_sqlite::errors::is_locked(&error) {
            // It never got the lock.
            Self::Before(error)
        } else {
            Self::During(error)
        }
    }
}
