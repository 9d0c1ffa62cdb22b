//! MongoDB against the contract of every store. What a person meets who names a server that is not good is in
//! `tests/opening.rs`; writes that are cut are in `tests/faults.rs`, the commands and their indexes in `tests/plans.rs`.

use std::sync::Arc;

use crate::store::{Store, contract::contract_suite};

mod fail_point;
mod faults;
mod first;
mod opening;
mod outage;
mod plans;
mod projections;
mod proxy;
mod server;

use server::Scratch;

async fn backend() -> Option<(Arc<dyn Store>, Scratch)> {
    let scratch = Scratch::new()?;
    Some((scratch.open().await, scratch))
}

contract_suite!(backend);
