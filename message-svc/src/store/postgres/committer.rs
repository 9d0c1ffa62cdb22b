//! The committer: a few writers, each a task with a connection of its own, that share one queue. A writer takes the
//! batches of all rooms that wait and writes them in one statement, so that a crowd of rooms costs one round trip and
//! one commit; while it waits for the answer the next writer takes what has come since. Nothing ever waits for company.
//! When one batch breaks a constraint none is written: the displaced are found and told, the others are written again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use mesh::telemetry::Origin;
use mesh_postgres::{Pool, errors};
use sqlx::{Error, PgConnection};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::append::{self, Row};
use crate::{
    config::PostgresConfig,
    room::NewRoom,
    store::{Batch, Outcome, StoreError, commit_span, payload},
};

/// The pause of a writer that cannot connect, in milliseconds: the rooms' tasks come again at once, and the server is
/// not asked more often for that. At random, so that the writers of many processes do not come together.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 100..=300;
/// Tries of a commit that loses a conflict over locks, the first included. Rows are written in one order everywhere, so
/// that there is none to lose but to somebody who works on the tables by hand.
const TRIES_MAX: u32 = 3;
/// How long a failed write makes the store look unready. After that it is worth a try, and only a try can tell.
const FAILING: Duration = Duration::from_secs(5);

/// A handle on the writers.
pub(super) struct Committer {
    queue: mpsc::Sender<Job>,
    writers: Mutex<Vec<JoinHandle<()>>>,
    /// A connection for each writer.
    pool: Pool,
    closing: CancellationToken,
    health: Arc<Health>,
    /// How long a job waits for its turn.
    wait: Duration,
}

/// One thing to write, and where its answer goes: true when it is written, false when something else is there.
struct Job {
    work: Work,
    /// It is not begun after this.
    begin_until: Instant,
    /// The span that it is written for, when its trace is sampled.
    origin: Option<Origin>,
    reply: oneshot::Sender<Answer>,
}

type Answer = Result<bool, StoreError>;

enum Work {
    Append { batch: Batch, payloads: Vec<String> },
    Create(Box<NewRoom>),
}

/// When a write last failed for another reason than its content.
struct Health {
    started: Instant,
    /// Milliseconds after the start; 0 for never, or not since a write succeeded.
    failed_ms: AtomicU64,
}

/// What came of one statement, but for success.
enum Failure {
    /// A unique index holds something else.
    Displaced,
    /// It lost against another transaction, and may be run again at once.
    Conflict(Error),
    /// The server does not take it, and would not take it the next time.
    Refused(Error),
    /// The server takes nothing now. Nothing is written.
    Away(Error),
    /// Nobody knows.
    Lost(StoreError),
}

impl Committer {
    /// Starts the writers; they end when the handle is closed or dropped.
    pub(super) fn start(pool: Pool, config: &PostgresConfig) -> Self {
        let (queue, jobs) = mpsc::channel(config.commit_queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        let closing = CancellationToken::new();
        let health = Arc::new(Health { started: Instant::now(), failed_ms: AtomicU64::new(0) });
        // A call has one half of its time to wait for its turn, and one to be written.
        let half = Duration::from_millis(config.call_ms) / 2;
        let writers = (0..config.writers_max)
            .map(|_| {
                let writer = Writer { pool: pool.clone(), health: Arc::clone(&health), limit: half };
                let source = Source {
                    jobs: Arc::clone(&jobs),
                    closing: closing.clone(),
                    entries_max: config.commit_entries_max,
                    bytes_max: config.commit_bytes_max,
                };
                tokio::spawn(run(writer, source))
            })
            .collect();
        Self { queue, writers: Mutex::new(writers), pool, closing, health, wait: half }
    }

    pub(super) async fn append(&self, batch: Batch) -> Result<Outcome, StoreError> {
        // Encoded here, in the rooms' own tasks, so that the writers only bind and wait.
        let payloads = batch.iter().map(|entry| payload::encode(&entry.event)).collect();
        let done = self.submit(Work::Append { batch, payloads }).await?;
        Ok(if done { Outcome::Done } else { Outcome::Displaced })
    }

    /// Answers whether the room was made by this.
    pub(super) async fn create(&self, room: NewRoom) -> Result<bool, StoreError> {
        self.submit(Work::Create(Box::new(room))).await
    }

    async fn submit(&self, work: Work) -> Answer {
        let begin_until = Instant::now() + self.wait;
        let place = match timeout(self.wait, self.queue.reserve()).await {
            Ok(place) => place.map_err(|closed| StoreError::unavailable(closed.to_string()))?,
            Err(_) => return Err(too_late()),
        };
        let (reply, answer) = oneshot::channel();
        place.send(Job { work, begin_until, origin: Origin::current(), reply });
        answer.await.unwrap_or_else(|_| Err(StoreError::unknown("the writer ended")))
    }

    /// Whether writing works, as far as it has been tried.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() || self.health.is_failing() {
            return Err(StoreError::unavailable("the last write failed"));
        }
        Ok(())
    }

    /// Writes what waits and closes the connections.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        let writers = std::mem::take(&mut *self.writers.lock().await);
        if join_all(writers).await.iter().any(Result::is_err) {
            tracing::error!("a writer's task panicked");
        }
        self.pool.close().await;
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

fn too_late() -> StoreError {
    StoreError::unavailable("the write waited too long for its turn")
}

impl Health {
    /// Answers whether this is news.
    fn note(&self, failed: bool) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let before = self.failed_ms.swap(if failed { now } else { 0 }, Ordering::Relaxed);
        (before != 0) != failed
    }

    fn is_failing(&self) -> bool {
        let failed = self.failed_ms.load(Ordering::Relaxed);
        failed != 0 && self.started.elapsed() < Duration::from_millis(failed) + FAILING
    }
}

impl Job {
    fn rows(&self) -> Vec<Row<'_>> {
        match &self.work {
            Work::Append { batch, payloads } => {
                batch.iter().zip(payloads).map(|(entry, payload)| (&**entry, &**payload)).collect()
            }
            Work::Create(_) => Vec::new(),
        }
    }

    /// Entries and bytes.
    fn size(&self) -> (usize, usize) {
        match &self.work {
            Work::Append { batch, payloads } => (batch.len(), payloads.iter().map(String::len).sum()),
            Work::Create(_) => (1, 0),
        }
    }

    fn answer(self, answer: Answer) {
        // The caller may be gone; what was written stays written.
        drop(self.reply.send(answer));
    }
}

/// Where a writer takes its work from.
struct Source {
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    closing: CancellationToken,
    entries_max: usize,
    bytes_max: usize,
}

impl Source {
    /// Waits for a job and takes all that wait with it, up to a commit; none at the end.
    async fn take(&self) -> Option<Vec<Job>> {
        let mut jobs = self.jobs.lock().await;
        let first = tokio::select! {
            first = jobs.recv() => first?,
            () = self.closing.cancelled() => {
                // What waits is still written.
                jobs.close();
                jobs.recv().await?
            }
        };
        // Whoever could run now and has something to write puts it in first; with nobody there this takes no time.
        tokio::task::yield_now().await;
        let (mut entries, mut bytes) = first.size();
        let mut taken = vec![first];
        while entries < self.entries_max && bytes < self.bytes_max {
            let Ok(next) = jobs.try_recv() else { break };
            let (more_entries, more_bytes) = next.size();
            (entries, bytes) = (entries + more_entries, bytes + more_bytes);
            taken.push(next);
        }
        metrics::gauge!("switchboard_message_commit_waiting")
            .set(f64::from(u32::try_from(jobs.len()).unwrap_or(u32::MAX)));
        drop(jobs);
        metrics::histogram!("switchboard_message_commit_entries")
            .record(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)));
        Some(taken)
    }
}

async fn run(writer: Writer, source: Source) {
    while let Some(jobs) = source.take().await {
        let now = Instant::now();
        let (due, late): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| now <= job.begin_until);
        late.into_iter().for_each(|job| job.answer(Err(too_late())));
        let (appends, creates): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|job| matches!(job.work, Work::Append { .. }));
        let rounds = std::iter::once(appends).chain(creates.into_iter().map(|job| vec![job]));
        writer.commit(rounds.filter(|round| !round.is_empty()).collect()).await;
    }
}

struct Writer {
    pool: Pool,
    health: Arc<Health>,
    /// How long a commit may take, connecting included.
    limit: Duration,
}

impl Writer {
    /// Writes each of these rounds, all of a round or nothing, and answers every job.
    async fn commit(&self, mut rounds: Vec<Vec<Job>>) {
        if rounds.is_empty() {
            return;
        }
        let until = tokio::time::Instant::now() + self.limit;
        let mut connection = match timeout_at(until, self.pool.acquire()).await.unwrap_or(Err(Error::PoolTimedOut)) {
            Ok(connection) => connection,
            Err(error) => {
                self.fail(rounds, &StoreError::unavailable(error));
                sleep(Duration::from_millis(rand::random_range(PAUSE_MS))).await;
                return;
            }
        };
        rounds.reverse();
        let mut tries = 1;
        while let Some(round) = rounds.pop() {
            let origins = round.iter().filter_map(|job| job.origin.as_ref());
            let span = commit_span("postgresql", origins, round.iter().map(|job| job.size().0).sum());
            let failure = match write(&mut connection, &round, until).instrument(span).await {
                Ok(done) => {
                    if self.health.note(false) {
                        tracing::info!("commits succeed again");
                    }
                    tries = 1;
                    round.into_iter().for_each(|job| job.answer(Ok(done)));
                    continue;
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Conflict(_) if tries < TRIES_MAX => {
                    tries += 1;
                    rounds.push(round);
                }
                Failure::Displaced if round.len() > 1 => match split(&mut connection, round, until).await {
                    Ok(parts) => rounds.extend(parts),
                    Err((error, round)) => {
                        rounds.push(round);
                        self.fail(rounds, &error);
                        return;
                    }
                },
                Failure::Displaced => round.into_iter().for_each(|job| job.answer(Ok(false))),
                // One of them has something that the server cannot take; the others must not pay for it.
                Failure::Refused(_) if round.len() > 1 => rounds.extend(round.into_iter().map(|job| vec![job])),
                Failure::Refused(error) => self.fail(vec![round], &StoreError::unavailable(error)),
                Failure::Conflict(error) | Failure::Away(error) => {
                    let lost = errors::is_lost(&error);
                    rounds.push(round);
                    self.fail(rounds, &StoreError::unavailable(error));
                    return if lost { connection.lost() } else { connection.give_back() };
                }
                Failure::Lost(error) => {
                    self.fail(vec![round], &error);
                    self.fail(rounds, &StoreError::unavailable("the connection was lost before"));
                    return connection.lost();
                }
            }
        }
        connection.give_back();
    }

    fn fail(&self, rounds: Vec<Vec<Job>>, error: &StoreError) {
        let jobs: Vec<_> = rounds.into_iter().flatten().collect();
        if jobs.is_empty() {
            return;
        }
        let error_shown = error as &dyn std::error::Error;
        if self.health.note(true) {
            tracing::error!(error = error_shown, "a commit failed");
        } else {
            tracing::debug!(error = error_shown, "a commit failed as the one before");
        }
        jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
    }
}

/// Writes all of these jobs in one statement; answers false when a room is there already.
async fn write(db: &mut PgConnection, round: &[Job], until: tokio::time::Instant) -> Result<bool, Failure> {
    let write = async {
        if let [Job { work: Work::Create(room), .. }] = round {
            return append::create(db, room).await;
        }
        append::write(db, &rows_of(round)).await.map(|()| true)
    };
    match timeout_at(until, write).await {
        Ok(written) => written.map_err(Failure::of),
        Err(_) => Err(Failure::Lost(StoreError::unknown("the server did not answer in time"))),
    }
}

/// Splits a round that cannot be written into one that perhaps can, and the displaced, which are answered. When nothing
/// stands in anybody's way but one another, each is on its own.
async fn split(
    db: &mut PgConnection,
    round: Vec<Job>,
    until: tokio::time::Instant,
) -> Result<Vec<Vec<Job>>, (StoreError, Vec<Job>)> {
    let found = timeout_at(until, append::displaced(db, &rows_of(&round))).await;
    let rooms = match found {
        Ok(Ok(rooms)) => rooms,
        Ok(Err(error)) => return Err((StoreError::unavailable(error), round)),
        Err(_) => return Err((too_late(), round)),
    };
    if rooms.is_empty() {
        return Ok(round.into_iter().map(|job| vec![job]).collect());
    }
    let (displaced, rest): (Vec<_>, Vec<_>) = round
        .into_iter()
        .partition(|job| matches!(&job.work, Work::Append { batch, .. } if rooms.contains(&batch[0].room)));
    displaced.into_iter().for_each(|job| job.answer(Ok(false)));
    Ok(if rest.is_empty() { Vec::new() } else { vec![rest] })
}

/// All entries of these jobs, a room after the other in one order for all processes.
fn rows_of(round: &[Job]) -> Vec<Row<'_>> {
    let mut rows: Vec<_> = round.iter().flat_map(Job::rows).collect();
    rows.sort_by_key(|(entry, _)| entry.room);
    rows
}

impl Failure {
    fn of(error: Error) -> Self {
        let unique = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
        if unique {
            Self::Displaced
        } else if errors::is_conflict(&error) {
            Self::Conflict(error)
        } else if errors::is_refusal(&error) {
            if errors::is_away(&error) { Self::Away(error) } else { Self::Refused(error) }
        } else if matches!(error, Error::Encode(_)) {
            // It was not sent.
            Self::Refused(error)
        } else {
            Self::Lost(StoreError::unknown(error))
        }
    }
}
