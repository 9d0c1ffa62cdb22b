//! What every service that keeps its data in a SQLite file does alike: making and opening the file, turning it to WAL with
//! `synchronous=FULL`, finding damage, bringing the tables up to date, and judging errors. It is a crate of its own because
//! `mesh` must not know SQL. It knows no table and no domain: those are in each service's `store/sqlite.rs`.
//!
//! | module | owns |
//! |---|---|
//! | [`open`] | [`open::File`]: the file, its connections, its tables |
//! | [`checkpoint`] | the write-ahead log, copied back beside the writer |
//! | [`backup`] | a copy of a file that is in use |
//! | [`moving`] | its tables as records |
//! | [`errors`] | what an error of SQLite means |
//! | `testing` | with the feature of that name: whether all tables move |
//!
//! Statements write `LIMIT ? + 0`: SQLite looks at a bare parameter there while it plans, and would prepare the statement
//! anew each time it is bound. That was three quarters of the instructions that SQLite spent on a list of rooms.

pub mod backup;
pub mod checkpoint;
pub mod errors;
pub mod moving;
pub mod open;
#[cfg(feature = "testing")]
pub mod testing;

pub use checkpoint::Checkpointer;
pub use open::{File, OpenError, Options, Service, file_of};

#[cfg(test)]
mod tests;
