//! The one clock of the host.

use rehydrate_core::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, by the system's wall clock. It may go back; every history keeps its own order all the same.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// How long from now until `at`; zero if it has passed.
pub fn until(at: Timestamp) -> Duration {
    Duration::from_nanos(at.since(now()).0)
}
