//! The raw limits of the machine: what its parts can do without the host around them.

pub mod activity;
pub mod http;
pub mod parts;
pub mod replay;
pub mod store;
