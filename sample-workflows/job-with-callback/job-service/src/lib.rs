//! A small HTTP job service in the style of the Databricks Jobs API: submit a run, get it, cancel it, and
//! be told by webhook when it is over.
//!
//! It stands for the external system of the sample workflow, and can be told per job to behave as badly as
//! external systems do. It knows nothing of Rehydrate: a callback URL is any URL to it.
//!
//! * [`behaviour`] reads what a job asks for.
//! * [`jobs`] holds the runs and their ledger; no I/O, no clock.
//! * [`webhook`] delivers.
//! * [`api`] is the HTTP side and the only place that waits.

pub mod api;
pub mod behaviour;
pub mod jobs;
pub mod webhook;
