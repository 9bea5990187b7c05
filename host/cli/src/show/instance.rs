//! An instance for people.

use super::page::{Page, payload};
use crate::output::{self, between, time};
use rehydrate_http::dto::{
    Activity, Attempt, Failure, InstanceStarted, InstanceStatus, LogLine, ReplayReport, State, WaitingFor,
};
use std::fmt::Write as _;

fn failure_line(failure: &Failure) -> String {
    format!("{} ({}): {}", failure.code, failure.kind, failure.message)
}

/// What a start did.
pub fn started(started: &InstanceStarted) -> String {
    let InstanceStarted { id, run, version, created, .. } = started;
    let what = if *created { "started" } else { "was started before:" };
    format!("{what} {id} (run {run}, version {version})")
}

/// Everything about an instance.
pub fn instance(status: &InstanceStatus) -> String {
    let mut page = Page::default();
    let InstanceStatus { id, run, workflow, version, state, .. } = status;
    page.line(0, &format!("{id}  {workflow}@{version}  run {run}  {}", state.as_str()));
    page.field("created", &time(&status.created));
    let resident = if status.resident { ", in memory" } else { "" };
    page.field("updated", &format!("{} (event {}{resident})", time(&status.updated), status.last_event));
    page.field("input", &payload(status.input.get()));
    if let Some(custom) = &status.custom_status {
        page.field("status", &payload(custom.get()));
    }
    if let Some(parent) = &status.parent {
        page.field("parent", parent);
    }
    if let Some(reason) = &status.suspended {
        page.field("suspended", reason);
    }
    if let Some(reason) = &status.cancel_requested {
        page.field("cancel", &format!("requested: {reason}"));
    }
    if status.buffered_signals > 0 {
        page.field("signals", &format!("{} wait to be taken", status.buffered_signals));
    }
    result(&mut page, status);
    waiting(&mut page, &status.waiting_for);
    activities(&mut page, &status.activities);
    page.text()
}

fn result(page: &mut Page, status: &InstanceStatus) {
    if let Some(output) = &status.output {
        page.field("output", &payload(output.get()));
    }
    if let Some(failure) = &status.failure {
        page.field("failure", &failure_line(failure));
        if let Some(details) = &failure.details {
            page.field("details", &payload(details.get()));
        }
    }
    let Some(problem) = &status.problem else { return };
    page.field("problem", &format!("{} [{}]", problem.message, problem.code));
    if let Some(divergence) = &problem.divergence {
        page.line(1, &format!("at event {}", divergence.event));
        page.line(1, &format!("expected {}", divergence.expected));
        page.line(1, &format!("got      {}", divergence.got));
    }
}

fn waiting(page: &mut Page, waiting_for: &[WaitingFor]) {
    if waiting_for.is_empty() {
        return;
    }
    page.line(0, "waiting for");
    for waiting in waiting_for {
        page.line(1, &format!("{}, since {}", waiting.text, time(&waiting.since)));
    }
}

fn activities(page: &mut Page, activities: &[Activity]) {
    if activities.is_empty() {
        return;
    }
    page.line(0, "activities");
    for activity in activities {
        let Activity { event, name, state, scheduled, deadline, .. } = activity;
        let until = deadline.as_ref().map_or_else(String::new, |at| format!(", until {}", time(at)));
        page.line(1, &format!("#{event} {name}  {state}  scheduled {}{until}", time(scheduled)));
        activity.attempts.iter().for_each(|attempt| page.line(2, &attempt_line(attempt)));
    }
}

fn attempt_line(attempt: &Attempt) -> String {
    let mut line = format!("attempt {:<3} {:<11}", attempt.attempt, attempt.state);
    if let Some(started) = &attempt.started {
        let _ = write!(line, "  started {}", time(started));
    }
    if let Some(ended) = &attempt.ended {
        let _ = write!(line, "  ended {}", time(ended));
        if let Some(took) = attempt.started.as_ref().and_then(|started| between(started, ended)) {
            let _ = write!(line, " ({took})");
        }
    }
    if let Some(deadline) = &attempt.deadline {
        let word = if attempt.state == "backing-off" { "starts" } else { "due" };
        let _ = write!(line, "  {word} {}", time(deadline));
    }
    if let Some(failure) = &attempt.failure {
        let _ = write!(line, "  {}", output::brief(&failure_line(failure), 200));
    }
    line.trim_end().to_owned()
}

/// How an instance ended.
pub fn end(status: &InstanceStatus) -> String {
    let mut page = Page::default();
    let took = between(&status.created, &status.updated).unwrap_or_default();
    page.line(0, &format!("{}  {}  after {took}", status.id, status.state.as_str()));
    result(&mut page, status);
    if !matches!(status.state, State::Completed) {
        page.line(0, &format!("look at it with `rehydrate instance describe {}`", status.id));
    }
    page.text()
}

/// A line of the log.
pub fn log_line(line: &LogLine) -> String {
    let LogLine { time: at, level, text, .. } = line;
    output::clean(&format!("{}  {level:<5}  {text}", time(at)))
}

/// How a replay went.
pub fn replay(report: &ReplayReport) -> String {
    let mut page = Page::default();
    let ReplayReport { id, run, version, events, .. } = report;
    let on = format!("{id} (run {run}, version {version}, {events} events)");
    match (report.verdict.as_str(), &report.divergence, &report.failure) {
        ("diverges", Some(divergence), _) => {
            page.line(0, &format!("{on} does not match its history at event {}", divergence.event));
            page.line(1, &format!("expected {}", divergence.expected));
            page.line(1, &format!("got      {}", divergence.got));
            page.line(0, "nothing was written; deploy a version that matches, or keep this instance on its own");
        }
        ("stopped", _, Some(failure)) => {
            page.line(0, &format!("{on} was stopped: {}", failure_line(failure)));
            page.line(0, "nothing was written; look at the limits of the configuration");
        }
        (_, _, failure) => {
            page.line(0, &format!("{on} matches its history; nothing was written"));
            if let Some(output) = &report.output {
                page.field("output", &payload(output.get()));
            }
            if let Some(failure) = failure {
                page.field("failure", &failure_line(failure));
            }
        }
    }
    page.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn status() -> InstanceStatus {
        let json = r#"{
            "id": "order-7", "run": 1, "workflow": "job", "version": "1.0.0", "digest": "00", "state": "failed",
            "created": "2023-11-14T22:13:20.000000000Z", "updated": "2023-11-14T22:13:26.250000000Z",
            "last_event": 12, "input": {"z":1,"a":1e999}, "output": null,
            "failure": {"kind":"application","code":"job.failed","message":"all attempts failed",
                "details":{"attempts":2},"retryable":false},
            "custom_status": {"attempts":[1]}, "cancel_requested": null,
            "waiting_for": [{"event":5,"kind":"callback","name":"done","since":"2023-11-14T22:13:20.000000000Z",
                "due":"2023-11-14T22:14:20.000000000Z",
                "text":"callback `done` to be called, due 2023-11-14T22:14:20.000Z"}],
            "activities": [{"event":6,"name":"submit","state":"executing","scheduled":"2023-11-14T22:13:20.000000000Z",
                "deadline":null,"attempts":[
                {"attempt":1,"state":"timed-out","started":"2023-11-14T22:13:20.000000000Z",
                 "ended":"2023-11-14T22:13:25.000000000Z","deadline":null,
                 "failure":{"kind":"timed-out","code":"timeout.start-to-close","message":"too \u001b[2Jlong","details":null,
                 "retryable":true}},
                {"attempt":2,"state":"backing-off","started":null,"ended":null,
                 "deadline":"2023-11-14T22:13:27.000000000Z","failure":null}]}],
            "buffered_signals": 2, "resident": true,
            "problem": {"code":"workflow.diverged","message":"it does not match its history; migrate it",
                "divergence":{"event":4,"expected":"TimerStarted","got":"ActivityScheduled `x`"}}
        }"#;
        serde_json::from_str(json).expect("a status")
    }

    #[test]
    fn an_instance_is_shown_with_the_timeline_of_its_attempts() {
        expect![[r#"
            order-7  job@1.0.0  run 1  failed
            created   2023-11-14T22:13:20.000Z
            updated   2023-11-14T22:13:26.250Z (event 12, in memory)
            input     {"z":1,"a":1e999}
            status    {"attempts":[1]}
            signals   2 wait to be taken
            failure   job.failed (application): all attempts failed
            details   {"attempts":2}
            problem   it does not match its history; migrate it [workflow.diverged]
              at event 4
              expected TimerStarted
              got      ActivityScheduled `x`
            waiting for
              callback `done` to be called, due 2023-11-14T22:14:20.000Z, since 2023-11-14T22:13:20.000Z
            activities
              #6 submit  executing  scheduled 2023-11-14T22:13:20.000Z
                attempt 1   timed-out    started 2023-11-14T22:13:20.000Z  ended 2023-11-14T22:13:25.000Z (5.0 s)  timeout.start-to-close (timed-out): too \u{1b}[2Jlong
                attempt 2   backing-off  starts 2023-11-14T22:13:27.000Z
        "#]].assert_eq(&instance(&status()));
    }

    #[test]
    fn an_end_that_is_not_good_says_where_to_look() {
        expect![[r#"
            order-7  failed  after 6.2 s
            failure   job.failed (application): all attempts failed
            details   {"attempts":2}
            problem   it does not match its history; migrate it [workflow.diverged]
              at event 4
              expected TimerStarted
              got      ActivityScheduled `x`
            look at it with `rehydrate instance describe order-7`
        "#]]
        .assert_eq(&end(&status()));
    }
}
