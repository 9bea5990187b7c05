//! The virtual WASI 0.2 of a workflow.
//!
//! Clocks show the time of the event being applied, random numbers come from the run's own generator,
//! sleeping is a durable timer, stdout and stderr go to the instance's log, there is no environment and
//! the filesystem is empty. Sockets and wasi:http are not here at all. Interfaces are added one by one,
//! so that none comes in unnoticed with a new version of the library.

use crate::contract::{Shared, WorkflowHost, lock};
use crate::log::Stream;
use rehydrate_core::{EventId, Nanos, Stop};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::bindings::{cli, filesystem};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamError, StreamResult, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::bindings::wasi::io;

/// The most random bytes one call may ask for.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

struct Virtual;

impl HasData for Virtual {
    type Data<'a> = &'a mut WorkflowHost;
}

impl WasiView for WorkflowHost {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Adds the virtual WASI to a workflow's linker.
pub fn add_to_linker(linker: &mut Linker<WorkflowHost>) -> wasmtime::Result<()> {
    let l = linker;
    io::error::add_to_linker::<_, Io>(l, |host| &mut host.table)?;
    io::poll::add_to_linker::<_, Io>(l, |host| &mut host.table)?;
    io::streams::add_to_linker::<_, Io>(l, |host| &mut host.table)?;
    wall_clock::add_to_linker::<_, Virtual>(l, |host| host)?;
    monotonic_clock::add_to_linker::<_, Virtual>(l, |host| host)?;
    random::add_to_linker::<_, Virtual>(l, |host| host)?;
    insecure::add_to_linker::<_, Virtual>(l, |host| host)?;
    insecure_seed::add_to_linker::<_, Virtual>(l, |host| host)?;
    cli::environment::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, WorkflowHost::cli)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(l, WorkflowHost::filesystem)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, WorkflowHost::filesystem)?;
    Ok(())
}

/// A WASI context with nothing of the machine in it.
pub fn context(shared: &Arc<Mutex<Shared>>) -> WasiCtx {
    let log = |stream| LogStream { shared: shared.clone(), stream };
    WasiCtx::builder()
        .stdout(log(Stream::Out))
        .stderr(log(Stream::Err))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

impl wall_clock::Host for WorkflowHost {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let (seconds, nanoseconds) = self.call()?.replay.now().parts();
        Ok(wall_clock::Datetime { seconds: u64::try_from(seconds).unwrap_or(0), nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1 })
    }
}

impl WorkflowHost {
    fn monotonic_now(&self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.call()?.replay.now().0).unwrap_or(1).max(1))
    }

    fn durable_pollable(&mut self, length: Nanos) -> wasmtime::Result<Resource<DynPollable>> {
        let op = match length {
            Nanos(0) => None,
            length => {
                let mut shared = self.call()?;
                let deadline = shared.replay.now().after(length);
                Some(shared.replay.start_timer(deadline)?)
            }
        };
        let timer = self.table.push(DurableTimer { shared: self.shared.clone(), op })?;
        subscribe(&mut self.table, timer)
    }
}

impl monotonic_clock::Host for WorkflowHost {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.monotonic_now()
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.monotonic_now()?;
        self.durable_pollable(Nanos(when.saturating_sub(now)))
    }

    fn subscribe_duration(&mut self, length: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.durable_pollable(Nanos(length))
    }
}

/// A pollable that is ready once its durable timer has fired; without a timer it is ready at once.
struct DurableTimer {
    shared: Arc<Mutex<Shared>>,
    op: Option<EventId>,
}

#[async_trait]
impl Pollable for DurableTimer {
    async fn ready(&mut self) {
        let Some(op) = self.op else { return };
        poll_fn(|_| {
            let mut shared = lock(&self.shared);
            if shared.replay.is_settled(op) {
                return Poll::Ready(());
            }
            shared.replay.wait_also(op);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for DurableTimer {
    /// The guest gave the pollable up: its timer is cancelled, like any dropped pending.
    fn drop(&mut self) {
        let Some(op) = self.op else { return };
        let mut shared = lock(&self.shared);
        if shared.closed {
            return;
        }
        if let Err(stop) = shared.replay.cancel(op) {
            shared.stop.get_or_insert(stop);
        }
        shared.replay.release(op);
    }
}

impl WorkflowHost {
    fn random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        if length > RANDOM_BYTES_MAX {
            let text = format!("the workflow asked for {length} random bytes at once; the limit is {RANDOM_BYTES_MAX}");
            return Err(Stop::Misuse(text).into());
        }
        let mut bytes = vec![0; usize::try_from(length)?];
        self.call()?.replay.random().fill(&mut bytes);
        Ok(bytes)
    }

    fn random_number(&mut self) -> wasmtime::Result<u64> {
        Ok(self.call()?.replay.random().next_u64())
    }
}

impl random::Host for WorkflowHost {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_number()
    }
}

impl insecure::Host for WorkflowHost {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_number()
    }
}

impl insecure_seed::Host for WorkflowHost {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random_number()?, self.random_number()?))
    }
}

/// stdout or stderr, into the instance's log.
#[derive(Clone)]
struct LogStream {
    shared: Arc<Mutex<Shared>>,
    stream: Stream,
}

impl LogStream {
    fn write_bytes(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut shared = lock(&self.shared);
        shared.count_call()?;
        let (silent, limit) = (shared.replay.is_replaying(), shared.replay.limits().log_bytes_per_turn);
        Ok(shared.log.stream(self.stream, bytes, silent, limit)?)
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.write_bytes(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.write_bytes(&bytes).map_err(|stop| StreamError::Trap(stop.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        const PERMIT_BYTES: usize = 64 << 10;
        Ok(PERMIT_BYTES)
    }
}
