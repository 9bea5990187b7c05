//! A schedule for people.

use super::page::{Page, payload};
use crate::output::time;
use rehydrate_http::dto::{CatchUp, Overlap, Schedule, ScheduledInstance};

/// `NAME@VERSION`, or what stands for the newest.
pub fn workflow(name: &str, version: Option<&str>) -> String {
    format!("{name}@{}", version.unwrap_or("(newest)"))
}

/// Everything about a schedule.
pub fn schedule(schedule: &Schedule) -> String {
    let mut page = Page::default();
    let Schedule { name, cron, time_zone, paused, note, .. } = schedule;
    let state = if *paused { "  paused" } else { "" };
    page.line(0, &format!("{name}  {cron}  {time_zone}{state}"));
    if !note.is_empty() {
        page.field("note", note);
    }
    page.field("starts", &workflow(&schedule.workflow, schedule.version.as_deref()));
    page.field("input", &payload(schedule.input.get()));
    page.field("policy", &policy(schedule));
    limits(&mut page, schedule);
    page.field("created", &time(&schedule.created));
    page.field("updated", &time(&schedule.updated));
    let Schedule { fired, skipped, missed, failed, .. } = schedule;
    page.field("counts", &format!("{fired} fired, {skipped} skipped, {missed} missed, {failed} failed"));
    if let Some(last) = &schedule.last {
        page.field("last", &instance(last));
    }
    if let Some(error) = &schedule.last_error {
        let (at, due) = (time(&error.time), time(&error.due));
        page.field("error", &format!("{at}, due {due}: {} [{}]", error.message, error.code));
    }
    if let Some(waiting) = &schedule.waiting {
        page.field("waits", &format!("what was due {} waits for what runs to end", time(waiting)));
    }
    lines(&mut page, "running", schedule.running.iter().map(instance));
    lines(&mut page, "next", schedule.next.iter().map(|due| time(due)));
    page.text()
}

fn policy(schedule: &Schedule) -> String {
    let overlap = match schedule.overlap {
        Overlap::Skip => "skip",
        Overlap::Allow => "allow",
        Overlap::BufferOne => "buffer-one",
        Overlap::CancelOther => "cancel-other",
        Overlap::TerminateOther => "terminate-other",
    };
    let window = schedule.catch_up_window_ms / 1_000.0;
    let catch_up = match schedule.catch_up {
        CatchUp::All => format!("all up to {window} s late"),
        CatchUp::Latest => format!("the latest up to {window} s late"),
        CatchUp::None => "none".to_owned(),
    };
    format!("overlap: {overlap}; catch-up: {catch_up}")
}

fn limits(page: &mut Page, schedule: &Schedule) {
    let mut limits = Vec::new();
    limits.extend(schedule.start.as_ref().map(|at| format!("from {}", time(at))));
    limits.extend(schedule.end.as_ref().map(|at| format!("until {}", time(at))));
    limits.extend(schedule.remaining_runs.map(|left| format!("{left} more runs")));
    if schedule.jitter_ms > 0.0 {
        limits.push(format!("up to {} s later", schedule.jitter_ms / 1_000.0));
    }
    if !limits.is_empty() {
        page.field("limits", &limits.join(", "));
    }
}

fn instance(run: &ScheduledInstance) -> String {
    let due = run.due.as_ref().map_or_else(|| "triggered".to_owned(), |due| format!("due {}", time(due)));
    format!("{} (run {}), started {}, {due}", run.instance, run.run, time(&run.started))
}

fn lines(page: &mut Page, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        page.line(0, title);
    }
    lines.for_each(|line| page.line(1, &line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_schedule_is_shown_with_what_it_did_and_what_it_will_do() {
        let json = r#"{
            "name": "nightly", "cron": "0 2 * * *", "time_zone": "Europe/Stockholm", "workflow": "report", "version": null,
            "paused": false, "input": {"z":1}, "overlap": "buffer-one", "catch_up": "all", "catch_up_window_ms": 60000.0,
            "jitter_ms": 1500.0, "start": null, "end": "2026-12-31T00:00:00.000000000Z", "remaining_runs": 7,
            "note": "since \u001b[2J May", "created": "2026-01-01T00:00:00.000000000Z",
            "updated": "2026-01-02T00:00:00.000000000Z", "next": ["2026-02-01T01:00:00.000000000Z"],
            "waiting": "2026-01-31T01:00:00.000000000Z",
            "running": [{"due": "2026-01-30T01:00:00.000000000Z", "started": "2026-01-30T01:00:00.250000000Z",
                "instance": "nightly-2026-01-30T01:00:00Z", "run": 1}],
            "last": {"due": null, "started": "2026-01-30T01:00:00.250000000Z", "instance": "nightly-x", "run": 1},
            "last_error": {"due": "2026-01-29T01:00:00.000000000Z", "time": "2026-01-29T01:00:00.100000000Z",
                "code": "host.disk-full", "message": "free some space"},
            "fired": 28, "skipped": 1, "missed": 2, "failed": 1
        }"#;
        expect![[r#"
            nightly  0 2 * * *  Europe/Stockholm
            note      since \u{1b}[2J May
            starts    report@(newest)
            input     {"z":1}
            policy    overlap: buffer-one; catch-up: all up to 60 s late
            limits    until 2026-12-31T00:00:00.000Z, 7 more runs, up to 1.5 s later
            created   2026-01-01T00:00:00.000Z
            updated   2026-01-02T00:00:00.000Z
            counts    28 fired, 1 skipped, 2 missed, 1 failed
            last      nightly-x (run 1), started 2026-01-30T01:00:00.250Z, triggered
            error     2026-01-29T01:00:00.100Z, due 2026-01-29T01:00:00.000Z: free some space [host.disk-full]
            waits     what was due 2026-01-31T01:00:00.000Z waits for what runs to end
            running
              nightly-2026-01-30T01:00:00Z (run 1), started 2026-01-30T01:00:00.250Z, due 2026-01-30T01:00:00.000Z
            next
              2026-02-01T01:00:00.000Z
        "#]]
        .assert_eq(&schedule(&serde_json::from_str(json).expect("a schedule")));
    }
}
