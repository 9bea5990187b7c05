//! The raw limits of the machine: what its parts can do without the host around them.

pub mod http;
pub mod replay;
pub mod store;
