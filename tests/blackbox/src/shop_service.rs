//! The shop of the sample `order-saga`, as a child process.

use crate::client::{answer, http_client};
use crate::process::Server;
use crate::programs::program;
use crate::wait::eventually;
use serde_json::Value;
use tempfile::TempDir;

/// A running shop. It ends when this is dropped.
#[derive(Debug)]
pub struct ShopService {
    url: String,
    http: reqwest::Client,
    _server: Server,
    _directory: TempDir,
}

impl ShopService {
    /// Starts one on a free port, with what it sells by itself and more arguments.
    pub fn start(arguments: &[&str]) -> ShopService {
        let directory = TempDir::with_prefix("shop-service-test-").expect("a temporary directory can be made");
        let arguments = ["--listen", "127.0.0.1:0"].iter().chain(arguments);
        let server = Server::start(&program("shop-service"), arguments, &directory.path().join("log"));
        let url = server.line("shop-service listening on ");
        ShopService { url, http: http_client(), _server: server, _directory: directory }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything in it, as it stands.
    pub async fn state(&self) -> Value {
        answer(self.http.get(format!("{}/state", self.url))).await.expect(200).body
    }

    /// The same once `done` holds of it.
    pub async fn state_when(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the shop {what}"), async || {
            let state = self.state().await;
            if done(&state) { Ok(state) } else { Err(state) }
        })
        .await
    }
}
