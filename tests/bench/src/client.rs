//! A client that costs little: it shares the machine with the host that it measures.
//!
//! One connection carries one request at a time and is kept. A request is one write, an answer mostly one read, and
//! nothing of it is parsed but the head and what the caller looks at. A client of hyper would take as long for a
//! request as the host.

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http::Method;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest an answer may take; longer than any wait that the host allows.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// The longest a connection on this machine may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Fields in the head of an answer, at most.
const FIELDS_MAX: usize = 32;

/// Room for what is read at once.
const READ_BYTES: usize = 8 << 10;

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
    stream: TcpStream,
    request: Vec<u8>,
    read: BytesMut,
}

impl Conn {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Conn> {
        Ok(Conn { address, stream: connect(address).await?, request: Vec::new(), read: BytesMut::new() })
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
        self.send(&Method::GET, path, &[]).await
    }

    /// POST of JSON.
    pub async fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> anyhow::Result<Answer> {
        self.send(&Method::POST, path, body.as_ref()).await
    }

    /// Sends a request and reads the answer to its end. A connection that the other side closed while nothing
    /// was under way is opened again first; a request is never sent twice.
    pub async fn send(&mut self, method: &Method, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        if self.is_closed() {
            self.stream = connect(self.address).await?;
        }
        let (address, length) = (self.address, body.len());
        self.request.clear();
        write!(
            self.request,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )?;
        self.request.extend_from_slice(body);
        let what = || format!("{} at {address}", path.split('?').next().unwrap_or_default());
        let answered = timeout(ANSWER_LIMIT, self.exchange()).await;
        answered.with_context(|| format!("no answer came from {} within {ANSWER_LIMIT:?}", what()))?.with_context(what)
    }

    /// Whether the other side has closed the connection, or has said something unasked, as it does before it closes.
    fn is_closed(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        !read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    async fn exchange(&mut self) -> anyhow::Result<Answer> {
        self.stream.write_all(&self.request).await.context("the request could not be sent")?;
        self.read.clear();
        let (status, head, length) = loop {
            self.read_more().await?;
            if let Some(found) = parse_head(&self.read)? {
                break found;
            }
        };
        while self.read.len() < head + length {
            self.read_more().await?;
        }
        Ok(Answer { status, body: Bytes::copy_from_slice(&self.read[head..head + length]) })
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.read.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.read).await.context("the answer could not be read")? {
            0 => bail!("the connection was closed before the answer's end"),
            _ => Ok(()),
        }
    }
}

/// Status, bytes of the head and bytes of the body of an answer whose head is there.
fn parse_head(read: &[u8]) -> anyhow::Result<Option<(u16, usize, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = answer.parse(read).context("the answer is not HTTP/1.1")? else {
        return Ok(None);
    };
    let status = answer.code.context("the answer has no status")?;
    let length = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some(field) => std::str::from_utf8(field.value)?.trim().parse().context("the answer has no sound length")?,
        None if status == 204 => 0,
        None => bail!("the answer does not say how long it is, which this client needs to know"),
    };
    Ok(Some((status, head, length)))
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let connecting = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream = connecting.with_context(|| format!("no connection to {address} within {CONNECT_LIMIT:?}"))?;
    let stream = stream.with_context(|| format!("can't connect to {address}"))?;
    stream.set_nodelay(true).context("a connection takes TCP_NODELAY")?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_parsed_once_it_is_whole() {
        let head = b"HTTP/1.1 202 Accepted\r\nServer: x\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(parse_head(&head[..head.len() - 1]).unwrap(), None);
        assert_eq!(parse_head(head).unwrap(), Some((202, head.len(), 12)));
        assert_eq!(parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some((204, 27, 0)));
    }

    #[test]
    fn what_this_client_can_not_read_is_an_error() {
        for head in ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(parse_head(head.as_bytes()).is_err(), "{head}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_is_opened_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = async {
            for body in ["one", "two"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(read > 0);
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let asking = async {
            let mut conn = Conn::open(address).await.unwrap();
            assert!(conn.get("/a").await.unwrap().has("one"));
            conn.stream.readable().await.unwrap();
            assert!(conn.post("/b", "{}").await.unwrap().has("two"));
        };
        tokio::join!(answering, asking);
    }
}
