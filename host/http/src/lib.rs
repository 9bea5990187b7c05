//! The host over HTTP: the admin API and the public callbacks, each on its own listener.
//!
//! This room translates: a request becomes a call of the runtime, its answer becomes JSON. It decides
//! nothing about instances, keeps nothing between requests, and never touches the store or a guest. hyper
//! owns the connections; what it leaves open (bodies that never end, readers that never read, too many
//! connections) is bounded here. Nothing here may log a request's path: callbacks carry their secret in it.

mod admin;
#[cfg(test)]
mod api_tests;
mod auth;
mod body;
mod cursor;
pub mod dto;
pub mod events;
mod facade;
mod openapi;
pub mod paths;
mod problem;
mod public;
mod request;
mod server;
mod show;
mod sse;
mod stall;

pub use admin::{AdminOptions, AdminServer};
pub use openapi::document as openapi_document;
pub use problem::Problem;
pub use public::PublicServer;
pub use server::{Bound, HttpError, HttpLimits};
