//! The one error of the runtime: a broad kind for the protocol, a stable code for programs, and a
//! sentence with the next step for people.

use std::fmt;

/// The broad kind, which a protocol maps to its own statuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The request itself is wrong.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// It comes too late.
    Gone,
    /// Too many bytes.
    TooLarge,
    /// The component can't run here.
    Refused,
    /// Not now; try again later.
    Unavailable,
    /// Our own fault.
    Internal,
}

/// An error of the runtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeError {
    /// The broad kind.
    pub kind: ErrorKind,
    /// A stable code such as `instance.not-found`.
    pub code: &'static str,
    /// What is wrong and what to do next.
    pub message: String,
}

impl RuntimeError {
    /// An error of that kind.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> RuntimeError {
        RuntimeError { kind, code, message: message.into() }
    }

    /// There is no instance of that id.
    pub fn no_instance(id: &str) -> RuntimeError {
        let message = format!("there is no instance `{id}`; list them with `rehydrate instance list`");
        RuntimeError::new(ErrorKind::NotFound, "instance.not-found", message)
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for RuntimeError {}

impl From<rehydrate_store::StoreError> for RuntimeError {
    fn from(error: rehydrate_store::StoreError) -> Self {
        RuntimeError::new(ErrorKind::Internal, "store.failed", format!("the store failed: {error}; see the host's log"))
    }
}
