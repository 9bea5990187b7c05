//! Opens connections: resolve, check every address, connect only to those that passed, then TLS.
//!
//! Resolution happens here and nowhere else, so that no second lookup can give another answer than the
//! one that was checked.

use super::error::{OutboundConfigError, OutboundError, Phase};
use super::policy::Rules;
use super::target::{Target, TargetHost};
use http::Uri;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

/// A connection as hyper uses it.
pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connector of the outbound client.
#[derive(Clone)]
pub(crate) struct CheckedConnector {
    rules: Arc<Rules>,
    tls: Arc<ClientConfig>,
    /// For resolution, TCP and TLS together.
    timeout: Duration,
}

/// TCP keep-alive, so that a service that vanished while a connection was idle is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl CheckedConnector {
    pub(crate) fn new(rules: Arc<Rules>, tls: ClientConfig, timeout: Duration) -> CheckedConnector {
        CheckedConnector { rules, tls: Arc::new(tls), timeout }
    }

    async fn connect_in_time(self, uri: Uri) -> Result<Stream, OutboundError> {
        let (target, uri) = Target::of_uri(&uri)?;
        let after = self.timeout;
        match tokio::time::timeout(after, self.connect(&target, uri)).await {
            Ok(connected) => connected,
            Err(_) => Err(OutboundError::Timeout { host: target.to_string(), phase: Phase::Connect, after }),
        }
    }

    async fn connect(&self, target: &Target, uri: Uri) -> Result<Stream, OutboundError> {
        self.rules.check_target(target)?;
        let addresses = self.checked_addresses(target).await?;
        let tcp = self.connect_tcp(target, uri, addresses).await?;
        if target.https { self.start_tls(target, tcp).await } else { Ok(MaybeHttpsStream::Http(tcp)) }
    }

    /// The addresses of the target that may be connected to; an error if there are none.
    async fn checked_addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, OutboundError> {
        let found = resolve(target).await?;
        let mut refused = None;
        let mut passed = Vec::new();
        for address in found {
            match self.rules.check_address(target, address.ip()) {
                Ok(()) => passed.push(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if !passed.is_empty() {
            return Ok(passed);
        }
        let none = || OutboundError::Dns { host: target.to_string(), reason: "the name has no address".to_owned() };
        Err(refused.unwrap_or_else(none))
    }

    async fn connect_tcp(
        &self,
        target: &Target,
        uri: Uri,
        addresses: Vec<SocketAddr>,
    ) -> Result<TokioIo<TcpStream>, OutboundError> {
        let mut connector = HttpConnector::new_with_resolver(Checked(addresses));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_connect_timeout(Some(self.timeout));
        let connected = connector.call(uri).await;
        connected.map_err(|e| OutboundError::Connect { host: target.to_string(), reason: super::client::chain(&e) })
    }

    async fn start_tls(&self, target: &Target, tcp: TokioIo<TcpStream>) -> Result<Stream, OutboundError> {
        let error =
            |reason: String, certificate: bool| OutboundError::Tls { host: target.to_string(), reason, certificate };
        let name = match &target.host {
            TargetHost::Ip(ip) => ServerName::IpAddress((*ip).into()),
            TargetHost::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|e| error(format!("{name} is no TLS name: {e}"), true))?
            }
        };
        // The same wrapping as hyper-rustls uses, which then knows what ALPN agreed on.
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, TokioIo::new(tcp)).await;
        let stream = stream.map_err(|e| error(e.to_string(), is_certificate_error(&e)))?;
        Ok(MaybeHttpsStream::Https(TokioIo::new(stream)))
    }
}

impl Service<Uri> for CheckedConnector {
    type Response = Stream;
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, OutboundError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OutboundError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect_in_time(uri))
    }
}

/// Answers with addresses that were checked before; looks nothing up.
#[derive(Clone)]
struct Checked(Vec<SocketAddr>);

impl Service<Name> for Checked {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, OutboundError> {
    let name = match &target.host {
        TargetHost::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, target.port)]),
        TargetHost::Name(name) => name.as_str(),
    };
    match tokio::net::lookup_host((name, target.port)).await {
        // An IPv4-mapped answer is connected to as the IPv4 address that was checked.
        Ok(found) => Ok(found.map(|a| SocketAddr::new(unmapped(a.ip()), a.port())).collect()),
        Err(e) => Err(OutboundError::Dns { host: target.to_string(), reason: e.to_string() }),
    }
}

fn unmapped(ip: IpAddr) -> IpAddr {
    super::address::canonical(ip)
}

fn is_certificate_error(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// TLS 1.2 and 1.3 with the public authorities and those of `ca_file`.
pub(crate) fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, OutboundConfigError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add_authorities(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| OutboundConfigError::Tls { reason: e.to_string() })?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), OutboundConfigError> {
    let error = |reason: String| OutboundConfigError::CaFile { path: path.display().to_string(), reason };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| error(e.to_string()))?;
    let mut added = 0_usize;
    for certificate in certificates {
        let certificate = certificate.map_err(|e| error(e.to_string()))?;
        roots.add(certificate).map_err(|e| error(e.to_string()))?;
        added += 1;
    }
    if added == 0 { Err(error("it holds no certificate".to_owned())) } else { Ok(()) }
}
