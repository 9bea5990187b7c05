//! A client that costs little: it shares the machine with the host that it measures.
//!
//! One connection carries one request at a time and is kept. Nothing is parsed but what the caller looks at.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest an answer may take; longer than any wait that the host allows.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// The longest a connection on this machine may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether a text is in the body.
    pub fn has(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// The body's beginning, for errors.
    pub fn excerpt(&self) -> String {
        const BYTES: usize = 500;
        String::from_utf8_lossy(&self.body[..self.body.len().min(BYTES)]).into_owned()
    }

    /// This answer if it has that status; an error with what it says if not.
    pub fn expect(self, status: u16, what: &str) -> anyhow::Result<Answer> {
        if self.status != status {
            bail!("{what}: the host answered {} instead of {status}: {}", self.status, self.excerpt());
        }
        Ok(self)
    }
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    address: SocketAddr,
    host: HeaderValue,
    sender: SendRequest<Full<Bytes>>,
}

impl Conn {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Conn> {
        let host = HeaderValue::from_str(&address.to_string()).context("an address is a header's value")?;
        Ok(Conn { address, host, sender: connect(address).await? })
    }

    /// Connects that many times.
    pub async fn open_many(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Conn>> {
        let mut conns = Vec::with_capacity(count);
        for _ in 0..count {
            conns.push(Conn::open(address).await?);
        }
        Ok(conns)
    }

    /// GET.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// POST of JSON.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, body.into()).await
    }

    /// Sends a request and reads the answer to its end. A connection that the other side closed while nothing
    /// was under way is opened again first; a request is never sent twice.
    pub async fn send(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        if self.sender.ready().await.is_err() {
            self.sender = connect(self.address).await?;
        }
        let what = || format!("{} at {}", path.split('?').next().unwrap_or_default(), self.address);
        let uri: Uri = path.parse().with_context(|| format!("{path} is no path"))?;
        let request = Request::builder().method(method).uri(uri);
        let request = request.header(HOST, &self.host).header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(body)).context("a request can be made")?;
        let answering = async {
            let response = self.sender.send_request(request).await?;
            let status = response.status().as_u16();
            Ok::<_, hyper::Error>(Answer { status, body: response.into_body().collect().await?.to_bytes() })
        };
        let answered = timeout(ANSWER_LIMIT, answering).await;
        answered.with_context(|| format!("no answer came from {} within {ANSWER_LIMIT:?}", what()))?.with_context(what)
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let connecting = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream = connecting.with_context(|| format!("no connection to {address} within {CONNECT_LIMIT:?}"))?;
    let stream = stream.with_context(|| format!("can't connect to {address}"))?;
    stream.set_nodelay(true).context("a connection takes TCP_NODELAY")?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.context("a connection speaks HTTP/1.1")?;
    // Ends when the sender is dropped or the other side closes; whoever sends then is told.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
