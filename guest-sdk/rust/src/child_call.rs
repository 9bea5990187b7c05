//! A child workflow to be started: how, and the future of its output.

use crate::delivery::Delivery;
use crate::failure::Failure;
use crate::host;
use crate::operation::{HostReactor, Operation, What};
use crate::retry::RetryPolicy;
use futures::future::FusedFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What becomes of a child whose parent ends, or gives it up by dropping or cancelling it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParentClose {
    /// It is terminated.
    #[default]
    Terminate,
    /// It is asked to cancel.
    RequestCancel,
    /// It goes on by itself.
    Abandon,
}

/// How a child is started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ChildOptions {
    pub version: Option<String>,
    pub parent_close: ParentClose,
    pub retry: Option<RetryPolicy>,
}

/// A child workflow that is started when it is first polled, or by [`start`](ChildCall::start).
///
/// ```no_run
/// # use rehydrate::{Context, Failure, ParentClose, RetryPolicy};
/// # async fn flow(ctx: Context) -> Result<(), Failure> {
/// let order = ctx.child::<String>("ship-order", &"order-1").id("ship-1").retry(RetryPolicy::attempts(3)).start();
/// ctx.set_status(&order.id())?;
/// let tracking = order.await?;
/// # Ok(()) }
/// ```
#[must_use = "a child is started only when it is awaited or started"]
pub struct ChildCall<T> {
    reactor: HostReactor,
    workflow: String,
    id: Option<String>,
    input: Result<String, Failure>,
    options: ChildOptions,
    started: Option<Child<T>>,
}

impl<T> ChildCall<T> {
    pub(crate) fn new(reactor: &HostReactor, workflow: &str, input: Result<String, Failure>) -> ChildCall<T> {
        let reactor = HostReactor::clone(reactor);
        ChildCall {
            reactor,
            workflow: workflow.to_owned(),
            id: None,
            input,
            options: ChildOptions::default(),
            started: None,
        }
    }

    /// The child's instance id. Without it: a random one, the same on replay. If an instance of that id is running
    /// already, the child fails with kind `rejected`.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The workflow's version. Without it: the newest when the child starts.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.options.version = Some(version.into());
        self
    }

    /// What becomes of it without its parent. Without this: it is terminated.
    pub fn parent_close(mut self, policy: ParentClose) -> Self {
        self.options.parent_close = policy;
        self
    }

    /// How a child that failed is started again, in a new run of the same id. Every failure of its own counts as one
    /// that may be tried again, save those the policy names. Without it there is one attempt.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// Starts it now; it runs while the workflow does other things.
    pub fn start(mut self) -> Child<T> {
        self.take_started()
    }

    /// Starts it as an instance that goes on by itself: the workflow gets no output, and retry and parent-close policy
    /// have no meaning. What it gives tells that the start is recorded.
    pub fn detach(self) -> Delivery {
        let id = self.id.unwrap_or_else(host::uuid);
        let version = self.options.version.as_deref();
        let pending = self.input.map(|input| host::start_detached(&self.workflow, &id, &input, version));
        Delivery::new(&self.reactor, &id, pending)
    }

    fn take_started(&mut self) -> Child<T> {
        if let Some(child) = self.started.take() {
            return child;
        }
        let id = self.id.take().unwrap_or_else(host::uuid);
        let pending = self.input.clone().map(|input| host::start_child(&self.workflow, &id, &input, &self.options));
        let operation = Operation::begun(&self.reactor, What::ChildOutput(self.workflow.clone()), pending);
        Child { id, operation }
    }
}

impl<T> From<ChildCall<T>> for Operation<T> {
    fn from(call: ChildCall<T>) -> Self {
        call.start().operation
    }
}

impl<T: DeserializeOwned> Future for ChildCall<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut child = self.take_started();
        let polled = Pin::new(&mut child).poll(task);
        self.started = Some(child);
        polled
    }
}

impl<T: DeserializeOwned> FusedFuture for ChildCall<T> {
    fn is_terminated(&self) -> bool {
        self.started.as_ref().is_some_and(FusedFuture::is_terminated)
    }
}

impl<T> fmt::Debug for ChildCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ChildCall");
        shown.field("workflow", &self.workflow).field("id", &self.id).field("options", &self.options);
        shown.finish_non_exhaustive()
    }
}

/// A child that was started: the future of its output.
///
/// Dropping it gives the child up, as its [`ParentClose`] says, if it has not ended.
#[must_use = "dropping a child gives it up"]
pub struct Child<T> {
    id: String,
    operation: Operation<T>,
}

impl<T> Child<T> {
    /// Its instance id, for [`Context::instance`](crate::Context::instance).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Gives the child up, as its [`ParentClose`] says: this settles at once with a failure of kind `cancelled`, unless
    /// the child has ended.
    pub fn cancel(&self) {
        self.operation.cancel();
    }
}

impl<T> From<Child<T>> for Operation<T> {
    fn from(child: Child<T>) -> Self {
        child.operation
    }
}

impl<T: DeserializeOwned> Future for Child<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.operation).poll(task)
    }
}

impl<T: DeserializeOwned> FusedFuture for Child<T> {
    fn is_terminated(&self) -> bool {
        self.operation.is_terminated()
    }
}

impl<T> fmt::Debug for Child<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({}, {:?})", self.id, self.operation)
    }
}
