//! Running one attempt of a Wasm activity: the real clock, real random numbers, outgoing HTTP.

use crate::bindings::activity as bindings;
use crate::bindings::workflow::rehydrate::workflow::types;
use crate::component::ActivityComponent;
use crate::convert;
use crate::limiter::Limiter;
use crate::log::{Level, LogBuffer, LogLine, Stream};
use crate::trap;
use crate::warm::{IdlePlaces, Instance};
use crate::workflow::Stopped;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use rehydrate_core::{Failure, FailureKind, Json, LimitExceeded, Limits, Outcome, Stop};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// Any error of the network.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of a request or a response.
pub type HttpBody = UnsyncBoxBody<Bytes, BoxError>;

/// A future of the network.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the guest asked for; none: the host's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpTimeouts {
    /// Until the connection stands.
    pub connect: Option<Duration>,
    /// Until the first byte of the answer.
    pub first_byte: Option<Duration>,
}

/// The way to the network: whoever implements it decides what is reached.
pub trait OutboundHttp: Send + Sync + 'static {
    /// Sends a request.
    fn send(
        &self,
        request: http::Request<HttpBody>,
        timeouts: HttpTimeouts,
    ) -> BoxFuture<Result<http::Response<HttpBody>, BoxError>>;
}

/// What all activities share.
#[derive(Clone)]
pub struct ActivityHost {
    outbound: Arc<dyn OutboundHttp>,
    limits: Limits,
    idle: IdlePlaces,
}

/// Whose attempt it is that is to run, and the ways to and from it.
pub struct ActivityRequest {
    /// The instance that scheduled it.
    pub instance_id: String,
    /// The run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
    /// The attempt's idempotency key.
    pub idempotency_key: String,
    /// Called at every heartbeat.
    pub heartbeat: Box<dyn Fn() + Send + Sync>,
    /// Set when the attempt should end.
    pub cancelled: Arc<AtomicBool>,
}

/// The store's data of an activity.
pub struct ActivityState {
    request: Option<ActivityRequest>,
    limits: Limits,
    log: CurrentLog,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    limiter: Limiter,
    memory_bytes: Arc<AtomicUsize>,
}

/// The log of the attempt that an instance runs; its streams outlive the attempt.
#[derive(Clone, Default)]
pub(crate) struct CurrentLog(Arc<Mutex<ActivityLog>>);

impl CurrentLog {
    /// Always that one.
    pub(crate) fn of(log: &ActivityLog) -> CurrentLog {
        CurrentLog(Arc::new(Mutex::new(log.clone())))
    }

    fn with<T>(&self, write: impl FnOnce(&mut LogBuffer) -> T) -> T {
        let log = lock(&self.0).clone();
        write(&mut lock(&log.0))
    }
}

impl ActivityState {
    /// The next call is for this attempt.
    pub(crate) fn begin(&mut self, request: ActivityRequest, log: &ActivityLog) {
        self.request = Some(request);
        *lock(&self.log.0) = log.clone();
    }

    /// The attempt has ended, and left this behind: bytes of memory, and handles to things of the host.
    pub(crate) fn end(&mut self) -> (usize, usize) {
        self.request = None;
        *lock(&self.log.0) = ActivityLog::default();
        (self.memory_bytes.load(Ordering::Relaxed), self.table.iter_mut().count())
    }
}

struct Hooks {
    outbound: Arc<dyn OutboundHttp>,
}

impl WasiView for ActivityState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for ActivityState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>), HttpError>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let options = options.unwrap_or_default();
        let timeouts = HttpTimeouts { connect: options.connect_timeout, first_byte: options.first_byte_timeout };
        let (head, body) = request.into_parts();
        let body = KeptBody(Arc::new(Mutex::new(body)));
        let kept = body.clone();
        let sent = self.outbound.send(http::Request::from_parts(head, body.boxed_unsync()), timeouts);
        Box::new(async move {
            let internal = |error: BoxError| HttpError::InternalError(Some(error.to_string()));
            let response = match sent.await {
                Ok(response) => response,
                Err(error) => {
                    tokio::spawn(kept.drain());
                    return Err(internal(error));
                }
            };
            let response = response.map(|body| body.map_err(internal).boxed_unsync());
            let done: Box<dyn Future<Output = Result<(), HttpError>> + Send> = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}

/// The body of a request, kept until the guest is done with it. Were it dropped with a request that failed, a
/// guest that is still writing would see its body break off, and might never ask why the request failed.
#[derive(Clone)]
struct KeptBody(Arc<Mutex<WasiBody>>);

impl KeptBody {
    /// Reads on until the guest has written all, or has ended.
    async fn drain(mut self) {
        while let Some(Ok(_)) = self.frame().await {}
    }
}

impl http_body::Body for KeptBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut *lock(&self.0)).poll_frame(task);
        polled.map_err(|error| BoxError::from(error.to_string()))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).size_hint()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl bindings::rehydrate::workflow::activity_context::Host for ActivityState {
    fn get_attempt(&mut self) -> wasmtime::Result<bindings::rehydrate::workflow::activity_context::AttemptInfo> {
        let none = || Stop::Misuse("there is no attempt while the component is asked for its names".to_owned());
        let request = self.request.as_ref().ok_or_else(none)?;
        Ok(bindings::rehydrate::workflow::activity_context::AttemptInfo {
            instance_id: request.instance_id.clone(),
            run: request.run,
            attempt: request.attempt,
            idempotency_key: request.idempotency_key.clone(),
        })
    }

    fn heartbeat(&mut self, _details: Option<String>) -> wasmtime::Result<bool> {
        let Some(request) = &self.request else { return Ok(true) };
        (request.heartbeat)();
        Ok(!request.cancelled.load(Ordering::Relaxed))
    }

    fn log(&mut self, level: types::LogLevel, message: String) -> wasmtime::Result<()> {
        let limit = self.limits.log_bytes_per_turn;
        self.log.with(|log| log.line(convert::level(level), message, false, limit)).map_err(Stop::Limit)?;
        Ok(())
    }
}

/// The linker of activities: WASI 0.2 without sockets, outgoing HTTP, the attempt's context.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<ActivityState>> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
    use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
    use wasmtime_wasi::random::WasiRandom;
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    wasmtime_wasi_http::p2::add_to_linker_async(l)?;
    random::insecure::add_to_linker::<_, WasiRandom>(l, |state: &mut ActivityState| state.wasi.random())?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(l, |state: &mut ActivityState| state.wasi.random())?;
    cli::environment::add_to_linker::<_, WasiCli>(l, ActivityState::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, ActivityState::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, ActivityState::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, ActivityState::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, ActivityState::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, ActivityState::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, ActivityState::cli)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(l, ActivityState::filesystem)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, ActivityState::filesystem)?;
    type Context = HasSelf<ActivityState>;
    bindings::rehydrate::workflow::activity_context::add_to_linker::<_, Context>(l, |state| state)?;
    Ok(linker)
}

/// A WASI context without sockets, whose streams go to that log.
pub(crate) fn wasi(log: &CurrentLog, limit: usize) -> WasiCtx {
    let stream = |stream| LogStream { log: log.clone(), stream, limit };
    WasiCtx::builder()
        .stdout(stream(Stream::Out))
        .stderr(stream(Stream::Err))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// A store for an instance of the component.
pub(crate) fn store(component: &ActivityComponent, host: &ActivityHost) -> Store<ActivityState> {
    let limits = host.limits.clone();
    let log = CurrentLog::default();
    let wasi = wasi(&log, limits.log_bytes_per_turn);
    let memory_bytes = Arc::new(AtomicUsize::new(0));
    let state = ActivityState {
        request: None,
        log,
        table: ResourceTable::new(),
        wasi,
        http: WasiHttpCtx::new(),
        hooks: Hooks { outbound: host.outbound.clone() },
        limiter: Limiter::new(limits.memory_bytes, limits.table_elements, memory_bytes.clone()),
        memory_bytes,
        limits,
    };
    let mut store = Store::new(component.engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(host.limits.turn_bytes.saturating_mul(2));
    store.set_epoch_deadline(1);
    // An attempt that computes gives others their turn at every tick; dropping its future ends it there.
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
    store
}

/// The names of the activities a component offers.
pub async fn names(component: &ActivityComponent, host: &ActivityHost) -> Result<Vec<String>, String> {
    const TIME_MAX: Duration = Duration::from_secs(10);
    let mut store = store(component, host);
    let ask = async {
        let bindings = component.instantiate(&mut store).await?;
        bindings.call_names(&mut store).await
    };
    match tokio::time::timeout(TIME_MAX, ask).await {
        Err(_) => Err(format!("`names` did not return within {TIME_MAX:?}")),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Ok(Ok(names)) => Ok(names),
    }
}

impl ActivityHost {
    /// With this way to the network, and these limits of one guest.
    pub fn new(outbound: Arc<dyn OutboundHttp>, limits: Limits) -> ActivityHost {
        ActivityHost { outbound, limits, idle: IdlePlaces::default() }
    }

    /// Runs one attempt of the activity of that name on `input`, JSON text. The future may be dropped at any point, which
    /// interrupts the guest. `log` gets what it says, also when it is interrupted.
    pub async fn run(
        &self,
        component: &ActivityComponent,
        name: &str,
        input: &Json,
        request: ActivityRequest,
        log: &ActivityLog,
    ) -> Outcome {
        let mut running = false;
        let result = async {
            let mut instance = Instance::take(component, self, request, log).await?;
            running = true;
            let outcome = instance.call(name, input).await?;
            component.idle().give_back(instance, &self.idle);
            Ok(outcome)
        }
        .await;
        match result {
            Ok(outcome) => self.checked(name, outcome),
            Err(error) => Err(failed(trap::classify(&error, lock(&log.0).last_panic(), running))),
        }
    }

    fn checked(&self, name: &str, outcome: Outcome) -> Outcome {
        let part = if outcome.is_ok() { "output" } else { "failure" };
        let what = format_args!("the {part} of activity `{name}`");
        convert::checked_outcome(&self.limits, what, "activity.invalid-json", outcome)
    }
}

fn failed(stopped: Stopped) -> Failure {
    match stopped {
        Stopped::Failed(failure) if failure.kind == FailureKind::Application => failure.retryable(),
        Stopped::Failed(failure) => failure,
        Stopped::Diverged(divergence) => Failure::new(FailureKind::Rejected, "activity.failed", divergence.to_string()),
        Stopped::HostFault(text) => Failure::new(FailureKind::Rejected, "activity.host-fault", text).retryable(),
    }
}

/// What an attempt says, readable while it runs.
#[derive(Clone, Default)]
pub struct ActivityLog(Arc<Mutex<LogBuffer>>);

impl ActivityLog {
    /// Takes the lines said since the last call.
    pub fn take(&self) -> Vec<LogLine> {
        lock(&self.0).take()
    }

    /// Adds a line of the guest's.
    pub(crate) fn line(&self, level: Level, text: String, limit: usize) -> Result<(), LimitExceeded> {
        lock(&self.0).line(level, text, false, limit)
    }

    /// The message of the last panic that the guest announced.
    pub(crate) fn last_panic(&self) -> Option<String> {
        lock(&self.0).last_panic().map(str::to_owned)
    }

    /// Adds a line of the host's own.
    pub fn note(&self, level: Level, text: String) {
        // The host's own notes are short and few: the limit is the guest's.
        drop(lock(&self.0).line(level, text, false, usize::MAX));
    }
}

/// A guest's stdout or stderr, written to the current log line by line.
#[derive(Clone)]
struct LogStream {
    log: CurrentLog,
    stream: Stream,
    limit: usize,
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
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = self.log.with(|log| log.stream(self.stream, bytes, false, self.limit));
        Poll::Ready(written.map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
