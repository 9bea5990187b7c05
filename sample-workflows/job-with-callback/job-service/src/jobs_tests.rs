//! The transitions of a run, and what each behaviour delivers; times are arguments.

use super::*;

fn submission(job: Value, token: &str) -> Submission {
    Submission { job, token: Some(token.to_owned()), callback_url: Some("http://receiver/callbacks/abc".to_owned()) }
}

/// Submits a job whose run must be a new one.
fn new_run(jobs: &mut Jobs, job: Value, token: &str) -> RunId {
    match jobs.submit(submission(job, token), 10) {
        Ok(Submitted::New(id)) => id,
        other => panic!("expected a new run, got {other:?}"),
    }
}

/// The webhooks of a job with that behaviour that runs to its end.
fn webhooks_of(behaviour: Value) -> Vec<Webhook> {
    let mut jobs = Jobs::default();
    let id = new_run(&mut jobs, json!({"name": "report", "behaviour": behaviour, "result": 42}), "t/1");
    assert!(jobs.begin(id));
    jobs.finish(id, 20)
}

fn bodies(webhooks: &[Webhook]) -> Vec<Value> {
    webhooks.iter().map(|webhook| serde_json::from_str(&webhook.body).unwrap()).collect()
}

#[test]
fn a_run_goes_from_pending_over_running_to_terminated() {
    let mut jobs = Jobs::default();
    let id = new_run(&mut jobs, json!({"name": "report"}), "t/1");
    let state = |jobs: &Jobs| {
        let run = jobs.get(&Which::Run(id)).unwrap();
        (run.life_cycle, run.result, run.start, run.end)
    };
    assert_eq!(state(&jobs), (LifeCycle::Pending, None, 10, None));
    assert!(jobs.begin(id));
    assert_eq!(state(&jobs), (LifeCycle::Running, None, 10, None));
    assert_eq!(jobs.finish(id, 25).len(), 1);
    assert_eq!(state(&jobs), (LifeCycle::Terminated, Some(ResultState::Success), 10, Some(25)));
    assert!(!jobs.begin(id), "a run that is over never begins again");
}

#[test]
fn an_equal_token_gives_the_same_run_and_no_second_one() {
    let mut jobs = Jobs::default();
    let id = new_run(&mut jobs, json!({"name": "report"}), "t/1");
    assert_eq!(jobs.submit(submission(json!({"name": "other"}), "t/1"), 11), Ok(Submitted::Known(id)));
    assert_eq!(jobs.list(None, 10).len(), 1);
    assert_ne!(new_run(&mut jobs, json!({"name": "report"}), "t/2"), id);
    let no_token = Submission { job: json!({}), token: None, callback_url: None };
    assert_eq!(jobs.submit(no_token.clone(), 12), Ok(Submitted::New(3)));
    assert_eq!(jobs.submit(no_token, 12), Ok(Submitted::New(4)));
}

#[test]
fn a_cancelled_run_stays_cancelled_and_tells_nobody() {
    let mut jobs = Jobs::default();
    let id = new_run(&mut jobs, json!({}), "t/1");
    jobs.begin(id);
    assert_eq!(jobs.cancel(&Which::Token("t/1".into()), 15), Ok(id));
    assert_eq!(jobs.finish(id, 20), []);
    let run = jobs.get(&Which::Run(id)).unwrap();
    assert_eq!((run.result, run.end), (Some(ResultState::Canceled), Some(15)));
}

#[test]
fn a_cancellation_after_the_end_changes_nothing() {
    let mut jobs = Jobs::default();
    let id = new_run(&mut jobs, json!({}), "t/1");
    jobs.begin(id);
    jobs.finish(id, 20);
    assert_eq!(jobs.cancel(&Which::Run(id), 30), Ok(id));
    let run = jobs.get(&Which::Run(id)).unwrap();
    assert_eq!((run.result, run.end), (Some(ResultState::Success), Some(20)));
}

#[test]
fn a_late_run_calls_back_although_it_was_cancelled() {
    let mut jobs = Jobs::default();
    let id = new_run(&mut jobs, json!({"behaviour": "late"}), "t/1");
    jobs.begin(id);
    jobs.cancel(&Which::Run(id), 15).unwrap();
    assert_eq!(jobs.finish(id, 20).len(), 1);
    assert_eq!(jobs.get(&Which::Run(id)).unwrap().result, Some(ResultState::Canceled));
}

#[test]
fn what_is_not_there_is_said_so() {
    let mut jobs = Jobs::default();
    assert_eq!(jobs.cancel(&Which::Run(7), 1), Err(JobsError::NoRun("7".into())));
    assert!(jobs.get(&Which::Token("x".into())).is_err());
}

#[test]
fn success_early_late_and_slow_deliver_one_completion() {
    let expected = json!({"run_id": 1, "state": "SUCCESS", "result": 42, "message": "the job is done"});
    for behaviour in ["success", "early", "late", "slow"] {
        let webhooks = webhooks_of(json!(behaviour));
        assert_eq!(bodies(&webhooks), std::slice::from_ref(&expected), "{behaviour}");
        assert_eq!(webhooks[0].url, "http://receiver/callbacks/abc");
    }
    assert_eq!(webhooks_of(json!("never")), []);
}

#[test]
fn twice_is_equal_to_the_byte_and_twice_different_is_not() {
    let twice = webhooks_of(json!("twice"));
    assert_eq!(twice.len(), 2);
    assert_eq!(twice[0], twice[1]);
    let different = webhooks_of(json!("twice-different"));
    assert_eq!(different.len(), 2);
    assert_eq!(bodies(&different)[0]["state"], bodies(&different)[1]["state"]);
    assert_ne!(different[0].body, different[1].body);
}

#[test]
fn malformed_is_no_json_and_may_be_corrected() {
    let malformed = webhooks_of(json!("malformed"));
    assert_eq!(malformed.len(), 1);
    assert!(serde_json::from_str::<Value>(&malformed[0].body).is_err());
    let corrected = webhooks_of(json!({"kind": "malformed", "then_correct": true}));
    assert_eq!(corrected.len(), 2);
    assert_eq!(bodies(&corrected[1..])[0]["state"], "SUCCESS");
}

#[test]
fn failure_calls_back_and_reject_posts_to_the_reject_form() {
    let failure = webhooks_of(json!({"kind": "failure", "message": "out of disk"}));
    assert_eq!(bodies(&failure), [json!({"run_id": 1, "state": "FAILED", "result": null, "message": "out of disk"})]);
    let reject = webhooks_of(json!({"kind": "reject", "code": "quota", "retryable": true}));
    assert_eq!(reject[0].url, "http://receiver/callbacks/abc/reject");
    let body = &bodies(&reject)[0];
    assert_eq!((&body["code"], &body["retryable"]), (&json!("quota"), &json!(true)));
}

#[test]
fn errors_leave_no_run_and_count_as_submissions() {
    let mut jobs = Jobs::default();
    let job = json!({"name": "report", "behaviours": ["error-500", "success"]});
    let refused = Submitted::Refused { status: 500, retry_after: None };
    assert_eq!(jobs.submit(submission(job.clone(), "t/1"), 1), Ok(refused));
    assert!(jobs.list(None, 10).is_empty());
    assert_eq!(jobs.submit(submission(job, "t/1"), 2), Ok(Submitted::New(1)));
}

#[test]
fn error_429_is_told_for_a_number_of_times_and_then_runs() {
    let mut jobs = Jobs::default();
    let job = json!({"behaviour": {"kind": "error-429", "retry_after_seconds": 3, "times": 2}});
    let refused = Submitted::Refused { status: 429, retry_after: Some(3) };
    assert_eq!(jobs.submit(submission(job.clone(), "t/1"), 1), Ok(refused.clone()));
    assert_eq!(jobs.submit(submission(job.clone(), "t/1"), 2), Ok(refused));
    assert_eq!(jobs.submit(submission(job, "t/1"), 3), Ok(Submitted::New(1)));
}

#[test]
fn the_ledger_holds_submissions_cancellations_and_answers() {
    let mut jobs = Jobs::default();
    let id = new_run(&mut jobs, json!({"name": "report"}), "t/1");
    new_run(&mut jobs, json!({"name": "report"}), "t/2");
    jobs.begin(id);
    jobs.finish(id, 20);
    jobs.answered(id, WebhookAnswer { at: 21, delivery: 1, attempt: 1, status: Some(202), body: json!(null) });
    jobs.cancel(&Which::Run(id), 30).unwrap();
    let kinds: Vec<_> = jobs.ledger(Some(id)).iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["submission", "webhook", "cancel"]);
    assert_eq!(jobs.ledger(None).len(), 4);
    assert_eq!(jobs.get(&Which::Run(id)).unwrap().shown()["callbacks"][0]["status"], 202);
}
