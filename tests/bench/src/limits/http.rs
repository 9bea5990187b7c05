//! Bare HTTP: hyper's server on loopback in a process of its own, with nothing behind it, and our client.

use crate::client::Conn;
use crate::load;
use crate::numbers::{Sorted, count, micros, per_one, per_second};
use crate::proc;
use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rehydrate_blackbox::process::Server;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;

/// What the server prints before its address.
const LISTENS: &str = "listens: ";

/// A body and an answer as short as those of a start.
const BODY: &str = r#"{"workflow":"bench","id":"w1-512-0000001","input":{"steps":10}}"#;
const ANSWER: &str = r#"{"id":"w1-512-0000001","run":1,"version":"1","created":true,"status_url":"/v1/instances/w1"}"#;

/// The server. It ends when this is dropped.
#[derive(Debug)]
pub struct BareHttp {
    server: Server,
    address: SocketAddr,
}

impl BareHttp {
    /// Starts it; its log goes into that directory.
    pub fn start(directory: &Path) -> anyhow::Result<BareHttp> {
        let this = std::env::current_exe().context("a running program has a path")?;
        let server = Server::start(&this, ["bare-http-server"], &directory.join("bare-http.log"));
        let address = server.line(LISTENS).parse().context("the bare server says where it listens")?;
        Ok(BareHttp { server, address })
    }

    /// Requests answered in a second, with that many connections.
    pub async fn requests_per_second(&self, concurrency: usize, length: Duration) -> anyhow::Result<f64> {
        let mut conns = Conn::open_many(self.address, concurrency).await?;
        let window = load::for_a_while(&mut conns, length / 5, length, request, async || Ok(())).await?;
        Ok(per_second(count(window.times.len()), window.length))
    }

    /// Microseconds of CPU time of a request and its answer, on both sides together, with that many connections.
    pub async fn cpu_per_request(&self, concurrency: usize, length: Duration) -> anyhow::Result<f64> {
        let mut conns = Conn::open_many(self.address, concurrency).await?;
        let cpu = async || anyhow::Ok(proc::usage(self.server.pid())?.cpu + proc::own_cpu()?);
        let window = load::for_a_while(&mut conns, length / 5, length, request, cpu).await?;
        Ok(per_one(micros(window.after.saturating_sub(window.before)), count(window.times.len())))
    }

    /// The median time of a request and its answer while there are no others.
    pub async fn round_trip(&self, length: Duration) -> anyhow::Result<Duration> {
        let mut conns = [Conn::open(self.address).await?];
        let window = load::for_a_while(&mut conns, length / 5, length, request, async || Ok(())).await?;
        Sorted::new(window.times).percentile(50).context("the bare server answered something")
    }
}

async fn request(conn: &mut Conn, _index: u64) -> anyhow::Result<()> {
    conn.post("/v1/instances", BODY).await?.expect(202, "asking the bare server").map(drop)
}

/// The server's side. It never returns; the process that started it ends it.
pub fn serve() -> anyhow::Result<()> {
    // As the host's runtime is.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a free port")?;
        println!("{LISTENS}{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await.context("a connection can be accepted")?;
            stream.set_nodelay(true)?;
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            // A client that goes away is no error.
            tokio::spawn(async move { drop(serving.await) });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
