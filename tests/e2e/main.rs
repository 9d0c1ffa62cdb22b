//! End to end, through the real processes: every promise that clients are given, held against running binaries. The
//! harness is `mesh.rs` (a Switchboard on free ports), `process.rs` (its processes), `stores.rs` (what they keep their data
//! in), `rest.rs`, `rpc.rs` and `socketio.rs` (clients), `smtp.rs` (a server of mail); every other module is proof, one area each. Measured times are printed, never judged.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

// The harness.
mod binaries;
mod mesh;
mod process;
mod rest;
mod rpc;
mod smtp;
mod socketio;
mod stores;
mod wait;

// The proof.
mod accounts;
mod away;
mod bad_grpc;
mod bad_rest;
mod bad_socket;
mod bad_tokens;
mod clients;
mod codes;
mod deletion;
mod doctor;
mod factors;
mod faults;
mod fuzz;
mod grpc;
mod https;
mod kills;
mod limits;
mod live;
mod logout;
mod logs;
mod mails;
mod membership;
mod messages;
mod metrics;
mod migrants;
mod moving;
mod mtls;
mod network;
mod once;
mod outages;
mod races;
mod replicas;
mod resume;
mod rooms;
mod security;
mod slow;
mod startup;
mod traces;
