//! The random operations of `rooms/model.rs` on PostgreSQL: what follows from entries is put together in another way here
//! than in SQLite, and must be the same.

use proptest::prelude::*;

use super::*;
use crate::rooms::model::{Group, groups, play};

async fn play_on_postgres(groups: Vec<Group>) {
    let Some(schema) = Schema::new() else { return };
    let (store, other) = (open(&schema).await, open(&schema).await);
    play(groups, Arc::new(store), Arc::new(other)).await;
}

proptest! {
    // Each case has a schema of its own, so there are fewer than usual; more with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24)
    ) })]

    #[test]
    fn the_writers_do_what_a_plain_model_does(groups in groups()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(play_on_postgres(groups));
    }
}
