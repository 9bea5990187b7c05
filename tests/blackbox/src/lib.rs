//! What the black-box tests stand on: the built programs as child processes, and clients that speak HTTP.
//!
//! It links nothing of the host: all it knows is what a user can see. Every process started here ends with
//! the test process, even if that is killed, and every wait has a deadline and says what it last saw.

pub mod client;
pub mod history;
pub mod host;
pub mod job_service;
pub mod process;
pub mod programs;
pub mod shop_service;
pub mod sink;
pub mod wait;

pub use client::{Answer, Client};
pub use host::{Host, HostSettings};
pub use job_service::JobService;
pub use shop_service::ShopService;
pub use sink::Sink;
pub use wait::{eventually, within};
