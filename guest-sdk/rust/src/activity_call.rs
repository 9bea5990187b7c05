//! An activity to be scheduled: its options, and the future of its result.

use crate::failure::Failure;
use crate::host;
use crate::operation::{HostReactor, Operation, What};
use crate::retry::{ActivityOptions, RetryPolicy};
use futures::future::FusedFuture;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// An activity that is scheduled when it is first polled, or by [`start`](ActivityCall::start).
///
/// ```no_run
/// # use rehydrate::{Context, Failure, RetryPolicy};
/// # use std::time::Duration;
/// # async fn flow(ctx: Context) -> Result<(), Failure> {
/// let receipt: String = ctx
///     .activity("charge", &"card-1")
///     .start_to_close(Duration::from_secs(20))
///     .retry(RetryPolicy::attempts(5))
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "an activity is scheduled only when it is awaited or started"]
pub struct ActivityCall<T> {
    reactor: HostReactor,
    name: String,
    input: Result<String, Failure>,
    options: ActivityOptions,
    started: Option<Operation<T>>,
}

impl<T> ActivityCall<T> {
    pub(crate) fn new(reactor: &HostReactor, name: &str, input: Result<String, Failure>) -> ActivityCall<T> {
        let options = ActivityOptions::default();
        ActivityCall { reactor: HostReactor::clone(reactor), name: name.to_owned(), input, options, started: None }
    }

    /// All limits at once.
    pub fn options(mut self, options: ActivityOptions) -> Self {
        self.options = options;
        self
    }

    /// The longest an attempt may wait for a free worker.
    pub fn schedule_to_start(mut self, length: Duration) -> Self {
        self.options.schedule_to_start = Some(length);
        self
    }

    /// The longest one attempt may run. Without it the host's default holds.
    pub fn start_to_close(mut self, length: Duration) -> Self {
        self.options.start_to_close = Some(length);
        self
    }

    /// The longest the activity may take with all its attempts.
    pub fn schedule_to_close(mut self, length: Duration) -> Self {
        self.options.schedule_to_close = Some(length);
        self
    }

    /// The longest silence between two heartbeats of an attempt.
    pub fn heartbeat(mut self, length: Duration) -> Self {
        self.options.heartbeat = Some(length);
        self
    }

    /// How the host retries it. Without it there is one attempt.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// The worker queue. Without it: `default`.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.options.queue = Some(queue.into());
        self
    }

    /// Schedules it now; it runs while the workflow does other things.
    pub fn start(mut self) -> Operation<T> {
        self.take_started()
    }

    fn take_started(&mut self) -> Operation<T> {
        if let Some(operation) = self.started.take() {
            return operation;
        }
        let what = |name: &str| What::Output(name.to_owned());
        match &self.input {
            Ok(input) => {
                let pending = host::schedule(&self.name, input, &self.options);
                Operation::open(&self.reactor, what(&self.name), pending)
            }
            Err(failure) => Operation::refused(what(&self.name), failure.clone()),
        }
    }
}

impl<T> From<ActivityCall<T>> for Operation<T> {
    fn from(call: ActivityCall<T>) -> Self {
        call.start()
    }
}

impl<T: DeserializeOwned> Future for ActivityCall<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut operation = self.take_started();
        let polled = Pin::new(&mut operation).poll(task);
        self.started = Some(operation);
        polled
    }
}

impl<T: DeserializeOwned> FusedFuture for ActivityCall<T> {
    fn is_terminated(&self) -> bool {
        self.started.as_ref().is_some_and(FusedFuture::is_terminated)
    }
}

impl<T> fmt::Debug for ActivityCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivityCall").field("name", &self.name).field("options", &self.options).finish_non_exhaustive()
    }
}
