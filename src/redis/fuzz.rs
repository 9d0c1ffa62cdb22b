//! The URL of Redis, from whoever configures it: one, several, or sentinels. It is read or refused, and no refusal shows a
//! password.

use test_input::{Edits, text};

use super::*;

#[test]
fn any_url_is_read_or_refused_without_its_password() {
    let examples = [
        "redis://127.0.0.1:6379",
        "rediss://me:hunter2@redis.example:6380/1,redis://other.example",
        "redis+sentinel://me:hunter2@one.example:26379,two.example/main/0",
        "redis+unix:///run/redis.sock?pass=hunter2",
    ];
    let config = RedisConfig::default();
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        if let Err(error) = Server::new(&text(&examples, edits), &config) {
            let said = error.to_string();
            assert!(!said.is_empty() && !said.contains("hunter2"), "{said}");
        }
    });
}
