//! The sample workflow against the job service: one test for every way in which the service behaves.

use rehydrate_blackbox::host::SAMPLE;
use rehydrate_blackbox::{Client, Host, JobService, eventually, history};
use serde_json::{Value, json};

struct Stage {
    service: JobService,
    client: Client,
}

/// How one instance is run.
struct Plan {
    job: Value,
    timeout_seconds: f64,
    retry_limit: u32,
}

impl Stage {
    async fn new() -> Stage {
        Stage { service: JobService::start(), client: Host::shared().await.client() }
    }

    async fn start(&self, plan: Plan) -> String {
        let input = json!({
            "job": plan.job,
            "timeout_seconds": plan.timeout_seconds,
            "retry_limit": plan.retry_limit,
            "service_url": self.service.url(),
            "backoff_seconds": 0.1,
        });
        self.client.started(SAMPLE, &input).await
    }

    /// Runs a job with behaviours to its end.
    async fn run(&self, behaviours: Value, timeout_seconds: f64, retry_limit: u32) -> (String, Value) {
        let job = json!({ "name": "report", "run_seconds": 0.05, "behaviours": behaviours, "result": { "rows": 7 } });
        let id = self.start(Plan { job, timeout_seconds, retry_limit }).await;
        let status = self.client.over(&id).await;
        (id, status)
    }

    /// The events of one name in an instance's history.
    async fn count(&self, id: &str, event: &str) -> usize {
        history::count(&self.client.history(id).await, event)
    }

    /// How the runs of the service ended, oldest first.
    async fn results(&self) -> Vec<Value> {
        self.service.runs().await.iter().map(|run| run["state"]["result_state"].clone()).collect()
    }

    /// The ledger's entries of one kind.
    async fn entries(&self, kind: &str) -> Vec<Value> {
        self.service.ledger().await.into_iter().filter(|entry| entry["kind"] == kind).collect()
    }
}

fn attempts(status: &Value) -> &[Value] {
    status["custom_status"]["attempts"].as_array().map_or(&[], Vec::as_slice)
}

fn states(status: &Value) -> Vec<&str> {
    attempts(status).iter().map(|attempt| attempt["state"].as_str().unwrap_or_default()).collect()
}

#[track_caller]
fn assert_completed(status: &Value, expected: &[&str]) {
    assert_eq!(status["state"], "completed", "{status:#}");
    assert_eq!(states(status), expected, "{status:#}");
    assert_eq!(status["output"]["result"], json!({ "rows": 7 }), "{status:#}");
}

#[tokio::test]
async fn a_job_that_calls_back_on_time_completes_its_instance() {
    let stage = Stage::new().await;
    let (id, status) = stage.run(json!(["success"]), 30.0, 0).await;
    assert_completed(&status, &["callback-success"]);
    assert_eq!(stage.service.webhook_statuses(0, 1).await, [202]);
    assert_eq!(stage.count(&id, "CallbackSettled").await, 1);
    let history = stage.client.history(&id).await;
    assert_eq!(history::check(&history), Ok(()));
}

#[tokio::test]
async fn an_early_callback_is_kept_until_the_workflow_waits() {
    let stage = Stage::new().await;
    let (id, status) = stage.run(json!(["early"]), 30.0, 0).await;
    assert_completed(&status, &["callback-success"]);
    assert_eq!(stage.service.webhook_statuses(0, 1).await, [202]);
    // It came while the submission was under way: before that activity had ended.
    let names = history::names(&stage.client.history(&id).await);
    let place = |name: &str| names.iter().position(|one| one == name);
    let submitted = place("ActivityCompleted").unwrap_or(usize::MAX);
    assert!(place("CallbackSettled").is_some_and(|settled| settled < submitted), "{names:?}");
}

#[tokio::test]
async fn a_late_callback_gets_410_and_never_completes_a_later_attempt() {
    let stage = Stage::new().await;
    let behaviours = json!([{ "kind": "late", "delay_seconds": 5.0 }, "never"]);
    let job = json!({ "name": "report", "behaviours": behaviours });
    let id = stage.start(Plan { job, timeout_seconds: 4.0, retry_limit: 1 }).await;
    assert_eq!(stage.service.webhook_statuses(0, 1).await, [410]);
    let status = stage.client.status(&id).await;
    assert_eq!(states(&status), ["timed-out", "waiting-for-callback"], "{status:#}");
    assert_eq!(stage.count(&id, "CallbackSettled").await, 0);
    // The second attempt is still open to its own callback, and only to that.
    let submissions = stage.entries("submission").await;
    let url = submissions[1]["callback_url"].as_str().expect("a submission names its callback");
    let body = json!({ "run_id": 2, "state": "SUCCESS", "result": { "rows": 7 }, "message": "" }).to_string();
    stage.client.callback(url, body).await.expect(202);
    let status = stage.client.over(&id).await;
    assert_completed(&status, &["timed-out", "callback-success"]);
    assert_eq!(attempts(&status)[1]["run_id"], 2);
}

#[tokio::test]
async fn a_second_equal_callback_gets_202_and_adds_no_event() {
    let stage = Stage::new().await;
    let (id, status) = stage.run(json!(["twice"]), 30.0, 0).await;
    assert_completed(&status, &["callback-success"]);
    assert_eq!(stage.service.webhook_statuses(0, 2).await, [202, 202]);
    assert_eq!(stage.count(&id, "CallbackSettled").await, 1);
}

#[tokio::test]
async fn a_second_different_callback_gets_409_and_changes_nothing() {
    let stage = Stage::new().await;
    let (id, status) = stage.run(json!(["twice-different"]), 30.0, 0).await;
    assert_completed(&status, &["callback-success"]);
    assert_eq!(stage.service.webhook_statuses(0, 2).await, [202, 409]);
    assert_eq!(stage.count(&id, "CallbackSettled").await, 1);
    assert_eq!(attempts(&stage.client.status(&id).await)[0]["message"], "the job is done");
}

#[tokio::test]
async fn a_malformed_callback_gets_400_and_the_right_one_still_counts() {
    let stage = Stage::new().await;
    let (id, status) = stage.run(json!([{ "kind": "malformed", "then_correct": true }]), 30.0, 0).await;
    assert_completed(&status, &["callback-success"]);
    assert_eq!(stage.service.webhook_statuses(0, 2).await, [400, 202]);
    assert_eq!(stage.count(&id, "CallbackSettled").await, 1);
}

#[tokio::test]
async fn a_malformed_callback_alone_records_nothing_and_the_attempt_times_out() {
    let stage = Stage::new().await;
    let (id, status) = stage.run(json!(["malformed"]), 2.0, 0).await;
    assert_eq!(status["state"], "failed", "{status:#}");
    assert_eq!(states(&status), ["timed-out"]);
    assert_eq!(stage.service.webhook_statuses(0, 1).await, [400]);
    assert_eq!(stage.count(&id, "CallbackSettled").await, 0);
}

#[tokio::test]
async fn a_job_that_reports_failure_is_tried_again() {
    let stage = Stage::new().await;
    let behaviours = json!([{ "kind": "failure", "message": "out of disk" }, "success"]);
    let (id, status) = stage.run(behaviours, 30.0, 1).await;
    assert_completed(&status, &["callback-failure", "callback-success"]);
    assert_eq!(attempts(&status)[0]["message"], "out of disk");
    assert_eq!(stage.service.webhook_statuses(0, 1).await, [202]);
    assert_eq!(stage.count(&id, "CallbackSettled").await, 2);
}

#[tokio::test]
async fn a_rejected_callback_fails_its_attempt_with_the_callers_reason() {
    let stage = Stage::new().await;
    let reject = json!({ "kind": "reject", "code": "quota", "message": "no more jobs today", "retryable": true });
    let (id, status) = stage.run(json!([reject, "success"]), 30.0, 1).await;
    assert_completed(&status, &["callback-failure", "callback-success"]);
    assert_eq!(stage.service.webhook_statuses(0, 1).await, [202]);
    let history = stage.client.history(&id).await;
    let settled = history.iter().find(|event| history::name(event) == "CallbackSettled").expect("it was recorded");
    assert_eq!((&settled["failure"]["code"], &settled["failure"]["retryable"]), (&json!("quota"), &json!(true)));
}

#[tokio::test]
async fn a_job_that_never_calls_back_is_cancelled_before_the_next_attempt() {
    let stage = Stage::new().await;
    let (_, status) = stage.run(json!(["never", "success"]), 3.0, 1).await;
    assert_completed(&status, &["timed-out", "callback-success"]);
    let kinds: Vec<Value> = stage.service.ledger().await.iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["submission", "cancel", "submission", "webhook"]);
    let tokens: Vec<Value> =
        stage.entries("submission").await.iter().map(|entry| entry["idempotency_token"].clone()).collect();
    assert_ne!(tokens[0], tokens[1], "every attempt has a token of its own");
}

#[tokio::test]
async fn the_timeout_counts_from_dispatch() {
    let stage = Stage::new().await;
    let (_, status) = stage.run(json!(["never"]), 1.5, 0).await;
    let attempt = &attempts(&status)[0];
    let (due, ended) = (attempt["timeout_due"].as_str(), attempt["state_set"].as_str());
    assert!(due.is_some() && due <= ended, "{attempt}");
    let history = stage.client.history(status["id"].as_str().expect("an id")).await;
    let dispatched = history.iter().find(|event| history::name(event) == "ActivityScheduled").expect("a submission");
    assert!(dispatched["time"].as_str() < due, "{dispatched} {attempt}");
}

#[tokio::test]
async fn an_error_500_is_a_failed_attempt_at_once() {
    let stage = Stage::new().await;
    let (_, status) = stage.run(json!(["error-500", "success"]), 600.0, 1).await;
    assert_completed(&status, &["execution-failed", "callback-success"]);
    let message = attempts(&status)[0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("http.status-500"), "{message}");
    assert_eq!(stage.entries("submission").await.len(), 2, "one submission for each attempt, none repeated");
}

#[tokio::test]
async fn an_error_429_is_tried_again_by_the_host_not_before_the_time_it_names() {
    let stage = Stage::new().await;
    let behaviour = json!({ "kind": "error-429", "retry_after_seconds": 2 });
    let (_, status) = stage.run(json!([behaviour]), 60.0, 0).await;
    assert_completed(&status, &["callback-success"]);
    let submissions = stage.entries("submission").await;
    assert_eq!(submissions.len(), 2);
    assert_eq!(submissions[0]["idempotency_token"], submissions[1]["idempotency_token"]);
    let at = |index: usize| submissions[index]["at"].as_u64().expect("an entry has a time");
    assert!(at(1) >= at(0) + 2000, "{submissions:#?}");
    let tries: Vec<&Value> = status["activities"][0]["attempts"].as_array().into_iter().flatten().collect();
    assert_eq!(tries.len(), 2, "{status:#}");
    assert_eq!((&tries[0]["state"], &tries[1]["state"]), (&json!("failed"), &json!("completed")));
    assert_eq!(tries[0]["failure"]["code"], "http.status-429");
}

#[tokio::test]
async fn a_callback_overtakes_a_slow_answer() {
    let stage = Stage::new().await;
    let (_, status) = stage.run(json!([{ "kind": "slow", "delay_seconds": 1.0 }]), 30.0, 0).await;
    assert_completed(&status, &["callback-success"]);
    assert_eq!(stage.results().await, ["SUCCESS"]);
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_ends_the_attempt_and_cancels_the_job() {
    let stage = Stage::new().await;
    let job = json!({ "run_seconds": 600.0, "behaviour": { "kind": "slow", "delay_seconds": 600.0 } });
    let id = stage.start(Plan { job, timeout_seconds: 1.0, retry_limit: 0 }).await;
    let status = stage.client.over(&id).await;
    assert_eq!((&status["state"], states(&status)), (&json!("failed"), vec!["timed-out"]), "{status:#}");
    assert_eq!(stage.results().await, ["CANCELED"]);
}

#[tokio::test]
async fn exhausted_retries_end_as_failed_with_all_attempts() {
    let stage = Stage::new().await;
    let (_, status) = stage.run(json!(["never", { "kind": "failure" }, "error-500"]), 1.0, 2).await;
    assert_eq!(status["state"], "failed", "{status:#}");
    assert_eq!(status["failure"]["code"], "job.attempts-exhausted");
    let told = &status["failure"]["details"]["attempts"];
    assert_eq!(told, &status["custom_status"]["attempts"]);
    assert_eq!(states(&status), ["timed-out", "callback-failure", "execution-failed"]);
}

#[tokio::test]
async fn a_waiting_attempt_can_be_seen_in_words_and_in_data() {
    let stage = Stage::new().await;
    let job = json!({ "name": "report", "behaviour": "never", "run_seconds": 600 });
    let id = stage.start(Plan { job, timeout_seconds: 600.0, retry_limit: 0 }).await;
    let what = "waits for its callback";
    let status = stage.client.status_when(&id, what, |status| states(status) == ["waiting-for-callback"]).await;
    let attempt = &attempts(&status)[0];
    for field in ["started", "state_set", "timeout_due"] {
        assert!(attempt[field].is_string(), "{field}: {attempt}");
    }
    let waits = status["waiting_for"].as_array().expect("a list");
    let kinds: Vec<&str> = waits.iter().filter_map(|wait| wait["kind"].as_str()).collect();
    assert_eq!(kinds, ["callback", "timer"], "{status:#}");
    assert!(waits[0]["text"].as_str().is_some_and(|text| text.contains("job-attempt-1")), "{status:#}");
    // The URL is a secret: wherever the submission is shown, it is masked.
    let url = stage.entries("submission").await[0]["callback_url"].as_str().expect("a URL").to_owned();
    let token = url.rsplit('/').next().expect("a token").to_owned();
    for path in [format!("/v1/instances/{id}"), format!("/v1/instances/{id}/history")] {
        assert!(!stage.client.get(&path).await.text.contains(&token), "{path} shows the token");
    }
    stage
        .client
        .post(&format!("/v1/instances/{id}/cancel"), &json!({ "reason": "the test is over" }))
        .await
        .expect(202);
    let status = stage.client.over(&id).await;
    assert_eq!(status["state"], "cancelled", "{status:#}");
    eventually("the job is cancelled too", async || match stage.results().await {
        results if results == ["CANCELED"] => Ok(()),
        results => Err(format!("{results:?}")),
    })
    .await;
}
