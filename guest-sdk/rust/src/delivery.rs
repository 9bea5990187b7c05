//! Messages to other instances, known by their ids.

use crate::failure::Failure;
use crate::host::{self, Level, Pending};
use crate::operation::{HostReactor, Operation, What, encode};
use futures::future::FusedFuture;
use serde::Serialize;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Another instance; see [`Context::instance`](crate::Context::instance).
#[derive(Clone)]
pub struct InstanceRef {
    reactor: HostReactor,
    id: String,
}

impl InstanceRef {
    pub(crate) fn new(reactor: &HostReactor, id: &str) -> InstanceRef {
        InstanceRef { reactor: HostReactor::clone(reactor), id: id.to_owned() }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str, payload: &(impl Serialize + ?Sized)) -> Delivery {
        let payload = encode(payload, format_args!("the payload of signal `{name}`"));
        let pending = payload.map(|payload| host::signal_instance(&self.id, name, &payload));
        Delivery::new(&self.reactor, &self.id, pending)
    }

    /// Asks it to cancel.
    pub fn cancel(&self, reason: &str) -> Delivery {
        Delivery::new(&self.reactor, &self.id, Ok(host::cancel_instance(&self.id, reason)))
    }
}

impl fmt::Debug for InstanceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceRef({})", self.id)
    }
}

/// A message on its way to another instance. It was sent already and may be ignored; awaiting it tells whether it was
/// recorded there. It fails with kind `not-found` if there is no such instance, or it has ended.
pub struct Delivery(Operation<()>);

impl Delivery {
    pub(crate) fn new(reactor: &HostReactor, to: &str, pending: Result<Pending, Failure>) -> Delivery {
        if let Err(failure) = &pending {
            // Who sends it may not look at the outcome, and this is a mistake of the guest.
            host::log(Level::Error, &format!("nothing was sent to instance `{to}`: {failure}"));
        }
        Delivery(Operation::begun(reactor, What::Acknowledgement(to.to_owned()), pending))
    }
}

impl From<Delivery> for Operation<()> {
    fn from(delivery: Delivery) -> Self {
        delivery.0
    }
}

impl Future for Delivery {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(task)
    }
}

impl FusedFuture for Delivery {
    fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({:?})", self.0)
    }
}
