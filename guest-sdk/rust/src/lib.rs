//! Write Rehydrate workflows, activities and entities in Rust.
//!
//! A workflow is an `async fn` that survives everything: crashes, restarts, months of waiting. The host runs it
//! in a component, records what happens, and brings it back by replaying that record. This crate adds only
//! idiom to the contract in `wit/`: types by serde, futures, macros. It has no semantics of its own.
//!
//! ```no_run
//! use rehydrate::{Context, Failure, RetryPolicy};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Deserialize)]
//! struct Order { id: String, cents: u64 }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Receipt { number: String }
//!
//! #[rehydrate::workflow]
//! async fn order(ctx: Context, order: Order) -> Result<Receipt, Failure> {
//!     let receipt = ctx
//!         .activity::<Receipt>("charge", &order.cents)
//!         .start_to_close(Duration::from_secs(20))
//!         .retry(RetryPolicy::attempts(5))
//!         .await?;
//!     let approval = ctx.signal::<bool>("approve");
//!     if ctx.timeout(Duration::from_secs(86_400), approval).await?? {
//!         return Ok(receipt);
//!     }
//!     Err(Failure::application("not-approved", format!("order {} was not approved", order.id)))
//! }
//! ```
//!
//! **Waiting.** Every durable operation is a future, and so are [`ActivityCall`], [`ChildCall`], [`Callback`],
//! [`Lock`] and [`All`]. `join!`, `select!`, `join_all` and `FuturesUnordered` of the `futures` crate work. Operations
//! begin when they are made, not when they are first polled; only an activity and a child begin when they are first
//! polled or [`start`](ActivityCall::start)ed. Dropping a future cancels its operation. A workflow that waits for
//! anything else fails with code `sdk.deadlock`.
//!
//! **Entities.** Small durable objects, in a component of their own: see [`entity`](macro@entity). Workflows call them,
//! and lock several at once, by [`Context::entity`] and [`Context::lock`].
//!
//! **Failures.** Bodies return `Result<T, E>` with `E: Into<Failure>`. A panic is a failure too, with its
//! message: a hook writes it to the instance's log as `panicked at <place>: <message>`, where the host finds it.
//!
//! **Undoing.** [`Context::saga`] undoes the steps that were done when a later one fails or the instance is asked
//! to cancel.
//!
//! **Tests.** In a native build a workflow runs against [`testing::TestHost`], in virtual time.

// The generated bindings and the macros name this crate by its name, inside it too.
#[cfg(any(test, target_family = "wasm"))]
extern crate self as rehydrate;

mod activities;
mod activity_call;
#[cfg(target_family = "wasm")]
mod bindings;
mod child_call;
mod context;
mod delivery;
mod entity;
mod entity_ref;
mod failure;
mod first;
mod host;
#[cfg(all(feature = "http", target_family = "wasm"))]
pub mod http;
mod http_call;
mod operation;
mod panics;
mod reactor;
mod retry;
mod saga;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;
mod unwrapped;
#[cfg(target_family = "wasm")]
mod wire;

pub use activities::{ActivityContext, Attempt};
pub use activity_call::ActivityCall;
pub use child_call::{Child, ChildCall, ParentClose};
pub use context::Context;
pub use delivery::{Delivery, InstanceRef};
pub use entity::{Entity, EntityContext, OperationInfo};
pub use entity_ref::{EntityId, EntityRef, Lock, LockGuard};
pub use failure::{Failure, FailureKind, OrFail};
pub use host::{Info, Level};
pub use http_call::{HttpRequest, HttpResponse, StatusPattern};
pub use operation::{All, Callback, Elapsed, Operation, Timeout};
pub use rehydrate_macros::{activity, entity, workflow};
pub use retry::{ActivityOptions, RetryPolicy};
pub use saga::Saga;
pub use time::{InvalidTimestamp, Timestamp};
pub use unwrapped::Unwrapped;

/// Offers activities: the one macro of an activity component. Each is a function with
/// [`#[rehydrate::activity]`](activity), named by its path.
///
/// ```no_run
/// #[rehydrate::activity]
/// fn double(n: u64) -> Result<u64, rehydrate::Failure> {
///     Ok(n * 2)
/// }
///
/// rehydrate::activities!(double);
/// ```
#[macro_export]
macro_rules! activities {
    ($($activity:path),+ $(,)?) => {
        const _: () = assert!(
            $crate::__private::all_differ(&[$(<$activity as $crate::__private::Activity>::NAME),+]),
            "two activities have the same name",
        );
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the exports of a component are unsafe functions")]
        const _: () = {
            struct Export;

            impl $crate::__private::activity::Guest for Export {
                fn names() -> ::std::vec::Vec<::std::string::String> {
                    ::std::vec![$(<$activity as $crate::__private::Activity>::NAME.into()),+]
                }

                fn run(
                    name: ::std::string::String,
                    input: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, $crate::__private::WireFailure> {
                    $crate::__private::run_named(
                        &name,
                        &input,
                        &[$((
                            <$activity as $crate::__private::Activity>::NAME,
                            <$activity as $crate::__private::Activity>::run,
                        )),+],
                    )
                }
            }

            $crate::__private::activity::export_activity!(Export with_types_in $crate::__private::activity);
        };
    };
}

/// For the code that the macros write; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::activities::{Activity, all_differ, run_activity};
    use crate::context;
    pub use crate::entity::{change, consume, no_such_operation, read};
    use crate::{Context, Failure};
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    pub use serde::de::IgnoredAny;
    use std::future::Future;

    #[cfg(target_family = "wasm")]
    pub use crate::bindings::workflow::rehydrate::workflow::types::Failure as WireFailure;
    #[cfg(target_family = "wasm")]
    pub use crate::bindings::{activity, entity, workflow};
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen;

    /// Runs a workflow's body.
    pub fn run_workflow<I, O, E, F>(input: &str, body: impl FnOnce(Context, I) -> F) -> Result<String, Failure>
    where
        I: DeserializeOwned,
        O: Serialize,
        E: Into<Failure>,
        F: Future<Output = Result<O, E>>,
    {
        crate::panics::log_panics(|line| crate::host::log(crate::Level::Error, line));
        context::run_workflow(input, body)
    }

    /// Performs an operation of an entity.
    #[cfg(target_family = "wasm")]
    pub fn handle<E: crate::Entity>(operation: &str, input: &str) -> Result<String, WireFailure> {
        Ok(crate::entity::handle::<E>(operation, input)?)
    }

    /// An activity's name and its exported body.
    #[cfg(target_family = "wasm")]
    pub type Offered<'a> = (&'a str, fn(&str) -> Result<String, Failure>);

    /// Runs the activity of that name.
    #[cfg(target_family = "wasm")]
    pub fn run_named(name: &str, input: &str, offered: &[Offered<'_>]) -> Result<String, WireFailure> {
        crate::panics::log_panics(crate::activities::log_error);
        let found = offered.iter().find(|(offered, _)| *offered == name);
        let run = found.map(|(_, run)| run).ok_or_else(|| {
            let names = offered.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let message = format!("this component offers no activity `{name}`; it offers: {names}");
            Failure::new(crate::FailureKind::NotFound, "sdk.no-such-activity", message)
        });
        Ok(run?(input)?)
    }
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
