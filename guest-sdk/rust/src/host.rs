//! The one door to the host. In a component it is the imports of world `workflow`; in a native build, which
//! is how workflows are unit-tested, it is the [`TestHost`](crate::testing::TestHost) that runs them.

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::door::*;
#[cfg(target_family = "wasm")]
pub(crate) use wasm::*;

use serde::{Deserialize, Serialize};

/// Who is running.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Info {
    /// The instance's id.
    pub instance_id: String,
    /// The run within the instance, from 1.
    pub run: u32,
    /// The deployment's name.
    pub workflow: String,
    /// The deployment's version.
    pub version: String,
}

/// Levels of the instance's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finer than anything a person usually reads.
    Trace,
    /// For whoever writes the guest.
    Debug,
    /// What happened.
    Info,
    /// Odd, but the guest goes on.
    Warn,
    /// Something failed.
    Error,
}

#[cfg(target_family = "wasm")]
mod wasm {
    //! The imports of world `workflow`, in the SDK's own types.

    use super::{Info, Level};
    use crate::bindings::workflow::rehydrate::workflow::{
        activities, callbacks, children, control, entities, instances, operations, signals, timers, types,
    };
    use crate::child_call::ChildOptions;
    use crate::entity_ref::EntityId;
    use crate::failure::Failure;
    use crate::reactor::{Outcome, Wait};
    use crate::retry::{ActivityOptions, nanos};
    use crate::time::Timestamp;
    use crate::wire;
    use std::time::Duration;

    pub(crate) use operations::Pending;

    impl Wait for Pending {
        fn get(&self) -> Option<Outcome> {
            Some(Pending::get(self)?.map_err(Failure::from))
        }

        fn cancel(&self) {
            Pending::cancel(self);
        }

        fn wait(&self) -> Outcome {
            Pending::wait(self).map_err(Failure::from)
        }

        fn wait_any(on: &[&Self]) -> Vec<u32> {
            operations::wait_any(on)
        }

        fn wait_all(on: &[&Self]) {
            operations::wait_all(on);
        }
    }

    pub(crate) fn schedule(name: &str, input: &str, options: &ActivityOptions) -> Pending {
        activities::schedule(name, input, Some(&wire::activity_options(options)))
    }

    pub(crate) fn now() -> Timestamp {
        let now = timers::now();
        Timestamp::from_parts(now.seconds, now.nanoseconds)
    }

    pub(crate) fn start_timer(deadline: Timestamp) -> Pending {
        let (seconds, nanoseconds) = deadline.parts();
        timers::start(types::Instant { seconds, nanoseconds })
    }

    /// The callback resource; dropping it, unsettled, cancels it.
    pub(crate) struct CallbackHandle(callbacks::Callback);

    impl CallbackHandle {
        pub(crate) fn open(name: &str, expires: Option<Duration>) -> CallbackHandle {
            CallbackHandle(callbacks::Callback::new(name, expires.map(nanos)))
        }

        pub(crate) fn url(&self) -> String {
            self.0.url()
        }

        pub(crate) fn id(&self) -> String {
            self.0.id()
        }

        pub(crate) fn pending(&self) -> Pending {
            self.0.pending()
        }
    }

    pub(crate) fn next_signal(name: &str) -> Pending {
        signals::next(name)
    }

    pub(crate) fn start_child(workflow: &str, id: &str, input: &str, options: &ChildOptions) -> Pending {
        children::start(workflow, id, input, &wire::child_options(options))
    }

    pub(crate) fn start_detached(workflow: &str, id: &str, input: &str, version: Option<&str>) -> Pending {
        children::start_detached(workflow, id, input, version)
    }

    pub(crate) fn signal_instance(instance: &str, name: &str, payload: &str) -> Pending {
        instances::signal(instance, name, payload)
    }

    pub(crate) fn cancel_instance(instance: &str, reason: &str) -> Pending {
        instances::cancel(instance, reason)
    }

    pub(crate) fn call_entity(on: &EntityId, operation: &str, input: &str) -> Pending {
        entities::call(&wire::entity_id(on), operation, input)
    }

    pub(crate) fn signal_entity(on: &EntityId, operation: &str, input: &str) {
        entities::signal(&wire::entity_id(on), operation, input);
    }

    /// The lock resource; dropping it gives the lock back, or the request for it up.
    pub(crate) struct LockHandle(entities::Lock);

    impl LockHandle {
        pub(crate) fn ask(on: &[EntityId]) -> LockHandle {
            LockHandle(entities::Lock::new(&on.iter().map(wire::entity_id).collect::<Vec<_>>()))
        }

        pub(crate) fn acquired(&self) -> Pending {
            self.0.acquired()
        }
    }

    pub(crate) fn continue_as_new(input: &str, newest_version: bool) {
        control::continue_as_new(input, newest_version);
    }

    pub(crate) fn info() -> Info {
        let info = control::get_info();
        Info { instance_id: info.instance_id, run: info.run, workflow: info.workflow, version: info.version }
    }

    pub(crate) fn set_status(status: &str) {
        control::set_status(status);
    }

    pub(crate) fn cancel_requested() -> Option<String> {
        control::cancel_requested()
    }

    pub(crate) fn patched(change_id: &str) -> bool {
        control::patched(change_id)
    }

    pub(crate) fn random_u64() -> u64 {
        control::random_u64()
    }

    pub(crate) fn uuid() -> String {
        control::uuid()
    }

    pub(crate) fn log(level: Level, message: &str) {
        control::log(wire::level(level), message);
    }
}
