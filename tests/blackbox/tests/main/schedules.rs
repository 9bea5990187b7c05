//! Schedules: what is due is made once, whatever happens to the host, and as the policies say.

use crate::start::fresh_id;
use jiff::{SignedDuration, Timestamp};
use rehydrate_blackbox::client::{answer, is_over};
use rehydrate_blackbox::host::GUESTS;
use rehydrate_blackbox::{Answer, Client, Host, HostSettings, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn path(name: &str) -> String {
    format!("/v1/schedules/{name}")
}

/// What most schedules here do: an echo, every second.
fn every_second(changes: Value) -> Value {
    let mut body = json!({ "cron": "* * * * * *", "workflow": GUESTS, "input": { "do": "echo", "value": 1 } });
    let changes = changes.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(changes);
    body
}

fn waits_for_go() -> Value {
    json!({ "do": "signal", "name": "go", "count": 1 })
}

async fn put(client: &Client, name: &str, body: &Value) -> Answer {
    answer(client.admin(Method::PUT, &path(name)).json(body)).await
}

async fn show(client: &Client, name: &str) -> Value {
    client.get(&path(name)).await.expect(200).body
}

async fn delete(client: &Client, name: &str) {
    answer(client.admin(Method::DELETE, &path(name))).await.expect(204);
}

/// The schedule once `done` holds of it.
async fn when(client: &Client, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("schedule {name} {what}"), async || {
        let schedule = show(client, name).await;
        if done(&schedule) { Ok(schedule) } else { Err(schedule) }
    })
    .await
}

fn count(schedule: &Value, counter: &str) -> u64 {
    schedule[counter].as_u64().unwrap_or_else(|| panic!("{counter} of {schedule}"))
}

fn ids(schedule: &Value) -> Vec<String> {
    let running = schedule["running"].as_array().expect("a list");
    running.iter().map(|run| run["instance"].as_str().expect("an id").to_owned()).collect()
}

/// The instances of a schedule, oldest due time first.
async fn instances(client: &Client, name: &str) -> Vec<Value> {
    let listed = client.get(&format!("/v1/instances?id_prefix={name}-&limit=500")).await.expect(200).body;
    assert_eq!(listed["next_cursor"], Value::Null, "there is only one page");
    let mut instances = listed["instances"].as_array().expect("a list").clone();
    instances.sort_by_key(|instance| instance["id"].as_str().map(str::to_owned));
    instances
}

/// The due times in the ids of a schedule's instances, which must each have run once.
async fn due_times(client: &Client, name: &str) -> Vec<Timestamp> {
    let due = |instance: &Value| {
        assert_eq!(instance["run"], 1, "{instance}");
        let id = instance["id"].as_str().expect("an id");
        id.strip_prefix(&format!("{name}-")).expect("its prefix").parse().expect("a due time")
    };
    instances(client, name).await.iter().map(due).collect()
}

/// Passes when so much time has passed.
async fn passes(length: Duration) {
    let begun = Instant::now();
    eventually(&format!("{length:?} have passed"), async || match begun.elapsed() {
        passed if passed >= length => Ok(()),
        passed => Err(format!("{passed:?}")),
    })
    .await;
}

#[tokio::test]
async fn the_only_schedule_of_a_host_is_on_time() {
    let host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    put(&client, "lone", &every_second(json!({}))).await.expect(201);
    when(&client, "lone", "fires three times", |schedule| count(schedule, "fired") >= 3).await;
    delete(&client, "lone").await;
    for instance in instances(&client, "lone").await {
        let due = instance["id"].as_str().and_then(|id| id.strip_prefix("lone-")).expect("its prefix");
        let created: Timestamp = instance["created"].as_str().expect("a time").parse().expect("a time");
        let late = created.duration_since(due.parse().expect("a due time"));
        // Nothing else woke the host: one that sleeps too long is seconds late.
        assert!(late < SignedDuration::from_secs(1), "{late:?} late: {instance}");
    }
}

#[tokio::test]
async fn every_due_time_starts_one_instance_named_after_it() {
    let client = Host::shared().await.client();
    let name = fresh_id("fires");
    let before = Timestamp::now();
    let created = put(&client, &name, &every_second(json!({}))).await.expect(201).body;
    assert_eq!(created["next"].as_array().map(Vec::len), Some(5), "{created}");
    let schedule = when(&client, &name, "fires three times", |schedule| count(schedule, "fired") >= 3).await;
    delete(&client, &name).await;
    let due = due_times(&client, &name).await;
    assert!(due.len() >= 3, "{due:?}");
    assert!(due[0] > before && due[0].duration_since(before) <= SignedDuration::from_secs(2), "{due:?} after {before}");
    for pair in due.windows(2) {
        assert_eq!(pair[1].duration_since(pair[0]), SignedDuration::from_secs(1), "{due:?}");
    }
    for instance in instances(&client, &name).await {
        let status = client.over(instance["id"].as_str().expect("an id")).await;
        assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &json!(1)));
        let created: Timestamp = status["created"].as_str().expect("a time").parse().expect("a time");
        let due = status["id"].as_str().and_then(|id| id.strip_prefix(&format!("{name}-")));
        let due: Timestamp = due.expect("its prefix").parse().expect("a due time");
        assert!(created >= due, "never early: {status}");
    }
    assert_eq!(schedule["failed"], 0, "{schedule}");
}

#[tokio::test]
async fn skip_leaves_out_what_is_due_while_an_instance_runs() {
    let client = Host::shared().await.client();
    let name = fresh_id("skip");
    put(&client, &name, &every_second(json!({ "input": waits_for_go() }))).await.expect(201);
    let schedule = when(&client, &name, "skips twice", |schedule| count(schedule, "skipped") >= 2).await;
    assert_eq!((count(&schedule, "fired"), ids(&schedule).len()), (1, 1), "{schedule}");
    client.signal(&ids(&schedule)[0], "go", &json!(1)).await.expect(202);
    when(&client, &name, "fires again", |schedule| count(schedule, "fired") == 2).await;
    delete(&client, &name).await;
}

#[tokio::test]
async fn allow_starts_beside_what_runs() {
    let client = Host::shared().await.client();
    let name = fresh_id("allow");
    put(&client, &name, &every_second(json!({ "input": waits_for_go(), "overlap": "allow" }))).await.expect(201);
    let schedule = when(&client, &name, "runs three times", |schedule| ids(schedule).len() >= 3).await;
    assert_eq!(count(&schedule, "skipped"), 0, "{schedule}");
    delete(&client, &name).await;
    for id in ids(&schedule) {
        assert!(!is_over(&client.status(&id).await["state"]), "what a deleted schedule started goes on");
    }
}

#[tokio::test]
async fn buffer_one_starts_what_waited_as_soon_as_the_other_has_ended_also_across_a_kill() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    let body = json!({ "cron": "every 1s", "workflow": GUESTS, "input": waits_for_go(), "overlap": "buffer-one" });
    put(&client, "buffer", &body).await.expect(201);
    let schedule = when(&client, "buffer", "skips", |schedule| count(schedule, "skipped") >= 1).await;
    let waiting = schedule["waiting"].clone();
    assert!(waiting.is_string() && ids(&schedule).len() == 1, "{schedule}");
    host.kill();
    host.restart();
    let schedule = when(&client, "buffer", "is looked at", |schedule| count(schedule, "skipped") >= 2).await;
    assert_eq!(schedule["waiting"], waiting, "the first that was due keeps its place: {schedule}");
    client.signal(&ids(&schedule)[0], "go", &json!(1)).await.expect(202);
    let after = when(&client, "buffer", "fires again", |schedule| count(schedule, "fired") == 2).await;
    assert_eq!((&after["last"]["due"], ids(&after).len()), (&waiting, 1), "{after}");
}

#[tokio::test]
async fn cancel_other_lets_what_runs_clean_up_before_the_next_begins() {
    let client = Host::shared().await.client();
    let name = fresh_id("cancel");
    let input = json!({ "do": "cancel_cleanup", "activity": null, "ms": 300 });
    let body = json!({ "cron": "every 2s", "workflow": GUESTS, "input": input, "overlap": "cancel-other" });
    put(&client, &name, &body).await.expect(201);
    when(&client, &name, "fires twice", |schedule| count(schedule, "fired") >= 2).await;
    delete(&client, &name).await;
    let instances = instances(&client, &name).await;
    let first = client.over(instances[0]["id"].as_str().expect("an id")).await;
    assert_eq!(first["state"], "cancelled");
    assert!(first["custom_status"]["cleaned"].as_str().is_some_and(|reason| reason.contains(&name)), "{first}");
    assert!(first["updated"].as_str() <= instances[1]["created"].as_str(), "{first} {}", instances[1]);
}

#[tokio::test]
async fn terminate_other_ends_what_runs_at_once() {
    let client = Host::shared().await.client();
    let name = fresh_id("terminate");
    put(&client, &name, &every_second(json!({ "input": waits_for_go(), "overlap": "terminate-other" })))
        .await
        .expect(201);
    when(&client, &name, "fires three times", |schedule| count(schedule, "fired") >= 3).await;
    delete(&client, &name).await;
    let instances = instances(&client, &name).await;
    let (last, others) = instances.split_last().expect("instances");
    assert_eq!(last["state"], "running");
    assert!(others.iter().all(|instance| instance["state"] == "terminated"), "{instances:?}");
}

#[tokio::test]
async fn a_paused_schedule_is_not_due_and_what_it_left_out_is_not_made_later() {
    let client = Host::shared().await.client();
    let name = fresh_id("pause");
    put(&client, &name, &every_second(json!({ "overlap": "allow" }))).await.expect(201);
    when(&client, &name, "fires", |schedule| count(schedule, "fired") >= 1).await;
    let paused = client.post(&format!("{}/pause", path(&name)), &json!({ "note": "too loud" })).await.expect(200).body;
    assert_eq!((&paused["paused"], &paused["note"], &paused["next"]), (&json!(true), &json!("too loud"), &json!([])));
    let pause = Timestamp::now();
    passes(Duration::from_millis(2_500)).await;
    assert_eq!(show(&client, &name).await["fired"], paused["fired"]);
    let resume = Timestamp::now();
    let resumed = client.post(&format!("{}/resume", path(&name)), &json!({})).await.expect(200).body;
    assert_eq!((&resumed["paused"], &resumed["note"]), (&json!(false), &json!("too loud")));
    when(&client, &name, "fires again", |schedule| count(schedule, "fired") > count(&paused, "fired")).await;
    delete(&client, &name).await;
    let between: Vec<_> =
        due_times(&client, &name).await.into_iter().filter(|due| *due > pause && *due <= resume).collect();
    assert!(between.is_empty(), "{between:?} between {pause} and {resume}");
}

#[tokio::test]
async fn a_trigger_starts_at_once_even_if_it_is_paused_and_beside_what_runs() {
    let client = Host::shared().await.client();
    let name = fresh_id("trigger");
    let body = json!({ "cron": "@yearly", "workflow": GUESTS, "input": waits_for_go(), "paused": true });
    put(&client, &name, &body).await.expect(201);
    let mut started = Vec::new();
    for _ in 0..2 {
        let answer = client.post(&format!("{}/trigger", path(&name)), &json!({})).await.expect(202);
        assert_eq!(answer.body["created"], true);
        assert_eq!(answer.header("location"), answer.body["status_url"]);
        started.push(answer.body["id"].as_str().expect("an id").to_owned());
    }
    let schedule = show(&client, &name).await;
    assert_eq!((ids(&schedule), count(&schedule, "fired")), (started.clone(), 0), "{schedule}");
    assert_eq!((&schedule["last"]["due"], &schedule["last"]["instance"]), (&Value::Null, &json!(started[1])));
    delete(&client, &name).await;
    client.signal(&started[0], "go", &json!(1)).await.expect(202);
    assert_eq!(client.over(&started[0]).await["state"], "completed");
    for verb in ["pause", "resume", "trigger"] {
        let gone = client.post(&format!("{}/{verb}", path(&name)), &json!({})).await.expect(404);
        assert_eq!(gone.code(), "schedule.not-found");
    }
    assert_eq!(client.get(&path(&name)).await.expect(404).code(), "schedule.not-found");
}

#[tokio::test]
async fn a_schedule_is_over_after_its_end_and_may_be_put_again_all_the_same() {
    let client = Host::shared().await.client();
    let name = fresh_id("end");
    let end = Timestamp::from_second(Timestamp::now().as_second() + 3).expect("a time");
    let body = every_second(json!({ "end": end.to_string(), "overlap": "allow" }));
    put(&client, &name, &body).await.expect(201);
    let over = when(&client, &name, "is over", |schedule| schedule["next"] == json!([])).await;
    assert_eq!(put(&client, &name, &body).await.expect(200).body["updated"], over["updated"]);
    let last = when(&client, &name, "has fired", |schedule| schedule["last"]["due"].is_string()).await;
    assert!(last["last"]["due"].as_str().and_then(|due| due.parse().ok()).is_some_and(|due: Timestamp| due <= end));
    assert_eq!(
        put(&client, &name, &every_second(json!({ "end": end.to_string() }))).await.expect(400).code(),
        "schedule.never-due"
    );
    delete(&client, &name).await;
}

#[tokio::test]
async fn a_schedule_is_over_after_the_runs_it_was_given() {
    let client = Host::shared().await.client();
    let name = fresh_id("runs");
    put(&client, &name, &every_second(json!({ "remaining_runs": 2, "overlap": "allow" }))).await.expect(201);
    let schedule = when(&client, &name, "is over", |schedule| schedule["remaining_runs"] == 0).await;
    assert_eq!((count(&schedule, "fired"), &schedule["next"]), (2, &json!([])), "{schedule}");
    passes(Duration::from_millis(1_500)).await;
    assert_eq!(instances(&client, &name).await.len(), 2);
    delete(&client, &name).await;
}

#[tokio::test]
async fn the_same_put_again_changes_nothing_and_another_one_goes_on_counting() {
    let client = Host::shared().await.client();
    let name = fresh_id("put");
    let body = every_second(json!({ "catch_up": "latest", "overlap": "allow" }));
    put(&client, &name, &body).await.expect(201);
    let before = when(&client, &name, "fires", |schedule| count(schedule, "fired") >= 1).await;
    let same = put(&client, &name, &body).await.expect(200).body;
    assert_eq!((&same["updated"], &same["created"]), (&before["updated"], &before["created"]));
    let other = json!({ "cron": "30 2 * * *", "time_zone": "Europe/Stockholm", "workflow": GUESTS });
    let other = put(&client, &name, &other).await.expect(200).body;
    assert!(count(&other, "fired") >= count(&before, "fired") && other["updated"] != before["updated"], "{other}");
    assert_eq!((&other["overlap"], &other["catch_up"], &other["input"]), (&json!("skip"), &json!("all"), &Value::Null));
    assert_eq!(other["created"], before["created"]);
    delete(&client, &name).await;
}

#[tokio::test]
async fn across_kills_and_stops_every_due_time_is_made_once() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    put(&client, "kept", &every_second(json!({ "overlap": "allow", "catch_up_window_ms": 600_000 }))).await.expect(201);
    for round in 1..=8_u64 {
        if round % 3 == 0 {
            assert_eq!(host.stop(), 0);
        } else {
            host.kill();
        }
        host.restart();
        // It ends at another moment of the second each time.
        passes(Duration::from_millis(130 * round)).await;
    }
    let fired = count(&show(&client, "kept").await, "fired");
    let schedule = when(&client, "kept", "fires thrice more", |schedule| count(schedule, "fired") >= fired + 3).await;
    client.post(&format!("{}/pause", path("kept")), &json!({})).await.expect(200);
    let schedule = when(&client, "kept", "is paused", |now| count(now, "fired") >= count(&schedule, "fired")).await;
    let due = due_times(&client, "kept").await;
    for pair in due.windows(2) {
        assert_eq!(pair[1].duration_since(pair[0]), SignedDuration::from_secs(1), "none is missing: {due:?}");
    }
    assert_eq!(count(&schedule, "fired"), u64::try_from(due.len()).expect("a count"), "{schedule}");
    assert_eq!([count(&schedule, "skipped"), count(&schedule, "missed"), count(&schedule, "failed")], [0, 0, 0]);
    for instance in instances(&client, "kept").await {
        assert_eq!(client.over(instance["id"].as_str().expect("an id")).await["state"], "completed");
    }
}

#[tokio::test]
async fn an_instance_that_is_there_already_is_what_its_due_time_leads_to() {
    let client = Host::shared().await.client();
    let name = fresh_id("there");
    let due = Timestamp::from_second(Timestamp::now().as_second() + 3).expect("a time");
    let id = format!("{name}-{due}");
    client.start(GUESTS, &id, &json!({ "do": "echo", "value": "by hand" })).await.expect(202);
    client.over(&id).await;
    let body = json!({ "cron": "every 1h", "start": due.to_string(), "workflow": GUESTS, "input": waits_for_go() });
    let created = put(&client, &name, &body).await.expect(201).body;
    let first: Timestamp = created["next"][0].as_str().expect("a time").parse().expect("a time");
    assert_eq!(first, due, "{created}");
    let schedule = when(&client, &name, "fires", |schedule| count(schedule, "fired") == 1).await;
    assert_eq!((&schedule["last"]["instance"], ids(&schedule).len()), (&json!(id), 0), "{schedule}");
    let status = client.status(&id).await;
    assert_eq!((&status["run"], &status["output"]), (&json!(1), &json!("by hand")));
    delete(&client, &name).await;
}

#[tokio::test]
async fn after_an_outage_each_schedule_catches_up_as_it_was_told() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    for catch_up in ["all", "latest", "none"] {
        put(&client, catch_up, &every_second(json!({ "overlap": "allow", "catch_up": catch_up }))).await.expect(201);
        when(&client, catch_up, "fires", |schedule| count(schedule, "fired") >= 1).await;
    }
    host.kill();
    let down = Timestamp::now();
    passes(Duration::from_secs(9)).await;
    let up = Timestamp::now();
    host.restart();
    let mut made = Vec::new();
    for catch_up in ["all", "latest", "none"] {
        let back = |schedule: &Value| {
            let due: Option<Timestamp> = schedule["last"]["due"].as_str().and_then(|due| due.parse().ok());
            due.is_some_and(|due| due > up)
        };
        let schedule = when(&client, catch_up, "is back", back).await;
        let due = due_times(&client, catch_up).await;
        let during = due.iter().filter(|due| **due > down && **due < up - SignedDuration::from_secs(1)).count();
        made.push((catch_up, during, count(&schedule, "missed")));
    }
    let [(_, all, all_missed), (_, latest, latest_missed), (_, none, none_missed)] = made[..] else {
        panic!("{made:?}")
    };
    assert!(all >= 7 && all_missed == 0, "{made:?}");
    assert!(latest == 0 && latest_missed >= 7, "{made:?}");
    // Up to five seconds late is on time.
    assert!(none <= 5 && none_missed >= 2, "{made:?}");
}

#[tokio::test]
async fn a_start_that_fails_is_recorded_and_the_schedule_goes_on() {
    let mut host = Host::with_guests(HostSettings::default()).await;
    let client = host.client();
    put(&client, "full", &every_second(json!({}))).await.expect(201);
    host.kill();
    let config = Some("[runtime]\nfree-mb-min = 1000000000000\n".to_owned());
    host.restart_with(HostSettings { config, ..HostSettings::default() });
    let schedule = when(&client, "full", "fails twice", |schedule| count(schedule, "failed") >= 2).await;
    assert_eq!(schedule["last_error"]["code"], "host.disk-full", "{schedule}");
    assert!(schedule["last_error"]["message"].as_str().is_some_and(|text| text.contains("runtime.free-mb-min")));
    host.kill();
    host.restart_with(HostSettings::default());
    let fired = count(&schedule, "fired");
    when(&client, "full", "fires again", |schedule| count(schedule, "fired") > fired).await;
}

#[tokio::test]
async fn what_can_not_be_a_schedule_is_refused_with_the_reason() {
    let client = Host::shared().await.client();
    let name = fresh_id("bad");
    let with = |changes: Value| every_second(changes);
    let wrong = [
        (with(json!({ "cron": "61 * * * *" })), 400, "schedule.invalid-cron"),
        (with(json!({ "cron": "every 10ms" })), 400, "schedule.invalid-cron"),
        (with(json!({ "cron": "0 0 30 2 *" })), 400, "schedule.never-due"),
        (with(json!({ "end": "2020-01-01T00:00:00Z" })), 400, "schedule.never-due"),
        (with(json!({ "start": "tomorrow" })), 400, "schedule.invalid-time"),
        (with(json!({ "time_zone": "Mars/Olympus" })), 400, "schedule.invalid-time-zone"),
        (with(json!({ "catch_up_window_ms": 10 })), 400, "schedule.invalid-window"),
        (with(json!({ "jitter_ms": 90_000_000 })), 400, "schedule.invalid-jitter"),
        (with(json!({ "remaining_runs": 0 })), 400, "schedule.invalid-runs"),
        (with(json!({ "overlap": "sometimes" })), 400, "body.invalid"),
        (with(json!({ "crno": "x" })), 400, "body.invalid"),
        (with(json!({ "workflow": "nobody" })), 404, "workflow.not-found"),
        (with(json!({ "version": "0" })), 404, "workflow.not-found"),
    ];
    for (body, status, code) in wrong {
        let answer = put(&client, &name, &body).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {answer:?}");
    }
    let bad_name = put(&client, "a%20b", &every_second(json!({}))).await.expect(400);
    assert_eq!(bad_name.code(), "schedule.invalid-name");
    assert_eq!(client.get(&path(&name)).await.status, 404, "nothing was kept");
}

#[tokio::test]
async fn there_are_only_so_many_schedules_and_they_are_listed_in_pages() {
    let config = Some("[runtime]\nschedules-max = 3\n".to_owned());
    let mut host = Host::with_guests(HostSettings { config, ..HostSettings::default() }).await;
    let client = host.client();
    let body = json!({ "cron": "@yearly", "workflow": GUESTS });
    for name in ["b", "a", "c"] {
        put(&client, name, &body).await.expect(201);
    }
    host.kill();
    host.restart();
    let refused = put(&client, "d", &body).await.expect(409);
    assert_eq!(refused.code(), "limit.schedules-max");
    assert!(refused.body["detail"].as_str().is_some_and(|text| text.contains("runtime.schedules-max")), "{refused:?}");
    put(&client, "a", &json!({ "cron": "@monthly", "workflow": GUESTS })).await.expect(200);
    let names = |page: &Answer| -> Vec<String> {
        let schedules = page.body["schedules"].as_array().expect("a list");
        schedules.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    let page = client.get("/v1/schedules?limit=2").await.expect(200);
    assert_eq!((names(&page), &page.body["next_after"]), (vec!["a".to_owned(), "b".to_owned()], &json!("b")));
    let page = client.get("/v1/schedules?limit=2&after=b").await.expect(200);
    assert_eq!((names(&page), &page.body["next_after"]), (vec!["c".to_owned()], &Value::Null));
    delete(&client, "c").await;
    put(&client, "d", &body).await.expect(201);
}

#[tokio::test]
async fn the_command_line_does_it_all() {
    let host = Host::shared().await;
    let name = fresh_id("cli");
    let run = async |arguments: &[&str]| {
        let output = host.cli(arguments).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let input = waits_for_go().to_string();
    let put =
        ["schedule", "put", &name, GUESTS, "--cron", "0 2 * * mon-fri", "--time-zone", "Asia/Tokyo", "--input", &input];
    let (code, out, err) =
        run(&[&put[..], &["--overlap", "buffer-one", "--jitter", "1m 30s", "--note", "hello"]].concat()).await;
    assert!(code == Some(0) && out.starts_with(&format!("created {name}; due next at ")), "{out}{err}");
    let (_, out, _) = run(&["schedule", "show", &name]).await;
    for part in ["0 2 * * mon-fri", "Asia/Tokyo", "buffer-one", "up to 90 s later", "hello", "T17:00:00.000Z"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (_, out, _) = run(&["schedule", "trigger", &name]).await;
    assert!(out.starts_with(&format!("started {name}-trigger-")), "{out}");
    let (_, out, _) = run(&["schedule", "pause", &name, "--note", "holidays"]).await;
    assert!(out.contains("paused") && out.contains("holidays") && out.contains("running"), "{out}");
    let (_, out, _) = run(&["schedule", "list"]).await;
    assert!(out.lines().any(|line| line.starts_with(&name) && line.contains("paused")), "{out}");
    let (code, out, _) = run(&["schedule", "resume", &name, "--output", "json"]).await;
    let resumed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &resumed["paused"]), (Some(0), &json!(false)));
    let (code, ..) = run(&["schedule", "delete", &name]).await;
    assert_eq!(code, Some(0));
    let (code, _, err) = run(&["schedule", "show", &name]).await;
    assert!(code == Some(1) && err.contains("rehydrate schedule list"), "{err}");
}
