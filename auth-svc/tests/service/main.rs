//! auth-svc as its callers meet it: the whole service over real gRPC on a free port, with a small user-svc beside it
//! that can be away. What the domain and the store do by themselves is tested beside their code.

#![expect(clippy::expect_used, reason = "a test may fail by panicking")]

mod accounts;
mod harness;
mod outbox;
mod process;
mod revocations;
mod sessions;
mod users;
