//! The job service of the sample, as a child process.

use crate::client::{Answer, answer, http_client};
use crate::process::Server;
use crate::programs::program;
use crate::wait::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running job service. It ends when this is dropped.
#[derive(Debug)]
pub struct JobService {
    url: String,
    http: reqwest::Client,
    _server: Server,
    _directory: TempDir,
}

impl JobService {
    /// Starts one on a free port.
    pub fn start() -> JobService {
        let directory = TempDir::with_prefix("job-service-test-").expect("a temporary directory can be made");
        let arguments = ["--listen", "127.0.0.1:0"];
        let server = Server::start(&program("job-service"), arguments, &directory.path().join("log"));
        let url = server.line("job-service listening on ");
        JobService { url, http: http_client(), _server: server, _directory: directory }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Submits a job as the sample would.
    pub async fn submit(&self, job: &Value, token: &str, callback_url: &str) -> Answer {
        let body = json!({ "job": job, "idempotency_token": token, "callback_url": callback_url });
        answer(self.http.post(format!("{}/api/2.1/jobs/runs/submit", self.url)).json(&body)).await
    }

    /// All runs, oldest first.
    pub async fn runs(&self) -> Vec<Value> {
        let answer = self.get("/api/2.1/jobs/runs/list?limit=1000").await.expect(200);
        let mut runs = answer.body["runs"].as_array().expect("the list has runs").clone();
        runs.reverse();
        runs
    }

    /// Everything that happened, oldest first.
    pub async fn ledger(&self) -> Vec<Value> {
        let answer = self.get("/api/ledger").await.expect(200);
        answer.body["entries"].as_array().expect("the ledger has entries").clone()
    }

    /// The statuses that the webhooks of run `index` (from 0) were answered, once there are `count`.
    pub async fn webhook_statuses(&self, index: usize, count: usize) -> Vec<Value> {
        eventually(&format!("run {index} has {count} webhook answers"), async || {
            let runs = self.runs().await;
            let callbacks = runs.get(index).and_then(|run| run["callbacks"].as_array()).cloned().unwrap_or_default();
            let statuses: Vec<Value> = callbacks.iter().map(|callback| callback["status"].clone()).collect();
            if statuses.len() >= count { Ok(statuses) } else { Err(format!("{statuses:?}")) }
        })
        .await
    }
}
