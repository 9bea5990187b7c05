//! The one way out: every HTTP request that an activity makes, be it the built-in `http` activity or a
//! Wasm component with wasi:http, goes through [`OutboundClient`].
//!
//! What holds for all of them: only `http` and `https`; the host must be allowed; addresses are checked
//! after resolution and the connection is made to a checked address; a redirect is a new request and is
//! checked again; a secret is put in at send, only for the hosts it is meant for, and masked in whatever
//! comes back.
//!
//! Nothing here may use another HTTP client, a proxy from the environment, or a second reading of a URL
//! beside [`Target`]: two readings of one URL are how such checks are got around. Nothing here knows
//! instances, histories or the store.

mod address;
mod body;
mod client;
mod connector;
mod error;
mod http_activity;
mod mask;
mod policy;
mod redirect;
mod secrets;
mod target;
#[cfg(test)]
mod tests;

pub use address::AddressClass;
pub use body::ResponseBody;
pub use client::{OutboundClient, OutboundLimits, RequestBody, SendOptions};
pub use error::{OutboundConfigError, OutboundError, Phase};
pub use http_activity::run as run_http_activity;
pub use mask::Masker;
pub use policy::OutboundPolicy;
pub use secrets::{SecretConfig, SecretValue, Secrets};
pub use target::Target;
