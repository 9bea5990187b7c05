//! Waiting for a condition, with a deadline. The only place that polls.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long tests wait for what should happen soon. Generous: it only passes when a test fails.
pub const SOON: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Asks until `condition` gives `Ok`, and panics with the last `Err` after [`SOON`].
pub async fn eventually<T, E: Display>(what: &str, condition: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(SOON, what, condition).await
}

/// Asks until `condition` gives `Ok`, and panics with the last `Err` after `limit`.
pub async fn within<T, E: Display>(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(seen) => assert!(begun.elapsed() < limit, "waited {limit:?} in vain until {what}; last seen: {seen}"),
        }
        tokio::time::sleep(POLL).await;
    }
}
