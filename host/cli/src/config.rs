//! The host's configuration: flags before environment before file before defaults.
//!
//! Nothing is guessed: a key of the file that is not known is an error that names it, and a secret is read from
//! a file or a variable, never from the command line, where everybody on the machine could see it.

use crate::args::{HostArgs, LogFormat};
use crate::retention::RetentionTable;
use anyhow::{Context as _, bail};
use rehydrate_core::{Limits, Nanos};
use rehydrate_http::{AdminOptions, HttpLimits};
use rehydrate_runtime::outbound::{OutboundClient, OutboundLimits, OutboundPolicy, SecretConfig, Secrets};
use rehydrate_runtime::{RetentionConfig, RuntimeConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Made for tests of recovery, and no setting: the number of the store's write after which the process aborts.
const ABORT_AFTER_WRITES: &str = "REHYDRATE_ABORT_AFTER_WRITES";

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    data_dir: Option<PathBuf>,
    http: HttpTable,
    runtime: RuntimeTable,
    retention: RetentionTable,
    limits: Limits,
    outbound: OutboundTable,
    secrets: BTreeMap<String, SecretConfig>,
    log: LogTable,
}

/// `[http]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct HttpTable {
    admin_listen: Option<SocketAddr>,
    public_listen: Option<SocketAddr>,
    public_url: Option<String>,
    admin_token_file: Option<PathBuf>,
    admin_hosts: Vec<String>,
    durable_functions: bool,
    connections: usize,
    head_timeout_ms: u64,
    body_idle_timeout_ms: u64,
    body_timeout_ms: u64,
    write_timeout_ms: u64,
}

impl Default for HttpTable {
    fn default() -> Self {
        let limits = HttpLimits::default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        HttpTable {
            admin_listen: None,
            public_listen: None,
            public_url: None,
            admin_token_file: None,
            admin_hosts: Vec::new(),
            durable_functions: true,
            connections: limits.connections,
            head_timeout_ms: millis(limits.head),
            body_idle_timeout_ms: millis(limits.body_idle),
            body_timeout_ms: millis(limits.body_total),
            write_timeout_ms: millis(limits.write),
        }
    }
}

/// `[runtime]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct RuntimeTable {
    resident_instances: usize,
    resident_mb: usize,
    activity_concurrency: usize,
    queue_concurrency: BTreeMap<String, usize>,
    default_start_to_close_ms: u64,
    component_mb: usize,
    compile_timeout_ms: u64,
    free_mb_min: u64,
    idempotency_retention_hours: u64,
    shutdown_grace_ms: u64,
    schedules_max: usize,
}

impl Default for RuntimeTable {
    fn default() -> Self {
        RuntimeTable {
            resident_instances: 2_000,
            resident_mb: 512,
            activity_concurrency: 256,
            queue_concurrency: BTreeMap::new(),
            default_start_to_close_ms: 10 * 60 * 1_000,
            component_mb: 64,
            compile_timeout_ms: 60_000,
            free_mb_min: 256,
            idempotency_retention_hours: 24 * 7,
            shutdown_grace_ms: 10_000,
            schedules_max: 10_000,
        }
    }
}

/// `[outbound]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct OutboundTable {
    allow: Vec<String>,
    ca_file: Option<PathBuf>,
    limits: OutboundLimits,
}

impl Default for OutboundTable {
    fn default() -> Self {
        let OutboundPolicy { allow, ca_file } = OutboundPolicy::default();
        OutboundTable { allow, ca_file, limits: OutboundLimits::default() }
    }
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct LogTable {
    level: Option<String>,
    format: LogFormat,
}

/// How the host logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// A level or directives.
    pub level: String,
    /// Lines or JSON.
    pub format: LogFormat,
}

/// Everything a host is told.
#[derive(Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub admin_listen: SocketAddr,
    pub public_listen: SocketAddr,
    /// None: the public listener's own address.
    pub public_url: Option<String>,
    pub admin: AdminOptions,
    pub http: HttpLimits,
    pub limits: Limits,
    pub log: Log,
    pub shutdown_grace: Duration,
    /// Writes of the store after which the process aborts. None: never.
    pub abort_after_writes: Option<NonZeroU64>,
    runtime: RuntimeTable,
    retention: RetentionConfig,
    outbound: OutboundPolicy,
    outbound_limits: OutboundLimits,
    secrets: BTreeMap<String, SecretConfig>,
}

impl Settings {
    /// Puts flags, environment, file and defaults together. `default_data_dir`: where everything is kept if
    /// nobody says; `env` reads a variable.
    pub fn load(
        args: &HostArgs,
        default_data_dir: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Settings> {
        let file = args.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let HttpTable { admin_hosts, admin_token_file, .. } = &file.http;
        let token_file = args.admin_token_file.as_ref().or(admin_token_file.as_ref());
        let token = token(env("REHYDRATE_ADMIN_TOKEN"), token_file.map(PathBuf::as_path))?;
        let hosts = admin_hosts.iter().chain(&args.admin_hosts).cloned().collect();
        let public_url = args.public_url.as_ref().or(file.http.public_url.as_ref());
        let runtime = RuntimeTable {
            resident_instances: args.resident_instances.unwrap_or(file.runtime.resident_instances),
            resident_mb: args.resident_mb.unwrap_or(file.runtime.resident_mb),
            activity_concurrency: args.activity_concurrency.unwrap_or(file.runtime.activity_concurrency),
            ..file.runtime
        };
        check(&runtime, &file.http)?;
        let allow = file.outbound.allow.into_iter().chain(args.allow_outbound.iter().cloned()).collect();
        Ok(Settings {
            data_dir: args.data_dir.clone().or(file.data_dir).unwrap_or_else(|| default_data_dir.to_owned()),
            admin_listen: args.admin_listen.or(file.http.admin_listen).unwrap_or(loopback(7070)),
            public_listen: args.public_listen.or(file.http.public_listen).unwrap_or(loopback(7071)),
            public_url: public_url.map(|url| base_url(url)).transpose()?,
            admin: AdminOptions {
                token,
                hosts,
                component_bytes: runtime.component_mb.saturating_mul(MIB),
                durable_functions: file.http.durable_functions,
            },
            http: http_limits(&file.http),
            limits: file.limits,
            log: Log {
                level: args.log_level.clone().or(file.log.level).unwrap_or_else(|| "info".to_owned()),
                format: args.log_format.unwrap_or(file.log.format),
            },
            shutdown_grace: Duration::from_millis(runtime.shutdown_grace_ms),
            abort_after_writes: abort_after_writes(env(ABORT_AFTER_WRITES))?,
            runtime,
            retention: file.retention.config()?,
            outbound: OutboundPolicy { allow, ca_file: file.outbound.ca_file },
            outbound_limits: file.outbound.limits,
            secrets: file.secrets,
        })
    }

    /// Lets activities call programs on this machine.
    pub fn allow_localhost(&mut self) {
        self.outbound.allow.push("localhost".to_owned());
    }

    /// The runtime's part, once the public listener's address is known.
    pub fn runtime(&self, public: SocketAddr) -> anyhow::Result<RuntimeConfig> {
        let public_url = match &self.public_url {
            Some(url) => url.clone(),
            None if public.ip().is_unspecified() => bail!(
                "the public listener is at {public}, which is no address to call; say by --public-url how \
                 external systems reach it"
            ),
            None => format!("http://{public}"),
        };
        let secrets = Secrets::load(&self.secrets)?;
        Ok(RuntimeConfig {
            data_dir: self.data_dir.clone(),
            public_url,
            limits: self.limits.clone(),
            resident_instances: self.runtime.resident_instances,
            resident_bytes: self.runtime.resident_mb.saturating_mul(MIB),
            activity_concurrency: self.runtime.activity_concurrency,
            queue_concurrency: self.runtime.queue_concurrency.clone(),
            default_start_to_close: Nanos::from_millis(self.runtime.default_start_to_close_ms),
            component_bytes: self.admin.component_bytes,
            compile_timeout: Nanos::from_millis(self.runtime.compile_timeout_ms),
            free_bytes_min: self.runtime.free_mb_min.saturating_mul(1 << 20),
            idempotency_retention: Nanos::from_secs(self.runtime.idempotency_retention_hours.saturating_mul(3_600)),
            retention: self.retention.clone(),
            schedules_max: self.runtime.schedules_max,
            outbound: OutboundClient::new(&self.outbound, secrets, self.outbound_limits.clone())?,
        })
    }
}

fn abort_after_writes(value: Option<String>) -> anyhow::Result<Option<NonZeroU64>> {
    let parse = |text: String| {
        text.parse().with_context(|| format!("{ABORT_AFTER_WRITES} is `{text}`; give a number from 1, or unset it"))
    };
    value.map(parse).transpose()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn http_limits(table: &HttpTable) -> HttpLimits {
    HttpLimits {
        connections: table.connections,
        head: Duration::from_millis(table.head_timeout_ms),
        body_idle: Duration::from_millis(table.body_idle_timeout_ms),
        body_total: Duration::from_millis(table.body_timeout_ms),
        write: Duration::from_millis(table.write_timeout_ms),
    }
}

/// A zero here would mean a host that does nothing.
fn check(runtime: &RuntimeTable, http: &HttpTable) -> anyhow::Result<()> {
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let settings = [
        ("runtime.resident-instances", wide(runtime.resident_instances)),
        ("runtime.activity-concurrency", wide(runtime.activity_concurrency)),
        ("runtime.component-mb", wide(runtime.component_mb)),
        ("runtime.compile-timeout-ms", runtime.compile_timeout_ms),
        ("runtime.default-start-to-close-ms", runtime.default_start_to_close_ms),
        ("http.connections", wide(http.connections)),
        ("http.head-timeout-ms", http.head_timeout_ms),
        ("http.body-idle-timeout-ms", http.body_idle_timeout_ms),
        ("http.body-timeout-ms", http.body_timeout_ms),
        ("http.write-timeout-ms", http.write_timeout_ms),
    ];
    match settings.into_iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => bail!("`{name}` is 0; give at least 1"),
        None => Ok(()),
    }
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("the configuration file {} can't be read; give another by --config", path.display())
    })?;
    parse(&text).with_context(|| format!("the configuration file {} is wrong; correct it", path.display()))
}

fn parse(text: &str) -> anyhow::Result<File> {
    Ok(toml::from_str(text)?)
}

/// A token from a variable or, before that, a file.
pub fn token(variable: Option<String>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = file else { return Ok(variable.filter(|token| !token.is_empty())) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the token file {} can't be read; check its path and rights", path.display()))?;
    let token = text.trim();
    if token.is_empty() {
        bail!(
            "the token file {} is empty; write a token into it, for example from `openssl rand -hex 32`",
            path.display()
        );
    }
    Ok(Some(token.to_owned()))
}

/// A base URL without its last slash.
fn base_url(text: &str) -> anyhow::Result<String> {
    let next = "give one such as https://callbacks.example.com";
    let url = reqwest::Url::parse(text).with_context(|| format!("the public URL `{text}` is no URL; {next}"))?;
    let bare =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !bare {
        bail!("the public URL `{text}` is more or less than scheme, host, port and path; {next}");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
