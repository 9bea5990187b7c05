//! The guest room: turns a component into a deterministic machine that asks core at every import.
//!
//! It knows wasmtime and core, and neither the store nor the runtime: whoever drives a
//! [`WorkflowGuest`] hands it a [`rehydrate_core::Replay`] and takes from it what is to be committed. A
//! workflow sees nothing but that replay and a virtual WASI 0.2; an activity sees the real clock and the
//! network through [`OutboundHttp`].

mod activity;
mod bindings;
mod component;
mod contract;
mod convert;
mod engine;
mod entity;
mod limiter;
mod log;
mod trap;
mod warm;
mod wasi;
mod workflow;

pub use activity::{
    ActivityHost, ActivityLog, ActivityRequest, BoxError, BoxFuture, HttpBody, HttpTimeouts, OutboundHttp,
};
pub use component::{ActivityComponent, Component, EntityComponent, WorkflowComponent};
pub use engine::{DeployError, GuestEngine, GuestSettings, SetupError};
pub use entity::{EntityRequest, EntitySend, EntityTurn, perform};
pub use log::{Level, LogLine};
pub use workflow::{CallbackUrls, Step, Stopped, WorkflowGuest};
