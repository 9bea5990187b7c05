//! What a trap means: a divergence, a limit, a mistake of the guest, or a fault of the host.

use crate::workflow::Stopped;
use rehydrate_core::{Failure, FailureKind, Stop};
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

/// Classifies the error of a guest call. `panic` is the message that the guest announced, if it did;
/// `running` says that the guest had been instantiated: what fails before that is the host's fault, what
/// fails after it (a handle that does not exist, a string that is no UTF-8) is the guest's.
pub fn classify(error: &wasmtime::Error, panic: Option<&str>, running: bool) -> Stopped {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return from_stop(stop.clone());
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return Stopped::Failed(from_trap(*trap, panic));
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        let message = format!("the guest called exit with code {code}; return from `run` instead");
        return Stopped::Failed(Failure::new(FailureKind::Application, "guest.exited", message));
    }
    if let Some(message) = panic {
        return Stopped::Failed(panicked(message));
    }
    let text = format!("{error:#}");
    if text.contains("fuel allocated for hostcalls") {
        let message = "the guest passed too many bytes in one host call; make its lists and strings smaller";
        return Stopped::Failed(Failure::new(FailureKind::Rejected, "limit.host-call-bytes", message));
    }
    if !running {
        return Stopped::HostFault(text);
    }
    let message = format!("the guest used a host call wrongly: {text}; this is a fault of the component or its SDK");
    Stopped::Failed(Failure::new(FailureKind::Rejected, "guest.misuse", message))
}

/// What a stop means for the instance.
pub fn from_stop(stop: Stop) -> Stopped {
    match stop {
        Stop::Diverged(divergence) => Stopped::Diverged(*divergence),
        Stop::Limit(limit) => Stopped::Failed(Failure::new(FailureKind::Rejected, &limit.code(), limit.to_string())),
        Stop::Misuse(message) => Stopped::Failed(Failure::new(FailureKind::Rejected, "guest.misuse", message)),
    }
}

fn panicked(message: &str) -> Failure {
    Failure::new(FailureKind::Application, "guest.panicked", message)
}

fn from_trap(trap: Trap, panic: Option<&str>) -> Failure {
    match trap {
        Trap::StackOverflow => {
            Failure::new(FailureKind::Rejected, "limit.stack", "the guest used up its stack; its recursion is too deep")
        }
        _ => match panic {
            Some(message) => panicked(message),
            None => Failure::new(
                FailureKind::Application,
                "guest.trapped",
                format!("the guest trapped: {trap}; see the instance's log for what it said before"),
            ),
        },
    }
}
