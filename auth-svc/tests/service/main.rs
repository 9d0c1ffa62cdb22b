//! auth-svc as its callers meet it: the whole service over real gRPC on a free port, with a small user-svc beside it
//! that can be away. What the domain and the store do by themselves is tested beside their code.

#![expect(clippy::print_stdout, reason = "measured times are printed and never asserted")]

mod accounts;
mod api_keys;
mod deletion;
mod factors;
mod harness;
mod mails;
mod outbox;
mod process;
mod replicas;
mod revocations;
mod sessions;
mod signing;
mod users;
