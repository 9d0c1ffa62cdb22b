//! What every service that keeps its data on PostgreSQL does alike: reading the URL, waiting for a server that is not
//! there yet, refusing one that would lose what it acknowledged, bringing the tables up to date, ending a call in time,
//! and judging errors. It is a crate of its own because `mesh` must not know SQL. It knows no table and no domain: those
//! are in each service's `store/postgres.rs`.
//!
//! | module | owns |
//! |---|---|
//! | `address` | the URL, without its password in any sentence |
//! | [`open`] | [`Server`]: what each connection is set to, the start, the tables |
//! | [`pool`] | [`Pool`]: connections, few of them, lent to one call at a time |
//! | [`calls`] | [`Calls`]: one call on a pool, and how it ends in time |
//! | [`moving`] | the tables as records |
//! | [`errors`] | what an error of the server means |
//! | `testing` | with the feature of that name: a schema of a test's own, a proxy that fails, plans |

mod address;
pub mod calls;
pub mod errors;
pub mod moving;
pub mod open;
pub mod pool;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use calls::{CallError, Calls};
pub use open::{OpenError, Server, Service};
pub use pool::Pool;

#[cfg(test)]
mod tests;
