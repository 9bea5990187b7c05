//! The samples, as their READMEs say to run them, against what they talk to.

use rehydrate_blackbox::programs::component;
use rehydrate_blackbox::sink::Reply;
use rehydrate_blackbox::{Client, Host, HostSettings, JobService, ShopService, Sink, history};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Names under which the samples are deployed, and their files.
const SAMPLES: [(&str, &str); 7] = [
    ("sample-activities", "sample_activities"),
    ("order-saga", "order_saga"),
    ("chaining", "chaining"),
    ("fan-out-fan-in", "fan_out_fan_in"),
    ("async-http", "async_http"),
    ("monitor", "monitor"),
    ("human-interaction", "human_interaction"),
];

async fn deploy(host: &Host) {
    let client = host.client();
    for (name, file) in SAMPLES {
        client.deploy(name, "1", &component(file)).await.expect(201);
    }
}

/// A client of the host that all tests share, once it has the samples.
async fn client() -> Client {
    static DEPLOYED: OnceCell<()> = OnceCell::const_new();
    let host = Host::shared().await;
    DEPLOYED.get_or_init(|| deploy(host)).await;
    host.client()
}

async fn cancel(client: &Client, id: &str, reason: &str) {
    client.post(&format!("/v1/instances/{id}/cancel"), &json!({ "reason": reason })).await.expect(202);
}

/// Everything that is right for the shop as it starts, with one thing that is different.
fn order(shop_url: &str, different: Value) -> Value {
    let mut order = json!({
        "shop_url": shop_url, "sku": "teapot", "count": 2, "card": "visa-1", "cents": 4200, "address": "Bern",
    });
    for (field, value) in different.as_object().into_iter().flatten() {
        order[field] = value.clone();
    }
    order
}

/// A shop that ships nothing, and answers a request to refund with what `refund` gives, the n-th time from 1.
async fn shop_that_ships_nothing(refund: impl Fn(u32) -> Reply + Send + Sync + 'static) -> Sink {
    let refunds = AtomicU32::new(0);
    Sink::answering(move |request| match (request.method.as_str(), request.path.split('/').nth(1)) {
        ("PUT", Some("shipments")) => Reply::json(422, &json!({ "code": "no-van", "message": "the van is broken" })),
        ("DELETE", Some("charges")) => refund(refunds.fetch_add(1, Ordering::SeqCst) + 1),
        _ => Reply::json(200, &json!({})),
    })
    .await
}

/// What a shop was asked for, without the name of the order.
fn asked(shop: &Sink) -> Vec<String> {
    let received = shop.received();
    let what = received.iter().map(|one| format!("{} {}", one.method, one.path.split('/').nth(1).unwrap_or_default()));
    what.collect()
}

#[tokio::test]
async fn an_order_is_reserved_charged_and_shipped() {
    let (client, shop) = (client().await, ShopService::start(&[]));
    let id = client.started("order-saga", &order(shop.url(), json!({}))).await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["custom_status"]), (&json!("completed"), &json!("shipped")), "{status:#}");
    let name = status["output"]["order"].as_str().expect("the output names the order");
    let state = shop.state().await;
    assert_eq!((&state["stock"]["teapot"], &state["balances"]["visa-1"]), (&json!(3), &json!(5800)));
    assert_eq!(state["shipments"], json!({ name: { "address": "Bern" } }));
}

#[tokio::test]
async fn an_order_that_fails_at_any_step_leaves_the_shop_as_it_was() {
    let (client, shop) = (client().await, ShopService::start(&[]));
    let before = shop.state().await;
    let cases = [
        (json!({ "count": 6 }), "out-of-stock", 1),
        (json!({ "cents": 10_001 }), "card-declined", 2),
        (json!({ "address": "Mars" }), "address-not-served", 3),
    ];
    for (different, code, steps) in cases {
        let id = client.started("order-saga", &order(shop.url(), different)).await;
        let status = client.over(&id).await;
        assert_eq!((&status["state"], &status["failure"]["code"]), (&json!("failed"), &json!(code)), "{status:#}");
        assert_eq!(shop.state().await, before, "{code}");
        let history = client.history(&id).await;
        assert_eq!(history::count(&history, "ActivityScheduled"), steps * 2, "{code}");
        assert_eq!(history::check(&history), Ok(()));
    }
}

#[tokio::test]
async fn an_order_cancelled_while_it_is_packed_is_called_back_and_paid_back() {
    let (client, shop) = (client().await, ShopService::start(&["--packing-seconds", "600"]));
    let before = shop.state().await;
    let id = client.started("order-saga", &order(shop.url(), json!({}))).await;
    shop.state_when("packs", |state| state["shipments"] != json!({})).await;
    cancel(&client, &id, "changed my mind").await;
    let status = client.over(&id).await;
    assert_eq!(status["state"], "cancelled", "{status:#}");
    assert_eq!(status["failure"]["message"], "changed my mind");
    assert_eq!(shop.state().await, before);
}

#[tokio::test]
async fn a_refund_that_is_refused_is_told_beside_the_cause_and_the_goods_go_back() {
    let client = client().await;
    let shop =
        shop_that_ships_nothing(|_| Reply::json(403, &json!({ "code": "no-refunds", "message": "never" }))).await;
    let id = client.started("order-saga", &order(shop.url(), json!({}))).await;
    let status = client.over(&id).await;
    let failure = &status["failure"];
    assert_eq!(
        (&status["state"], &failure["code"]),
        (&json!("failed"), &json!("saga.compensation-failed")),
        "{status:#}"
    );
    let details = &failure["details"];
    assert_eq!((&details["cause"]["code"], &details["undone"]), (&json!("no-van"), &json!(["ship", "reserve"])));
    let failed = &details["failed"][0];
    assert_eq!((&failed["step"], &failed["failure"]["code"]), (&json!("charge"), &json!("no-refunds")));
    assert_eq!(asked(&shop).last().map(String::as_str), Some("DELETE reservations"));
}

/// The first refund is answered after ten minutes, the others at once.
fn slow_at_first(refund: u32) -> Reply {
    let delay = if refund == 1 { 600 } else { 0 };
    Reply::json(200, &json!({})).after(Duration::from_secs(delay))
}

#[tokio::test]
async fn a_host_killed_while_it_undoes_an_order_goes_on_where_it_was() {
    let mut host = Host::start(HostSettings::default());
    deploy(&host).await;
    let client = host.client();
    let shop = shop_that_ships_nothing(slow_at_first).await;
    let id = client.started("order-saga", &order(shop.url(), json!({}))).await;
    shop.received_when("a refund", |one| one.method == "DELETE" && one.path.starts_with("/charges")).await;
    host.kill();
    host.restart();
    let status = client.over(&id).await;
    assert_eq!(status["failure"]["code"], "no-van", "{status:#}");
    let expected = [
        "PUT reservations",
        "PUT charges",
        "PUT shipments",
        "DELETE shipments",
        "DELETE charges",
        "DELETE charges",
        "DELETE reservations",
    ];
    assert_eq!(asked(&shop), expected);
    assert_eq!(history::check(&client.history(&id).await), Ok(()));
}

#[tokio::test]
async fn a_request_to_cancel_does_not_keep_an_order_from_being_undone() {
    let client = client().await;
    let shop = shop_that_ships_nothing(slow_at_first).await;
    let id = client.started("order-saga", &order(shop.url(), json!({}))).await;
    shop.received_when("a refund", |one| one.method == "DELETE" && one.path.starts_with("/charges")).await;
    cancel(&client, &id, "too late").await;
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["failure"]["code"]), (&json!("failed"), &json!("no-van")), "{status:#}");
    assert_eq!(asked(&shop)[3..], ["DELETE shipments", "DELETE charges", "DELETE charges", "DELETE reservations"]);
}

/// A site whose page `/3` has the words `word word word`; others than numbers are missing, and `/0` is at first.
async fn pages() -> Sink {
    let asked_for_zero = AtomicU32::new(0);
    Sink::answering(move |request| match request.path.trim_start_matches('/').parse::<usize>() {
        Ok(0) if asked_for_zero.fetch_add(1, Ordering::SeqCst) == 0 => Reply::json(503, &json!("not yet")),
        Ok(words) => Reply { body: vec!["word"; words].join(" "), ..Reply::json(200, &json!(null)) },
        Err(_) => Reply::json(404, &json!("there is no such page")),
    })
    .await
}

#[tokio::test]
async fn chaining_hands_each_output_to_the_next_activity() {
    let (client, site) = (client().await, pages().await);
    let id = client.started("chaining", &json!(format!("{}/7", site.url()))).await;
    let status = client.over(&id).await;
    assert_eq!(status["output"], "7 words; most frequent: word (7)", "{status:#}");
    let names: Vec<_> = status["activities"].as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["page.fetch", "page.count-words", "page.report"]);
}

#[tokio::test]
async fn a_chain_ends_with_the_failure_of_its_link_and_survives_one_that_passes() {
    let (client, site) = (client().await, pages().await);
    let id = client.started("chaining", &json!(format!("{}/missing", site.url()))).await;
    assert_eq!(client.over(&id).await["failure"]["code"], "http.status-404");
    let id = client.started("chaining", &json!(format!("{}/0", site.url()))).await;
    assert_eq!(client.over(&id).await["output"], "0 words");
    assert_eq!(site.received_at("/0").len(), 2);
}

#[tokio::test]
async fn fan_out_fan_in_sums_up_what_it_can_have_and_tells_of_the_rest() {
    let (client, site) = (client().await, pages().await);
    let urls: Vec<String> =
        (1..=20).map(|n| format!("{}/{n}", site.url())).chain([format!("{}/x", site.url())]).collect();
    let id = client.started("fan-out-fan-in", &json!(urls)).await;
    let status = client.over(&id).await;
    let output = &status["output"];
    assert_eq!(output["words"], (1..=20).sum::<u32>(), "{status:#}");
    assert_eq!((&output["pages"][19]["words"], &output["pages"][19]["url"]), (&json!(20), &json!(urls[19])));
    assert_eq!(output["pages"][20]["failure"]["code"], "http.status-404");
    let names = history::names(&client.history(&id).await);
    assert!(names[1..22].iter().all(|name| name == "ActivityScheduled"), "all at once: {names:?}");
}

/// Starts `async-http` over two pages, waiting for its result as long as told.
async fn start_async(
    client: &Client,
    site: &Sink,
    pause_seconds: u32,
    wait_seconds: f64,
) -> rehydrate_blackbox::Answer {
    let urls = [3, 4].map(|n| format!("{}/{n}", site.url()));
    let request = json!({ "workflow": "async-http", "input": { "urls": urls, "pause_seconds": pause_seconds } });
    client.post(&format!("/v1/instances?wait_seconds={wait_seconds}"), &request).await
}

#[tokio::test]
async fn an_operation_that_is_quick_is_answered_at_once() {
    let (client, site) = (client().await, pages().await);
    let result = start_async(&client, &site, 0, 30.0).await.expect(200).body;
    assert_eq!(result["state"], "completed", "{result:#}");
    let bytes = "word word word".len() + "word word word word".len();
    assert_eq!(result["output"], json!({ "pages": 2, "words": 7, "bytes": bytes }));
}

#[tokio::test]
async fn an_operation_that_takes_longer_is_looked_at_and_waited_for() {
    let (client, site) = (client().await, pages().await);
    let accepted = start_async(&client, &site, 5, 0.01).await.expect(202);
    let location = accepted.header("location").to_owned();
    let id = accepted.body["id"].as_str().expect("the answer has the id").to_owned();
    assert_eq!(location, format!("/v1/instances/{id}"));
    client.waiting(&id, "timer").await;
    let status = client.get(&location).await.expect(200).body;
    assert_eq!((&status["state"], &status["custom_status"]["of"]), (&json!("running"), &json!(2)), "{status:#}");
    let result = format!("{location}/result");
    client.get(&result).await.expect(202);
    let result = client.get(&format!("{result}?wait_seconds=60")).await.expect(200).body;
    assert_eq!((&result["state"], &result["output"]["words"]), (&json!("completed"), &json!(7)), "{result:#}");
}

/// Watches a run of the job service until it has ended.
fn watch(service: &JobService, run_id: &Value, deadline_seconds: f64) -> Value {
    json!({
        "url": format!("{}/api/2.1/jobs/runs/get?run_id={run_id}", service.url()),
        "pointer": "/state/life_cycle_state",
        "expected": "TERMINATED",
        "first_interval_seconds": 0.1,
        "longest_interval_seconds": 0.5,
        "deadline_seconds": deadline_seconds,
    })
}

async fn submit(service: &JobService, webhooks: &Sink, job: Value) -> Value {
    service.submit(&job, "monitor/1", webhooks.url()).await.expect(200).body["run_id"].clone()
}

#[tokio::test]
async fn a_monitor_ends_when_the_job_it_watches_has_ended() {
    let (client, service, webhooks) = (client().await, JobService::start(), Sink::start().await);
    let run_id = submit(&service, &webhooks, json!({ "run_seconds": 1.5 })).await;
    let id = client.started("monitor", &watch(&service, &run_id, 300.0)).await;
    let status = client.over(&id).await;
    assert_eq!(status["state"], "completed", "{status:#}");
    let history = client.history(&id).await;
    let checks = status["output"]["checks"].as_u64().expect("the output counts the checks");
    assert!(checks > 2, "{status:#}");
    assert_eq!(history::count(&history, "TimerFired") as u64, checks - 1);
}

#[tokio::test]
async fn a_monitor_gives_up_at_its_deadline_and_says_what_it_saw() {
    let (client, service, webhooks) = (client().await, JobService::start(), Sink::start().await);
    let run_id = submit(&service, &webhooks, json!({ "run_seconds": 600 })).await;
    let id = client.started("monitor", &watch(&service, &run_id, 0.5)).await;
    let status = client.over(&id).await;
    let failure = &status["failure"];
    assert_eq!((&status["state"], &failure["kind"]), (&json!("failed"), &json!("timed-out")), "{status:#}");
    assert_eq!(failure["details"]["seen"], "RUNNING");
}

/// Asks ann for that long, then bob for ten minutes.
fn approval(inbox: &Sink, ann_seconds: f64) -> Value {
    let approver = |name: &str, seconds: f64| json!({ "name": name, "notify_url": format!("{}/{name}", inbox.url()), "wait_seconds": seconds });
    json!({ "request": { "cents": 120_000 }, "approvers": [approver("ann", ann_seconds), approver("bob", 600.0)] })
}

#[tokio::test]
async fn an_approver_who_is_asked_decides() {
    let (client, inbox) = (client().await, Sink::start().await);
    let id = client.started("human-interaction", &approval(&inbox, 600.0)).await;
    let told = inbox.received_when("a request for ann", |one| one.path == "/ann").await;
    assert_eq!((&told.body["instance"], &told.body["request"]["cents"]), (&json!(id), &json!(120_000)));
    let decision = |by: &str| json!({ "by": by, "approved": false, "comment": "too much" });
    // bob was not asked yet: his decision does not count.
    client.signal(&id, "decision", &decision("bob")).await.expect(202);
    client.signal(&id, "decision", &decision("ann")).await.expect(202);
    let status = client.over(&id).await;
    assert_eq!((&status["state"], &status["output"]), (&json!("completed"), &decision("ann")), "{status:#}");
    assert_eq!(inbox.received_at("/bob").len(), 0);
}

#[tokio::test]
async fn who_does_not_decide_in_time_is_passed_over() {
    let (client, inbox) = (client().await, Sink::start().await);
    let id = client.started("human-interaction", &approval(&inbox, 0.5)).await;
    inbox.received_when("a request for bob", |one| one.path == "/bob").await;
    let status = client.waiting(&id, "signal").await;
    assert_eq!(status["custom_status"]["asked"], json!(["ann", "bob"]), "{status:#}");
    let decision = json!({ "by": "bob", "approved": true, "comment": "" });
    client.signal(&id, "decision", &decision).await.expect(202);
    assert_eq!(client.over(&id).await["output"], decision);
}

#[tokio::test]
async fn a_host_killed_while_a_person_thinks_forgets_neither_question_nor_answer() {
    let mut host = Host::start(HostSettings::default());
    deploy(&host).await;
    let (client, inbox) = (host.client(), Sink::start().await);
    let id = client.started("human-interaction", &approval(&inbox, 600.0)).await;
    client.waiting(&id, "signal").await;
    host.kill();
    host.restart();
    let decision = json!({ "by": "ann", "approved": true, "comment": "" });
    client.signal(&id, "decision", &decision).await.expect(202);
    assert_eq!(client.over(&id).await["output"], decision);
    assert_eq!(inbox.received_at("/ann").len(), 1);
}
