//! A component for people: who runs it, and what it does with the histories of others.

use crate::output::{self, Table, time};
use rehydrate_http::dto::{CheckTotals, ComponentDetail, DeployCheck, FailingInstance, MigratedAll, State};
use std::fmt::Write as _;

/// Most characters of a reason.
const REASON_CHARS: usize = 150;

/// A component with its instances.
pub fn component(detail: &ComponentDetail) -> String {
    let component = &detail.component;
    let mut page = format!("{}@{}  {}\n", component.name, component.version, component.kind);
    let mut field = |name: &str, text: &str| {
        let _ = writeln!(page, "{name:<10} {}", output::clean(text));
    };
    field("deployed", &time(&component.created));
    field("size", &output::bytes(component.bytes));
    field("sha256", &component.digest);
    if !component.activities.is_empty() {
        field("activities", &component.activities.join(", "));
    }
    if component.kind == "workflow" {
        field("instances", &instances(detail));
    }
    page
}

fn instances(detail: &ComponentDetail) -> String {
    let counts = State::ALL.iter().filter_map(|state| {
        let count = detail.instances.get(state.as_str())?;
        Some(format!("{count} {}", state.as_str()))
    });
    let counts: Vec<_> = counts.collect();
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    if detail.counted_all { counts } else { format!("{counts}; of those that have ended only the newest were counted") }
}

/// What a component does with the histories of its workflow.
pub fn check(check: &DeployCheck) -> String {
    let DeployCheck { workflow, version, open, ended, took_ms, .. } = check;
    let mut page = format!("{workflow}@{version}, replayed in {took_ms:.0} ms; nothing was deployed\n");
    let _ = writeln!(page, "open   {}", totals(open));
    let _ = writeln!(page, "ended  {}", totals(ended));
    if check.failing.is_empty() {
        return page;
    }
    let mut table = Table::new(&["id", "state", "version", "events", "verdict"]);
    for instance in &check.failing {
        let FailingInstance { id, state, version, events, .. } = instance;
        let state = state.as_str().to_owned();
        table.row([id.clone(), state, version.clone(), events.to_string(), verdict(instance)]);
    }
    page.push_str(&table.render());
    page
}

fn totals(totals: &CheckTotals) -> String {
    let CheckTotals { compatible, diverging, stopped } = totals;
    format!("{compatible} compatible, {diverging} diverge, {stopped} are stopped")
}

fn verdict(instance: &FailingInstance) -> String {
    let text = match (&instance.divergence, &instance.failure) {
        (Some(at), _) => format!("diverges at event {}: expected {}, got {}", at.event, at.expected, at.got),
        (None, Some(failure)) => format!("is stopped: {} ({})", failure.message, failure.code),
        (None, None) => instance.verdict.clone(),
    };
    output::brief(&text, REASON_CHARS)
}

/// What came of moving all open instances.
pub fn migrated(migrated: &MigratedAll) -> String {
    let MigratedAll { component, moved, left, left_named, .. } = migrated;
    let mut page = format!("{}@{} is deployed; {moved} instances go on with it", component.name, component.version);
    if *left > 0 {
        let _ = write!(page, ", {left} stay with their version:");
    }
    for instance in left_named {
        let _ = write!(page, "\n{}  {}", instance.id, output::brief(&instance.reason, REASON_CHARS));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_names_what_does_not_match_and_where() {
        let json = serde_json::json!({
            "workflow": "job", "version": "2", "digest": "ab",
            "open": { "compatible": 3, "diverging": 1, "stopped": 0 },
            "ended": { "compatible": 0, "diverging": 0, "stopped": 1 },
            "failing": [
                { "id": "a", "run": 1, "state": "running", "version": "1", "events": 7, "verdict": "diverges",
                  "divergence": { "event": 2, "expected": "TimerStarted", "got": "the workflow waits" } },
                { "id": "b", "run": 1, "state": "failed", "version": "1", "events": 9, "verdict": "stopped",
                  "failure": { "kind": "application", "code": "guest.panicked", "message": "no", "details": null,
                  "retryable": false } },
            ],
            "took_ms": 12.4,
        });
        let shown = check(&serde_json::from_value(json).expect("a check"));
        let expected = "\
job@2, replayed in 12 ms; nothing was deployed
open   3 compatible, 1 diverge, 0 are stopped
ended  0 compatible, 0 diverge, 1 are stopped
ID  STATE    VERSION  EVENTS  VERDICT
a   running  1        7       diverges at event 2: expected TimerStarted, got the workflow waits
b   failed   1        9       is stopped: no (guest.panicked)
";
        assert_eq!(shown, expected);
    }
}
