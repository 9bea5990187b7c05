//! What can go wrong on the way out, with stable codes.
//!
//! A message names the host, the reason and the next step. It never holds a query, a header value, a
//! body or a secret.

use rehydrate_core::{Failure, FailureKind};
use std::time::Duration;

/// A configuration that the outbound client cannot start with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OutboundConfigError {
    /// An entry that is no host, address or network.
    #[error(
        "`{entry}` in {setting} is not understood: {reason}; write a host such as `api.example.com`, \
         `*.example.com`, an address, a network such as `10.0.0.0/8`, `localhost` or `*`, each with `:port` if wanted"
    )]
    Entry {
        /// The list it is in.
        setting: String,
        /// As written.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret that cannot be had or must not be used.
    #[error("secret `{name}`: {reason}")]
    Secret {
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Certificate authorities that cannot be read.
    #[error("`outbound.ca-file` {path}: {reason}; give a PEM file with certificates")]
    CaFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit out of range.
    #[error("`outbound.limits.{name}` is {found}; {reason}")]
    Limit {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: u64,
        /// What it must be.
        reason: &'static str,
    },
    /// The TLS library refused to start.
    #[error("TLS cannot be set up: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

/// What a request was waiting for when its time ran out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Resolution, TCP and TLS.
    Connect,
    /// The request sent and the response's headers read.
    FirstByte,
    /// The next bytes of the response's body.
    BetweenBytes,
    /// The whole exchange, redirects and body counted.
    Total,
}

impl Phase {
    fn what(self) -> &'static str {
        match self {
            Phase::Connect => "no connection",
            Phase::FirstByte => "no response headers",
            Phase::BetweenBytes => "no more of the response's body",
            Phase::Total => "no complete response",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Phase::Connect => "connect-timeout-ms",
            Phase::FirstByte => "first-byte-timeout-ms",
            Phase::BetweenBytes => "between-bytes-timeout-ms",
            Phase::Total => "total-timeout-ms",
        }
    }
}

/// A request that did not get its response. `host` is host and port.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OutboundError {
    /// The policy does not allow it.
    #[error("{host} is refused: {reason}; to allow it, add `{entry}` to `outbound.allow` in the configuration")]
    Refused {
        /// Where the request would have gone.
        host: String,
        /// Why not.
        reason: String,
        /// The narrowest entry that would allow it.
        entry: String,
    },
    /// The request itself is not one that may be sent.
    #[error("the request cannot be sent: {reason}")]
    InvalidRequest {
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// A secret that is unknown or not meant for this host.
    #[error("{reason}")]
    Secret {
        /// Names the secret, never its value.
        reason: String,
    },
    /// The name has no address.
    #[error("{host} cannot be resolved: {reason}; check the name and the host's DNS")]
    Dns {
        /// Whose name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No address took the connection.
    #[error("{host} cannot be reached: {reason}; check that the service is running and the port is right")]
    Connect {
        /// Which service.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// No TLS session.
    #[error(
        "no TLS session with {host}: {reason}; check its certificate, or add the authority with `outbound.ca-file`"
    )]
    Tls {
        /// Which service.
        host: String,
        /// What the TLS library said.
        reason: String,
        /// Whether the certificate is to blame, so that another attempt is in vain.
        certificate: bool,
    },
    /// Time ran out.
    #[error(
        "{host}: {} within {after:?}; retry later or raise `outbound.limits.{}`",
        phase.what(),
        phase.setting()
    )]
    Timeout {
        /// Which service.
        host: String,
        /// What was waited for.
        phase: Phase,
        /// How long.
        after: Duration,
    },
    /// The request or the response is larger than allowed.
    #[error("{host}: {what} is larger than {limit} bytes; make it smaller or raise `outbound.limits.{setting}`")]
    TooLarge {
        /// Which service.
        host: String,
        /// What is too large.
        what: &'static str,
        /// At most this many bytes.
        limit: u64,
        /// The limit's name.
        setting: &'static str,
    },
    /// The connection broke, or the other side does not speak HTTP.
    #[error("{host}: the exchange broke off: {reason}; whether the service acted on the request is not known")]
    Broken {
        /// Which service.
        host: String,
        /// What happened.
        reason: String,
    },
}

impl OutboundError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            OutboundError::Refused { .. } => "outbound.refused",
            OutboundError::InvalidRequest { .. } => "outbound.invalid-request",
            OutboundError::Secret { .. } => "outbound.secret",
            OutboundError::Dns { .. } => "outbound.dns",
            OutboundError::Connect { .. } => "outbound.connect",
            OutboundError::Tls { .. } => "outbound.tls",
            OutboundError::Timeout { .. } => "outbound.timeout",
            OutboundError::TooLarge { .. } => "outbound.too-large",
            OutboundError::Broken { .. } => "outbound.broken",
        }
    }

    /// Whether another attempt may succeed with the same request and configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            OutboundError::Refused { .. }
            | OutboundError::InvalidRequest { .. }
            | OutboundError::Secret { .. }
            | OutboundError::TooLarge { .. } => false,
            OutboundError::Tls { certificate, .. } => !certificate,
            OutboundError::Dns { .. }
            | OutboundError::Connect { .. }
            | OutboundError::Timeout { .. }
            | OutboundError::Broken { .. } => true,
        }
    }

    /// The same as the failure of an activity.
    pub fn to_failure(&self) -> Failure {
        let kind = match self {
            OutboundError::Refused { .. } | OutboundError::InvalidRequest { .. } | OutboundError::Secret { .. } => {
                FailureKind::Rejected
            }
            OutboundError::Timeout { .. } => FailureKind::TimedOut,
            _ => FailureKind::Application,
        };
        let failure = Failure::new(kind, self.code(), self.to_string());
        if self.is_retryable() { failure.retryable() } else { failure }
    }

    /// The same with `mask` applied to what others wrote: a server's words may repeat what it was sent.
    pub(crate) fn map_reason(mut self, mask: impl Fn(&str) -> String) -> OutboundError {
        match &mut self {
            OutboundError::Refused { reason, .. }
            | OutboundError::InvalidRequest { reason }
            | OutboundError::Secret { reason }
            | OutboundError::Dns { reason, .. }
            | OutboundError::Connect { reason, .. }
            | OutboundError::Tls { reason, .. }
            | OutboundError::Broken { reason, .. } => *reason = mask(reason),
            OutboundError::Timeout { .. } | OutboundError::TooLarge { .. } => {}
        }
        self
    }
}
