//! Purging and restarting instances, and retention: what is gone is gone whole, and nothing else is.

use crate::start::fresh_id;
use rehydrate_blackbox::client::{answer, is_over};
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Answer, Client, Host, HostSettings, Sink, eventually, history};
use reqwest::Method;
use serde_json::{Value, json};

async fn purge(client: &Client, id: &str) -> Answer {
    answer(client.admin(Method::DELETE, &format!("/v1/instances/{id}"))).await
}

async fn purge_where(client: &Client, query: &str) -> Answer {
    answer(client.admin(Method::DELETE, &format!("/v1/instances?{query}"))).await
}

fn echo(value: u32) -> Value {
    json!({ "do": "echo", "value": value })
}

fn wait() -> Value {
    json!({ "do": "signal", "name": "go", "count": 1 })
}

/// An instance of that id that has ended, with a line in its log.
async fn ended(client: &Client, id: &str) {
    client.start(GUESTS, id, &json!({ "do": "sequence", "name": "echo", "count": 3 })).await.expect(202);
    client.over(id).await;
}

async fn assert_gone(client: &Client, id: &str) {
    for part in ["", "/history", "/log", "/result"] {
        let answer = client.get(&format!("/v1/instances/{id}{part}")).await.expect(404);
        assert_eq!(answer.code(), "instance.not-found", "{part}");
    }
    let list = client.get(&format!("/v1/instances?id_prefix={id}")).await.expect(200);
    assert_eq!(list.body["instances"], json!([]));
}

async fn counted(client: &Client, query: &str) -> usize {
    let list = client.get(&format!("/v1/instances?{query}&limit=500")).await.expect(200);
    list.body["instances"].as_array().expect("a page").len()
}

#[tokio::test]
async fn a_purged_instance_is_as_if_it_had_never_been_also_after_a_kill() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    for id in ["a", "b"] {
        ended(&client, id).await;
        client.start(GUESTS, id, &echo(1)).await.expect(202);
        assert_eq!(client.over(id).await["run"], 2);
    }
    let other = (client.recorded_status("b").await, client.history("b").await);
    purge(&client, "a").await.expect(204);
    assert_gone(&client, "a").await;
    host.kill();
    host.restart();
    assert_gone(&client, "a").await;
    assert_eq!(purge(&client, "a").await.expect(404).code(), "instance.not-found");
    assert_eq!((client.recorded_status("b").await, client.history("b").await), other);
    let answer = client.start(GUESTS, "a", &echo(2)).await.expect(202);
    assert_eq!(answer.body["run"], 1);
    assert_eq!(client.over("a").await["output"], 2);
    assert_eq!(history::check(&client.history("a").await), Ok(()));
    client.get("/v1/instances/a/history?run=2").await.expect(404);
}

#[tokio::test]
async fn an_instance_that_has_not_ended_is_not_purged() {
    let client = Host::shared().await.client();
    let id = fresh_id("open");
    client.start(GUESTS, &id, &wait()).await.expect(202);
    client.waiting(&id, "signal").await;
    let before = client.recorded_status(&id).await;
    let refused = purge(&client, &id).await.expect(409);
    assert_eq!(refused.code(), "instance.running");
    assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains(&id)), "{refused:?}");
    assert_eq!(client.recorded_status(&id).await, before);
    client.signal(&id, "go", &json!(1)).await.expect(202);
    client.over(&id).await;
    purge(&client, &id).await.expect(204);
}

#[tokio::test]
async fn a_purge_by_conditions_takes_all_that_meet_them_and_have_ended() {
    let host = Host::shared().await;
    let client = host.client();
    let prefix = fresh_id("many");
    for n in 0..30 {
        let input = if n % 3 == 0 { wait() } else { echo(n) };
        client.start(GUESTS, &format!("{prefix}-{n}"), &input).await.expect(202);
    }
    for n in (0..30).filter(|n| n % 3 != 0) {
        client.over(&format!("{prefix}-{n}")).await;
    }
    let family = format!("id_prefix={prefix}");
    assert_eq!(purge_where(&client, &format!("{family}&state=failed")).await.expect(200).body["purged"], 0);
    assert_eq!(purge_where(&client, &format!("{family}&workflow=nothing")).await.expect(200).body["purged"], 0);
    let before = format!("{family}&created_to=2020-01-01T00:00:00Z");
    assert_eq!(purge_where(&client, &before).await.expect(200).body["purged"], 0);
    assert_eq!(purge_where(&client, &format!("{family}-1")).await.expect(200).body["purged"], 8);
    let done = host.cli(&["instance", "purge", "--id-prefix", &prefix, "--state", "completed"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(String::from_utf8_lossy(&done.stdout), "12 instances are purged\n");
    assert_eq!(counted(&client, &family).await, 10, "those that wait are left");
    assert_eq!(purge_where(&client, "").await.expect(400).code(), "purge.no-filter");
    assert_eq!(purge_where(&client, "state=running").await.expect(400).code(), "purge.open-state");
    for n in (0..30).filter(|n| n % 3 == 0) {
        client.post(&format!("/v1/instances/{prefix}-{n}/terminate"), &json!({})).await.expect(202);
    }
}

#[tokio::test]
async fn the_command_line_purges_one_instance_and_needs_to_be_told_which() {
    let host = Host::shared().await;
    let client = host.client();
    let id = fresh_id("cli");
    ended(&client, &id).await;
    let usage = host.cli(&["instance", "purge"]).await;
    assert_eq!(usage.status.code(), Some(2), "{}", String::from_utf8_lossy(&usage.stderr));
    let both = host.cli(&["instance", "purge", &id, "--state", "failed"]).await;
    assert_eq!(both.status.code(), Some(2), "{}", String::from_utf8_lossy(&both.stderr));
    let done = host.cli(&["instance", "purge", &id]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_gone(&client, &id).await;
    let missing = host.cli(&["instance", "purge", &id]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("instance.not-found"));
}

#[tokio::test]
async fn the_key_of_a_purged_start_starts_nothing_again() {
    let client = Host::shared().await.client();
    let id = fresh_id("keyed");
    let request = json!({ "workflow": GUESTS, "id": id, "input": echo(1) });
    let start = async || {
        let request = client.admin(Method::POST, "/v1/instances").header("idempotency-key", &id).json(&request);
        answer(request).await
    };
    start().await.expect(202);
    client.over(&id).await;
    purge(&client, &id).await.expect(204);
    assert_eq!(start().await.expect(410).code(), "idempotency.purged");
    assert_gone(&client, &id).await;
    client.start(GUESTS, &id, &echo(2)).await.expect(202);
    assert_eq!(start().await.expect(410).code(), "idempotency.purged", "the id has another instance now");
}

#[tokio::test]
async fn a_callback_of_a_purged_instance_is_gone() {
    let client = Host::shared().await.client();
    let sink = Sink::start().await;
    let input = json!({ "do": "callback", "name": "c", "register_url": format!("{}/r", sink.url()) });
    let id = client.started(GUESTS, &input).await;
    let url = sink.received_when("a callback URL", |_| true).await.body["url"].as_str().expect("a URL").to_owned();
    client.post(&format!("/v1/instances/{id}/terminate"), &json!({})).await.expect(202);
    purge(&client, &id).await.expect(204);
    assert_eq!(client.callback(&url, "1").await.expect(410).code(), "callback.gone");
}

#[tokio::test]
async fn purges_and_starts_of_one_id_that_race_leave_a_whole_instance_or_none() {
    let client = Host::shared().await.client();
    let id = fresh_id("raced");
    let starts = async {
        for n in 0..60 {
            let status = client.start(GUESTS, &id, &echo(n)).await.status;
            assert!(status == 202 || status == 409, "{status}");
        }
    };
    let purges = async {
        for _ in 0..120 {
            let status = purge(&client, &id).await.status;
            assert!([204, 404, 409].contains(&status), "{status}");
        }
    };
    tokio::join!(starts, purges);
    client.start(GUESTS, &id, &echo(99)).await;
    let status = client.over(&id).await;
    let events = client.history(&id).await;
    assert_eq!(history::check(&events), Ok(()), "{status:#}");
    assert_eq!(status["last_event"], events.len());
    purge(&client, &id).await.expect(204);
    assert_gone(&client, &id).await;
}

#[tokio::test]
async fn a_purge_that_is_killed_has_dropped_each_instance_whole_or_not_at_all() {
    const COUNT: usize = 400;
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    for n in 0..COUNT {
        client.start(GUESTS, &format!("i-{n}"), &echo(7)).await.expect(202);
    }
    eventually("all have ended", async || match counted(&client, "state=running").await {
        0 => Ok(()),
        open => Err(format!("{open} are open")),
    })
    .await;
    let purging = {
        let client = client.clone();
        tokio::spawn(async move {
            let request = client.admin(Method::DELETE, "/v1/instances?state=completed");
            rehydrate_blackbox::client::try_answer(request).await.is_ok()
        })
    };
    eventually("some are purged", async || match client.get("/v1/stats").await.body["purged"].as_u64() {
        Some(purged) if purged > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    host.kill();
    purging.await.expect("the request ends");
    host.restart();
    let mut left = 0;
    for n in 0..COUNT {
        let id = format!("i-{n}");
        match client.get(&format!("/v1/instances/{id}")).await.status {
            404 => assert_gone(&client, &id).await,
            status => {
                assert_eq!(status, 200);
                assert_eq!(client.history(&id).await.len(), 2);
                left += 1;
            }
        }
    }
    assert!(left < COUNT, "something was purged");
    assert_eq!(purge_where(&client, "state=completed").await.expect(200).body["purged"], left);
    assert_eq!(counted(&client, "workflow=guests").await, 0);
}

#[tokio::test]
async fn an_instance_is_restarted_with_its_input_under_the_same_a_made_or_a_chosen_id() {
    let host = Host::shared().await;
    let client = host.client();
    let id = fresh_id("again");
    let restart = async |body: &Value| client.post(&format!("/v1/instances/{id}/restart"), body).await;
    client.start(GUESTS, &id, &wait()).await.expect(202);
    assert_eq!(restart(&json!({})).await.expect(409).code(), "instance.running");
    let made = restart(&json!({ "new_id": true })).await.expect(202).body["id"].as_str().expect("an id").to_owned();
    assert_ne!(made, id);
    for id in [&id, &made] {
        client.signal(id, "go", &json!("now")).await.expect(202);
        assert_eq!(client.over(id).await["output"], json!(["now"]));
    }
    let same = restart(&json!({ "version": "1" })).await.expect(202);
    assert_eq!((&same.body["id"], &same.body["run"]), (&json!(id), &json!(2)));
    assert_eq!(same.header("location"), format!("/v1/instances/{id}"));
    let chosen = format!("{id}-chosen");
    let answer = restart(&json!({ "new_id": chosen })).await.expect(202);
    assert_eq!((&answer.body["id"], &answer.body["run"]), (&json!(chosen), &json!(1)));
    assert_eq!(client.status(&chosen).await["input"], wait());
    client.post(&format!("/v1/instances/{chosen}/terminate"), &json!({})).await.expect(202);
    assert_eq!(restart(&json!({ "new_id": chosen })).await.expect(409).code(), "instance.exists");
    assert_eq!(restart(&json!({ "version": "none" })).await.expect(404).code(), "workflow.not-found");
    assert_eq!(restart(&json!({ "new_id": false })).await.expect(409).code(), "instance.running");
    client.post("/v1/instances/no-such/restart", &json!({})).await.expect(404);
    client.signal(&id, "go", &json!(1)).await.expect(202);
    client.over(&id).await;
    let done = host.cli(&["instance", "restart", &id, "--version", "1", "--output", "json"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let started: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&started["id"], &started["run"]), (&json!(id), &json!(3)));
    let done = host.cli(&["instance", "restart", &id, "--new-id"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn what_was_kept_long_enough_is_dropped_and_what_is_to_be_kept_is_not() {
    let config = r#"
        [retention]
        completed-days = 0.00002
        terminated-days = 0.00002
        past-runs = 2
        first-after-seconds = 0
        every-seconds = 1
        [retention.workflows.job-with-callback]
        terminated-days = "keep"
    "#;
    let host = Host::with_guests(HostSettings { config: Some(config.to_owned()), ..HostSettings::default() }).await;
    let client = host.client();
    let job = json!({ "job": { "name": "n", "run_seconds": 1 }, "timeout_seconds": 1, "retry_limit": 1,
        "service_url": "http://127.0.0.1:9" });
    client.start("job-with-callback", "kept-by-name", &job).await.expect(202);
    let failure = json!({ "kind": "application", "code": "no", "message": "no", "retryable": false });
    client.start(GUESTS, "kept-failed", &json!({ "do": "fail", "failure": failure })).await.expect(202);
    client.start(GUESTS, "kept-open", &wait()).await.expect(202);
    client.start(GUESTS, "completed", &echo(1)).await.expect(202);
    client.start(GUESTS, "terminated", &wait()).await.expect(202);
    for id in ["kept-by-name", "terminated"] {
        client.post(&format!("/v1/instances/{id}/terminate"), &json!({})).await;
    }
    for id in ["completed", "terminated"] {
        eventually(&format!("{id} is dropped"), async || {
            match client.get(&format!("/v1/instances/{id}")).await.status {
                404 => Ok(()),
                status => Err(status),
            }
        })
        .await;
    }
    for id in ["kept-by-name", "kept-failed"] {
        assert!(is_over(&client.status(id).await["state"]), "{id} has ended and is there");
    }
    assert_eq!(client.status("kept-open").await["state"], "running");
}

#[tokio::test]
async fn of_an_instance_that_is_started_again_and_again_a_few_past_runs_are_kept() {
    let config = "[retention]\npast-runs = 2\n".to_owned();
    let host = Host::with_guests(HostSettings { config: Some(config), ..HostSettings::default() }).await;
    let client = host.client();
    for n in 1..=6 {
        client.start(GUESTS, "often", &echo(n)).await.expect(202);
        client.over("often").await;
    }
    let of_run = async |run: u32| client.get(&format!("/v1/instances/often/history?run={run}")).await.status;
    eventually("runs 1 to 3 are dropped", async || {
        let statuses = [of_run(1).await, of_run(2).await, of_run(3).await];
        if statuses == [404; 3] { Ok(()) } else { Err(format!("{statuses:?}")) }
    })
    .await;
    for run in 4..=6 {
        assert_eq!(of_run(run).await, 200, "run {run} is kept");
    }
    assert_eq!(client.status("often").await["output"], 6);
}
