//! The contract of Switchboard's services and the chassis that every process stands on: configuration, telemetry,
//! serving, calling, identity, health. No domain, no SQL.
//!
//! | module | owns |
//! |---|---|
//! | [`proto`] | the generated contract |
//! | [`error`] | the catalogue of codes and how a refusal travels |
//! | [`config`] | typed settings from file, environment and flags |
//! | [`identity`] | who calls: tokens, assertions, revocations |
//! | [`keys`] | key files of the data folder |
//! | [`limit`], [`redis`] | who may call how often; the connection through which processes share that |
//! | [`moving`] | what a store holds as records, to go from one kind of store to another |
//! | [`migration`] | when the tables of a store are brought up to date, and what came of it |
//! | [`serve`], [`grpc`], [`ops`] | connections; gRPC on them; the operations port |
//! | [`client`] | calling the other services |
//! | [`tls`] | certificates between the processes, and who may call what |
//! | [`telemetry`] | logs, traces, metrics |
//! | [`process`], [`shutdown`] | what every main does; stopping in order |
//! | [`text`], [`time`] | checks of fields; times |
//! | [`visit`] | where a call comes from at the edge |

pub mod client;
pub mod config;
pub mod error;
#[cfg(test)]
mod fuzz;
pub mod grpc;
pub mod identity;
pub mod keys;
pub mod limit;
pub mod migration;
pub mod moving;
pub mod ops;
pub mod process;
pub mod proto;
pub mod redis;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod tls;
pub mod visit;
