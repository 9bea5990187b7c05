//! Entities as a workflow sees them: calls, signals, and the lock over several.

use crate::failure::Failure;
use crate::host::{self, LockHandle};
use crate::operation::{HostReactor, Operation, What, encode};
use futures::future::FusedFuture;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// An entity: the name of its component's deployment, and a key. As text: `@name@key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EntityId {
    /// The deployment's name.
    pub name: String,
    /// Which of them: at most 200 characters, none of `/ \ # ?`; may be empty.
    pub key: String,
}

impl EntityId {
    /// The entity of that name and key. The host stops a guest that uses one which can't be.
    pub fn new(name: impl Into<String>, key: impl Into<String>) -> EntityId {
        EntityId { name: name.into(), key: key.into() }
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}@{}", self.name, self.key)
    }
}

/// An entity to talk to; see [`Context::entity`](crate::Context::entity).
#[derive(Clone)]
pub struct EntityRef {
    reactor: HostReactor,
    id: EntityId,
}

impl EntityRef {
    pub(crate) fn new(reactor: &HostReactor, id: EntityId) -> EntityRef {
        EntityRef { reactor: HostReactor::clone(reactor), id }
    }

    /// Which one.
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// Has it perform an operation; `T` is what its answer is read as. Dropping this drops the answer only.
    pub fn call<T>(&self, operation: &str, input: &(impl Serialize + ?Sized)) -> Operation<T> {
        let input = self.encode(operation, input);
        let pending = input.map(|input| host::call_entity(&self.id, operation, &input));
        Operation::begun(&self.reactor, What::Answer(self.id.clone(), operation.to_owned()), pending)
    }

    /// The same, without an answer: nobody learns whether it failed. Fails only for an input that JSON can not hold.
    pub fn signal(&self, operation: &str, input: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        let input = self.encode(operation, input)?;
        host::signal_entity(&self.id, operation, &input);
        Ok(())
    }

    fn encode(&self, operation: &str, input: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
        encode(input, format_args!("the input of operation `{operation}` of entity `{}`", self.id))
    }
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityRef({})", self.id)
    }
}

/// A lock over entities that is being asked for; see [`Context::lock`](crate::Context::lock). Dropping it gives up.
#[must_use = "dropping it gives the lock up"]
pub struct Lock(Option<LockGuard>);

impl Lock {
    pub(crate) fn ask<E: Borrow<EntityRef>>(reactor: &HostReactor, on: impl IntoIterator<Item = E>) -> Lock {
        let on: Vec<EntityId> = on.into_iter().map(|entity| entity.borrow().id.clone()).collect();
        let handle = LockHandle::ask(&on);
        let acquired = Operation::open(reactor, What::Lock, handle.acquired());
        Lock(Some(LockGuard { _handle: handle, acquired }))
    }
}

impl Future for Lock {
    type Output = Result<LockGuard, Failure>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(guard) = &mut self.0 else { return Poll::Pending };
        let acquired = ready!(Pin::new(&mut guard.acquired).poll(task));
        // If it failed the guard is dropped here: what was locked so far must not stay so.
        let guard = self.0.take();
        Poll::Ready(acquired.and_then(|()| guard.ok_or_else(|| Failure::rejected("sdk.taken", "the lock was taken"))))
    }
}

impl FusedFuture for Lock {
    fn is_terminated(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// A lock over entities. While it is held they perform operations of this workflow only. Dropping it releases it.
#[must_use = "dropping it releases the lock"]
pub struct LockGuard {
    // Fields are dropped in this order: the lock is released while the host still knows that it was acquired.
    _handle: LockHandle,
    acquired: Operation<()>,
}

impl LockGuard {
    /// Releases the lock, as dropping it does.
    pub fn release(self) {}
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockGuard")
    }
}
