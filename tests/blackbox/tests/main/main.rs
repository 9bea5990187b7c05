//! All black-box tests, as one binary: each would link everything again.
//!
//! They see what a user sees: the command, HTTP, files. `cargo verify` builds what they start.

mod activities;
mod architecture;
mod callbacks;
mod children;
mod continue_as_new;
mod crash;
mod crash_model;
mod crash_points;
mod deploy;
mod deploy_check;
mod determinism;
mod durable_clients;
mod entities;
mod events;
mod facade;
mod jobs;
mod lifecycle;
mod limits;
mod list;
mod listeners;
mod messages;
mod purge;
mod replay;
mod restart;
mod samples;
mod schedules;
mod start;
mod versions;
