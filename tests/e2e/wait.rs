//! Waiting by polling, with one generous limit, and telling things to the person who runs the tests. Times are printed
//! and never judged: a slow machine is no bug.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

/// The longest that anything may take before a test fails: far more than it ever should, on the slowest machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

const POLL: Duration = Duration::from_millis(15);

/// Asks again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for a future that may take no longer than the limit.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {LIMIT:?} for {what}"),
    }
}

/// Asks again until there is an answer, without a runtime.
pub(crate) fn until_blocking<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(POLL);
    }
}

/// Tells something to the person who runs the tests. It goes past the capture of the test runner, which shows the output
/// of failed tests only.
pub(crate) fn say(text: &str) {
    let line = format!("[e2e] {text}\n");
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

/// Says that a part of the proof was left out, or fails where everything must be there.
pub(crate) fn skip(what: &str, remedy: &str) {
    assert!(
        std::env::var("SWITCHBOARD_TEST_REQUIRE").as_deref() != Ok("all"),
        "{what} is missing and SWITCHBOARD_TEST_REQUIRE=all is set: {remedy}"
    );
    say(&format!("SKIPPED: {what} is missing. {remedy}"));
}
