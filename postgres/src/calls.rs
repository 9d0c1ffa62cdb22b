//! One call to the server: a connection from the pool, the work on it, and how both end. A call ends within its limit
//! whatever the server does, and a connection whose work did not end as it should is closed instead of lent again. It
//! knows no table.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Error, PgConnection};

use crate::{
    errors,
    pool::{Lent, Pool},
};

/// Runs of one call that loses its connection or a conflict, the first included. After a restart of the server a call may
/// meet more than one dead connection, when others give theirs back at the same time.
const RUNS_MAX: u32 = 3;
/// The longest pause before a call runs again, in milliseconds: who lost a conflict together must not meet again.
const PAUSE_MS_MAX: u64 = 30;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The store is away, busy or full: the same call may succeed later.
    #[error("the database cannot be asked")]
    Away(#[source] Error),
    /// There was no answer in time.
    #[error("no answer within {limit_ms} ms")]
    Late {
        /// How long a call may take.
        limit_ms: u128,
    },
    /// It fails however often it is made.
    #[error("the database refused")]
    Broken(#[source] Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        if errors::is_away(&error) { Self::Away(error) } else { Self::Broken(error) }
    }
}

/// The server, as calls.
#[derive(Debug)]
pub struct Calls {
    pool: Pool,
    limit: Duration,
}

impl Calls {
    /// Calls on this pool, each of which ends within the limit.
    #[must_use]
    pub fn new(pool: Pool, limit: Duration) -> Self {
        Self { pool, limit }
    }

    /// For work that may run more than once: it reads, or it is one statement that does no harm a second time.
    #[must_use]
    pub fn statement(&self) -> Call<'_> {
        Call { calls: self, transaction: false, runs: 1 }
    }

    /// For work in one transaction, READ COMMITTED. It is committed when the work succeeds; an error of the server that
    /// the work turns into an outcome undoes it nevertheless.
    #[must_use]
    pub fn transaction(&self) -> Call<'_> {
        Call { calls: self, transaction: true, runs: 1 }
    }

    /// Waits for an answer as long as a call may take.
    ///
    /// # Errors
    /// The answer's, or [`CallError::Late`].
    pub async fn limited<T>(&self, answer: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let limit = self.limit;
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(CallError::Late { limit_ms: limit.as_millis() }))
    }

    /// Lets go of all connections; calls after it fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

/// Runs the work with a connection: `run!(self.calls, statement, db => outbox::next(db, user))`. It is a macro since the
/// work borrows the connection anew in each run, and a closure's future that does could not be shown to be `Send`.
#[macro_export]
macro_rules! run {
    ($calls:expr, $kind:ident, $db:ident => $work:expr) => {{
        let calls: &$crate::Calls = &$calls;
        calls
            .limited(async {
                let mut call = calls.$kind();
                loop {
                    let done = async {
                        let mut loan = call.borrow().await?;
                        let $db: &mut ::sqlx::PgConnection = &mut loan;
                        let done = $work.await;
                        loan.settle(done).await
                    };
                    match done.await {
                        Ok(value) => break Ok(value),
                        Err(failed) => call.again(failed).await?,
                    }
                }
            })
            .await
    }};
}

/// One call and its runs.
#[derive(Debug)]
pub struct Call<'a> {
    calls: &'a Calls,
    transaction: bool,
    runs: u32,
}

/// Why a run ended, and whether nothing of it can have happened.
#[derive(Debug)]
pub struct Failed {
    error: Error,
    undone: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, undone: true }
    }
}

impl Call<'_> {
    /// A connection, in a transaction if the call is one.
    ///
    /// # Errors
    /// Whatever keeps it from being had.
    pub async fn borrow(&self) -> Result<Loan, Failed> {
        let mut loan = Loan { connection: self.calls.pool.acquire().await?, transaction: self.transaction };
        if self.transaction {
            let begun = sqlx::raw_sql("BEGIN").execute(&mut *loan).await;
            if let Err(error) = begun {
                loan.connection.lost();
                return Err(error.into());
            }
        }
        Ok(loan)
    }

    /// Waits a little when the work should run again; else says how the call failed.
    ///
    /// # Errors
    /// How the call failed.
    pub async fn again(&mut self, failed: Failed) -> Result<(), CallError> {
        let Failed { error, undone } = failed;
        if !undone || self.runs == RUNS_MAX || !(errors::is_lost(&error) || errors::is_conflict(&error)) {
            return Err(error.into());
        }
        self.runs += 1;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..=PAUSE_MS_MAX))).await;
        Ok(())
    }
}

/// A connection of the pool with the work on it. Dropped in the middle of it, the connection is closed.
#[derive(Debug)]
pub struct Loan {
    connection: Lent,
    transaction: bool,
}

impl Loan {
    /// Ends the work and the transaction. The connection goes back to the pool, unless it is lost.
    ///
    /// # Errors
    /// The work's, or that of ending the transaction.
    pub async fn settle<T>(mut self, done: Result<T, Error>) -> Result<T, Failed> {
        if done.as_ref().is_err_and(errors::is_lost) {
            self.connection.lost();
            return Ok(done?);
        }
        if self.transaction {
            let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
            if let Err(error) = sqlx::raw_sql(end).execute(&mut *self).await {
                self.connection.lost();
                // Without an answer to the commit nobody knows whether it happened.
                return Err(done.err().map_or(Failed { error, undone: false }, Failed::from));
            }
        }
        self.connection.give_back();
        Ok(done?)
    }
}

impl Deref for Loan {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
