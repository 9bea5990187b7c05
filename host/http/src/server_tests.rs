//! The server against raw sockets: timeouts, the cap and the drain.

use super::*;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const DEADLINE: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn server(limits: HttpLimits, router: Router) -> Server {
    let bound = Bound::admin("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    Server::start(bound, limits, move |_| router)
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.local_addr()).await.expect("a connection")
}

/// What comes until the server closes.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    read.expect("the server closes in time").expect("no reset");
    String::from_utf8(bytes).expect("text")
}

/// Reads until `end` came.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.ends_with(end) {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.expect("more");
            text.push(char::from(byte[0]));
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("an answer in time");
    text
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let limits = HttpLimits { head: Duration::from_millis(50), ..HttpLimits::default() };
    let server = server(limits, hello()).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.expect("sent");
    let answer = read_to_end(&mut stream).await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_idles_after_an_answer_is_closed() {
    let limits = HttpLimits { head: Duration::from_millis(50), ..HttpLimits::default() };
    let server = server(limits, hello()).await;
    let mut stream = connect(&server).await;
    stream.write_all(GET).await.expect("sent");
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("hello"), "{answer}");
}

#[tokio::test]
async fn a_connection_over_the_cap_is_served_when_a_place_is_free() {
    let server = server(HttpLimits { connections: 1, ..HttpLimits::default() }, hello()).await;
    let mut first = connect(&server).await;
    first.write_all(GET).await.expect("sent");
    read_until(&mut first, "hello").await;
    let mut second = connect(&server).await;
    second.write_all(GET).await.expect("sent");
    let waits = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
    assert!(waits.is_err(), "the second connection is answered while the first has the only place");
    drop(first);
    read_until(&mut second, "hello").await;
}

#[tokio::test]
async fn a_drain_lets_a_request_finish_and_closes_idle_connections() {
    let (begun, mut has_begun) = tokio::sync::mpsc::channel::<()>(1);
    let go = Arc::new(tokio::sync::Notify::new());
    let slow = {
        let go = Arc::clone(&go);
        move || async move {
            begun.send(()).await.expect("the test listens");
            go.notified().await;
            "late"
        }
    };
    let server = server(HttpLimits::default(), hello().route("/slow", get(slow))).await;
    let mut idle = connect(&server).await;
    idle.write_all(GET).await.expect("sent");
    read_until(&mut idle, "hello").await;
    let mut busy = connect(&server).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    has_begun.recv().await.expect("the request is under way");

    let address = server.local_addr();
    let draining = tokio::spawn(server.drain(DEADLINE));
    assert_eq!(read_to_end(&mut idle).await, "", "the idle connection is closed");
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is accepted");
    go.notify_one();
    assert!(read_to_end(&mut busy).await.ends_with("late"));
    assert!(draining.await.expect("drained"), "all had their answers");
}

#[tokio::test]
async fn a_drain_gives_up_after_its_grace() {
    let server = server(HttpLimits::default(), hello().route("/never", get(std::future::pending::<&str>))).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let mut other = connect(&server).await;
    other.write_all(GET).await.expect("sent");
    read_until(&mut other, "hello").await;
    assert!(!server.drain(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = server(HttpLimits::default(), hello()).await;
    let mut stream = connect(&server).await;
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    stream.write_all(head.as_bytes()).await.expect("sent");
    let status = read_until(&mut stream, "\r\n").await;
    assert!(status.contains("431"), "{status}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it_and_the_flag() {
    let bound = Bound::public("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let error = Bound::public(bound.local_addr()).await.expect_err("in use").to_string();
    assert!(error.contains(&bound.local_addr().to_string()) && error.contains("--public-listen"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_given_up_meanwhile_is_taken() {
    let first = Bound::public("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = first.local_addr();
    let second = tokio::spawn(Bound::public(address));
    tokio::task::yield_now().await;
    drop(first);
    assert_eq!(second.await.expect("a task").expect("bound").local_addr(), address);
}
