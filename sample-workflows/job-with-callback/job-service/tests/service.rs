//! The whole service over HTTP, against a small real receiver of webhooks.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use job_service::api::{Service, serve};
use job_service::webhook::RetryLimits;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// What the receiver got, and what it still has to answer (202 once that is used up).
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(String, String)>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    async fn listen(&self, address: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(receive).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn got(&self) -> Vec<(String, String)> {
        self.got.lock().unwrap().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, uri: Uri, body: Bytes) -> StatusCode {
    let body = String::from_utf8_lossy(&body).into_owned();
    receiver.got.lock().unwrap().push((uri.path().to_owned(), body));
    let status = receiver.answers.lock().unwrap().pop_front().unwrap_or(202);
    StatusCode::from_u16(status).unwrap()
}

struct Fixture {
    url: String,
    client: reqwest::Client,
    receiver: Receiver,
    callback_url: String,
}

async fn fixture() -> Fixture {
    let limits = RetryLimits { first_delay: Duration::from_millis(20), ..RetryLimits::default() };
    let service = Service::new(limits).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, service));
    let receiver = Receiver::default();
    let address = receiver.listen("127.0.0.1:0".parse().unwrap()).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Fixture { url, client, receiver, callback_url: format!("http://{address}/callbacks/abc") }
}

impl Fixture {
    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let sent = self.client.post(format!("{}{path}", self.url)).json(&body).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let sent = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap())
    }

    async fn submit(&self, job: Value, token: &str) -> (u16, Value) {
        let body = json!({ "job": job, "idempotency_token": token, "callback_url": self.callback_url });
        self.post("/api/2.1/jobs/runs/submit", body).await
    }

    /// The run once `done` holds of it.
    async fn run_when(&self, id: &Value, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, run) = self.get(&format!("/api/2.1/jobs/runs/get?run_id={id}")).await;
            if done(&run) {
                return run;
            }
            assert!(Instant::now() < deadline, "waited too long; the run is {run}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn callbacks(run: &Value) -> Vec<Value> {
    run["callbacks"].as_array().unwrap().iter().map(|callback| callback["status"].clone()).collect()
}

#[tokio::test]
async fn a_job_runs_and_calls_back() {
    let f = fixture().await;
    let (status, submitted) = f.submit(json!({"name": "report", "run_seconds": 0.05, "result": [1, 2]}), "t/1").await;
    assert_eq!(status, 200);
    let run = f.run_when(&submitted["run_id"], |run| !callbacks(run).is_empty()).await;
    assert_eq!(run["state"]["life_cycle_state"], "TERMINATED");
    assert_eq!(run["state"]["result_state"], "SUCCESS");
    assert!(run["end_time"].as_u64() >= run["start_time"].as_u64().map(|start| start + 50));
    let got = f.receiver.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].0, "/callbacks/abc");
    let body: Value = serde_json::from_str(&got[0].1).unwrap();
    assert_eq!((&body["state"], &body["result"]), (&json!("SUCCESS"), &json!([1, 2])));
}

#[tokio::test]
async fn an_early_job_has_called_back_before_its_submission_is_answered() {
    let f = fixture().await;
    let (status, _) = f.submit(json!({"behaviour": "early", "run_seconds": 600}), "t/1").await;
    assert_eq!((status, f.receiver.got().len()), (200, 1));
}

#[tokio::test]
async fn a_slow_answer_comes_after_the_run_has_begun() {
    let f = fixture().await;
    let begun = Instant::now();
    let (status, submitted) = f.submit(json!({"behaviour": {"kind": "slow", "delay_seconds": 0.3}}), "t/1").await;
    assert_eq!(status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    f.run_when(&submitted["run_id"], |run| callbacks(run) == [json!(202)]).await;
}

#[tokio::test]
async fn a_receiver_that_is_down_gets_the_webhook_when_it_is_back() {
    let mut f = fixture().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    f.callback_url = format!("http://{free}/callbacks/abc");
    let (_, submitted) = f.submit(json!({}), "t/1").await;
    f.run_when(&submitted["run_id"], |run| callbacks(run).contains(&Value::Null)).await;
    f.receiver.listen(free).await;
    let run = f.run_when(&submitted["run_id"], |run| callbacks(run).contains(&json!(202))).await;
    let attempts: Vec<_> = run["callbacks"].as_array().unwrap().iter().map(|c| c["attempt"].as_u64()).collect();
    assert_eq!(attempts, (1..=attempts.len() as u64).map(Some).collect::<Vec<_>>());
    assert_eq!(f.receiver.got().len(), 1);
}

#[tokio::test]
async fn a_webhook_is_tried_again_after_429_and_5xx_and_not_after_410() {
    let f = fixture().await;
    f.receiver.answers.lock().unwrap().extend([503, 429, 410]);
    let (_, submitted) = f.submit(json!({"behaviour": "twice"}), "t/1").await;
    let run = f.run_when(&submitted["run_id"], |run| callbacks(run).len() == 4).await;
    assert_eq!(callbacks(&run), [json!(503), json!(429), json!(410), json!(202)]);
    let deliveries: Vec<_> = run["callbacks"].as_array().unwrap().iter().map(|c| c["delivery"].clone()).collect();
    assert_eq!(deliveries, [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_cancelled_job_never_calls_back() {
    let f = fixture().await;
    let (_, submitted) = f.submit(json!({"run_seconds": 0.2}), "t/1").await;
    let (status, _) = f.post("/api/2.1/jobs/runs/cancel", json!({"idempotency_token": "t/1"})).await;
    assert_eq!(status, 200);
    // A second job, submitted later and just as long, is over: so the first one's time has passed too.
    let (_, second) = f.submit(json!({"run_seconds": 0.3}), "t/2").await;
    f.run_when(&second["run_id"], |run| callbacks(run) == [json!(202)]).await;
    assert_eq!(f.receiver.got().len(), 1);
    let run = f.run_when(&submitted["run_id"], |_| true).await;
    assert_eq!(run["state"]["result_state"], "CANCELED");
}

#[tokio::test]
async fn errors_are_answered_as_told() {
    let f = fixture().await;
    assert_eq!(f.submit(json!({"name": "a", "behaviour": "error-500"}), "t/1").await.0, 500);
    let body = json!({"job": {"name": "b", "behaviour": "error-429"}, "idempotency_token": "t/1"});
    let url = format!("{}/api/2.1/jobs/runs/submit", f.url);
    let first = f.client.post(&url).json(&body).send().await.unwrap();
    assert_eq!((first.status().as_u16(), first.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(f.client.post(&url).json(&body).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_reason() {
    let f = fixture().await;
    let (status, error) = f.submit(json!({"behaviour": "sometimes"}), "t/1").await;
    assert_eq!((status, &error["error_code"]), (400, &json!("INVALID_PARAMETER_VALUE")));
    let (status, error) = f.post("/api/2.1/jobs/runs/submit", json!({"jobs": 1})).await;
    assert_eq!((status, &error["error_code"]), (400, &json!("MALFORMED_REQUEST")));
    assert_eq!(f.get("/api/2.1/jobs/runs/get?run_id=77").await.0, 404);
    assert_eq!(f.get("/api/2.1/jobs/runs/get").await.0, 400);
    assert_eq!(f.post("/api/2.1/jobs/runs/cancel", json!({"run_id": 77})).await.0, 404);
}

#[tokio::test]
async fn the_list_is_newest_first_and_paged_and_the_ledger_has_everything() {
    let f = fixture().await;
    for n in 1..=3 {
        f.submit(json!({"behaviour": "never"}), &format!("t/{n}")).await;
    }
    let (_, page) = f.get("/api/2.1/jobs/runs/list?limit=2").await;
    let ids: Vec<_> = page["runs"].as_array().unwrap().iter().map(|run| run["run_id"].clone()).collect();
    assert_eq!((ids, &page["has_more"]), (vec![json!(3), json!(2)], &json!(true)));
    let (_, rest) = f.get("/api/2.1/jobs/runs/list?limit=2&before=2").await;
    assert_eq!((&rest["runs"][0]["run_id"], &rest["has_more"]), (&json!(1), &json!(false)));
    f.post("/api/2.1/jobs/runs/cancel", json!({"run_id": 2})).await;
    let (_, ledger) = f.get("/api/ledger?run_id=2").await;
    let kinds: Vec<_> = ledger["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["submission", "cancel"]);
}
