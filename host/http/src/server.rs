//! Connections: accepted under a cap, served by hyper under timeouts, drained at the end.
//!
//! HTTP/1.1 only: one request at a time on a connection makes the cap on connections a cap on requests.

use crate::stall::WriteTimeout;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// How long accepting rests after an error such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long an address that is in use is tried again, and how often.
const BIND_PATIENCE: Duration = Duration::from_secs(2);
const BIND_REST: Duration = Duration::from_millis(50);

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Most bytes read at once; larger than a head, or hyper would give up on the head without an answer.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Connections open at once; more wait in the kernel's queue.
    pub connections: usize,
    /// How long a connection may go without a whole request head, be it idle or slow.
    pub head: Duration,
    /// How long a body may go without a byte.
    pub body_idle: Duration,
    /// How long a body may take in all; uploads of components have ten times that.
    pub body_total: Duration,
    /// How long an answer may wait for a peer that does not read.
    pub write: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            connections: 1024,
            head: Duration::from_secs(30),
            body_idle: Duration::from_secs(15),
            body_total: Duration::from_secs(60),
            write: Duration::from_secs(30),
        }
    }
}

/// Why a listener can't be.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can't be listened on.
    #[error("the {what} listener can't use {address}: {reason}; stop what uses it or choose another with {flag}")]
    Bind {
        /// `admin` or `public`.
        what: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        reason: io::Error,
    },
    /// The admin listener would be open to the network.
    #[error(
        "the admin listener at {address} can be reached from other machines and needs a token; give a file with one by \
         --admin-token-file, or listen on 127.0.0.1"
    )]
    TokenRequired {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The token is too easy to guess.
    #[error(
        "the admin token has {chars} characters; at least {min} are needed, for example from `openssl rand -hex 32`"
    )]
    TokenTooShort {
        /// How many it has.
        chars: usize,
        /// How many it needs.
        min: usize,
    },
}

/// An address that is listened on; connections wait until a server starts on it.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    local: SocketAddr,
}

impl Bound {
    /// Listens on the admin address; port 0 takes a free one.
    pub async fn admin(address: SocketAddr) -> Result<Bound, HttpError> {
        Bound::new("admin", "--admin-listen", address).await
    }

    /// Listens on the public address; port 0 takes a free one.
    pub async fn public(address: SocketAddr) -> Result<Bound, HttpError> {
        Bound::new("public", "--public-listen", address).await
    }

    async fn new(what: &'static str, flag: &'static str, address: SocketAddr) -> Result<Bound, HttpError> {
        let failed = |reason| HttpError::Bind { what, address, flag, reason };
        let listener = bind_patiently(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Bound { listener, local })
    }

    /// The address, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// Binds, and waits a little if the address is in use: a host that was killed a moment ago still has it.
async fn bind_patiently(address: SocketAddr) -> io::Result<TcpListener> {
    let until = Instant::now() + BIND_PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(BIND_REST).await;
            }
            bound => return bound,
        }
    }
}

/// Says when the server drains; streams that have no end of their own end then.
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

impl Draining {
    /// Ends when the server begins to drain.
    pub async fn begun(&mut self) {
        // An error means that the server is gone, which is more than draining.
        let _ = self.0.wait_for(|draining| *draining).await;
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    local: SocketAddr,
    drain: watch::Sender<bool>,
    accepting: JoinHandle<GracefulShutdown>,
}

impl Server {
    /// Serves what `routes` makes.
    pub fn start(bound: Bound, limits: HttpLimits, routes: impl FnOnce(Draining) -> Router) -> Server {
        let (drain, draining) = watch::channel(false);
        let router = routes(Draining(draining.clone()));
        let local = bound.local;
        let accepting = tokio::spawn(accept(bound.listener, limits, router, Draining(draining)));
        Server { local, drain, accepting }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Stops accepting, closes idle connections and waits until the others have had their answers, at most for
    /// `grace`. Says whether all had.
    pub async fn drain(self, grace: Duration) -> bool {
        self.drain.send_replace(true);
        let all_closed = async {
            if let Ok(connections) = self.accepting.await {
                connections.shutdown().await;
            }
        };
        tokio::time::timeout(grace, all_closed).await.is_ok()
    }
}

/// Accepts until draining begins; gives back the open connections.
async fn accept(listener: TcpListener, limits: HttpLimits, router: Router, mut draining: Draining) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let builder = builder(&limits);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = draining.begun() => return connections,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A connection that broke while it waited is no reason to rest.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
                continue;
            }
        };
        let connection =
            builder.serve_connection(TokioIo::new(prepare(stream, &limits)), TowerToHyperService::new(router.clone()));
        let watched = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended with an error");
            }
            drop(place);
        });
    }
}

fn builder(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Without a timer hyper drops the timeout for request heads silently.
    builder.timer(TokioTimer::new());
    // hyper counts it from the end of the last answer, so that it also bounds an idle connection.
    builder.header_read_timeout(limits.head);
    builder.max_buf_size(READ_BUFFER_BYTES);
    builder.max_header_size(HEAD_BYTES_MAX);
    builder.max_headers(HEADERS_MAX);
    builder
}

fn prepare(stream: TcpStream, limits: &HttpLimits) -> WriteTimeout<TcpStream> {
    // Answers and server-sent events are small; they must not wait for the peer's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    WriteTimeout::new(stream, limits.write)
}

#[cfg(test)]
impl Draining {
    /// For routes that are called without a server.
    pub(crate) fn never() -> Draining {
        let (sender, receiver) = watch::channel(false);
        // Without a sender it would look like a server that is gone.
        std::mem::forget(sender);
        Draining(receiver)
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
