//! What must hold of every history, whatever happened to its host.

use serde_json::Value;

/// The names of the events, in order.
pub fn names(history: &[Value]) -> Vec<String> {
    history.iter().map(|event| name(event).to_owned()).collect()
}

/// An event's name.
pub fn name(event: &Value) -> &str {
    event["type"].as_str().unwrap_or_default()
}

/// How many events have that name.
pub fn count(history: &[Value], wanted: &str) -> usize {
    history.iter().filter(|event| name(event) == wanted).count()
}

/// Says what is wrong with a history: ids that are not 1, 2, 3, …; times that go back; no start at its
/// beginning; something after its end.
pub fn check(history: &[Value]) -> Result<(), String> {
    const ENDS: [&str; 5] =
        ["InstanceCompleted", "InstanceFailed", "InstanceCancelled", "InstanceTerminated", "InstanceStopped"];
    if history.first().map(name) != Some("InstanceStarted") {
        return Err(format!("it does not begin with InstanceStarted but with {:?}", history.first()));
    }
    for (index, event) in history.iter().enumerate() {
        if event["id"].as_u64() != u64::try_from(index + 1).ok() {
            return Err(format!("event {} has the id {}", index + 1, event["id"]));
        }
        if ENDS.contains(&name(event)) && index + 1 < history.len() {
            return Err(format!("event {} follows {}", index + 2, name(event)));
        }
    }
    for pair in history.windows(2) {
        let times = [&pair[0]["time"], &pair[1]["time"]].map(|time| time.as_str().unwrap_or_default());
        // RFC 3339 in UTC with nine digits of nanoseconds: text order is the order in time.
        if times[0] > times[1] {
            return Err(format!("event {} at {} comes after one at {}", pair[1]["id"], times[1], times[0]));
        }
    }
    Ok(())
}
