//! The admin listener: everything about components and instances, for those who run the host.
//!
//! Every request passes the [`Guard`] first. Only the two probes are served without a token.

pub mod components;
pub mod entities;
pub mod history;
pub mod host;
pub mod instances;
pub mod messages;
pub mod schedules;
pub mod upkeep;
pub mod versions;

use crate::auth::{Guard, TOKEN_CHARS_MIN};
use crate::body::{self, BodySize, BodyTime};
use crate::facade::{self, Facade};
use crate::problem::Problem;
use crate::server::{Bound, Draining, HttpError, HttpLimits, Server};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post, put};
use bytes::Bytes;
use http::StatusCode;
use rehydrate_runtime::{InstanceResult, Runtime, WatchedRun};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Paths that need no token.
const PROBES: [&str; 2] = ["/v1/health", "/v1/ready"];

/// Room for what stands around a payload in a request.
const FORM_BYTES: usize = 64 << 10;

/// Uploads read and compiled at once: each may need hundreds of megabytes.
const UPLOADS_MAX: usize = 2;

/// What the admin listener can be told.
#[derive(Clone, Debug, Default)]
pub struct AdminOptions {
    /// The bearer token; required unless the address is a loopback one.
    pub token: Option<String>,
    /// Names, without port, under which the listener is reached, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The largest component, in bytes.
    pub component_bytes: usize,
    /// Whether the API of Azure Durable Functions is served as well.
    pub durable_functions: bool,
}

impl AdminOptions {
    /// Whether a listener at that address may be served so.
    pub fn check(&self, address: SocketAddr) -> Result<(), HttpError> {
        match &self.token {
            None if address.ip().is_loopback() => Ok(()),
            None => Err(HttpError::TokenRequired { address }),
            Some(token) => {
                let chars = token.chars().count();
                let min = TOKEN_CHARS_MIN;
                if chars < min { Err(HttpError::TokenTooShort { chars, min }) } else { Ok(()) }
            }
        }
    }
}

/// The running admin server.
#[derive(Debug)]
pub struct AdminServer(Server);

impl AdminServer {
    /// Serves the API of that runtime; refused without a token on an address that others can reach.
    pub fn start(
        bound: Bound,
        runtime: Runtime,
        options: AdminOptions,
        limits: HttpLimits,
    ) -> Result<AdminServer, HttpError> {
        let local = bound.local_addr();
        options.check(local)?;
        let time = BodyTime::of(&limits);
        let routes = |draining| routes(local, runtime, &options, time, draining);
        let server = Server::start(bound, limits, routes);
        Ok(AdminServer(server))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Stops accepting, ends followed histories and waits for open requests, at most for `grace`; whether
    /// all ended.
    pub async fn drain(self, grace: Duration) -> bool {
        self.0.drain(grace).await
    }
}

/// What the handlers share.
#[derive(Clone)]
pub struct Admin {
    pub(crate) runtime: Runtime,
    pub(crate) time: BodyTime,
    component_bytes: usize,
    uploads: Arc<Semaphore>,
    draining: Draining,
}

impl Admin {
    /// A body that holds at most a payload and a little around it.
    async fn body(&self, body: Body) -> Result<Bytes, Problem> {
        let limit = BodySize::payload(self.runtime.limits(), FORM_BYTES);
        body::read(body, limit, self.time).await
    }

    /// How an instance stands, once it has ended, at the latest after `patience`; a host that drains does not wait.
    pub(crate) async fn result(&self, id: &str, patience: Duration) -> Result<InstanceResult, Problem> {
        self.result_of(self.runtime.watch_result(id), patience).await
    }

    /// The same of one that is watched already.
    pub(crate) async fn result_of(
        &self,
        mut watched: WatchedRun,
        patience: Duration,
    ) -> Result<InstanceResult, Problem> {
        let mut draining = self.draining.clone();
        tokio::select! {
            biased;
            result = self.runtime.result_of(&mut watched, patience) => Ok(result?),
            () = draining.begun() => Ok(self.runtime.result_of(&mut watched, Duration::ZERO).await?),
        }
    }
}

/// The whole API behind its guard.
pub(crate) fn routes(
    local: SocketAddr,
    runtime: Runtime,
    options: &AdminOptions,
    time: BodyTime,
    draining: Draining,
) -> Router {
    let guard = Arc::new(Guard::new(local, options.token.as_deref(), &options.hosts));
    let uploads = Arc::new(Semaphore::new(UPLOADS_MAX));
    let admin = Admin { runtime, time, component_bytes: options.component_bytes, uploads, draining };
    let facade = options.durable_functions.then(|| Facade(admin.clone()));
    router(admin, facade, guard)
}

fn router(admin: Admin, facade: Option<Facade>, guard: Arc<Guard>) -> Router {
    let routes = Router::new()
        .route("/v1/components", get(components::list))
        .route(
            "/v1/components/{name}/{version}",
            put(components::deploy).get(versions::describe).delete(versions::remove),
        )
        .route("/v1/components/{name}/{version}/check", post(versions::check))
        .route("/v1/components/{name}/{version}/migrate", post(versions::migrate))
        .route("/v1/instances", get(instances::list).post(instances::start).delete(upkeep::purge_where))
        .route("/v1/instances/{id}", get(instances::describe).delete(upkeep::purge))
        .route("/v1/instances/{id}/restart", post(upkeep::restart))
        .route("/v1/instances/{id}/result", get(instances::result))
        .route("/v1/instances/{id}/custom-status", get(instances::custom_status))
        .route("/v1/instances/{id}/suspend", post(messages::suspend))
        .route("/v1/instances/{id}/resume", post(messages::resume))
        .route("/v1/instances/{id}/rewind", post(messages::rewind))
        .route("/v1/instances/{id}/migrate", post(instances::migrate))
        .route("/v1/instances/{id}/replay", post(instances::replay))
        .route("/v1/instances/{id}/history", get(history::history))
        .route("/v1/instances/{id}/events", get(history::follow))
        .route("/v1/instances/{id}/log", get(history::log))
        .route("/v1/instances/{id}/signals/{name}", post(messages::signal))
        .route("/v1/instances/{id}/cancel", post(messages::cancel))
        .route("/v1/instances/{id}/terminate", post(messages::terminate))
        .route("/v1/entities", get(entities::list))
        .route("/v1/entities/{name}/{key}", get(entities::describe))
        .route("/v1/entities/{name}/{key}/call/{operation}", post(entities::call))
        .route("/v1/entities/{name}/{key}/signal/{operation}", post(entities::signal))
        .route("/v1/schedules", get(schedules::list))
        .route("/v1/schedules/{name}", put(schedules::put).get(schedules::show).delete(schedules::delete))
        .route("/v1/schedules/{name}/pause", post(schedules::pause))
        .route("/v1/schedules/{name}/resume", post(schedules::resume))
        .route("/v1/schedules/{name}/trigger", post(schedules::trigger))
        .route("/v1/health", get(host::health))
        .route("/v1/ready", get(host::ready))
        .route("/v1/stats", get(host::stats))
        .route("/openapi.json", get(host::openapi))
        .method_not_allowed_fallback(async || {
            let detail = "this path does not take that method; see /openapi.json";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method.not-allowed", detail)
        })
        .fallback(async || {
            Problem::new(StatusCode::NOT_FOUND, "path.not-found", "there is no such path; see /openapi.json")
        })
        .with_state(admin);
    let routes = match facade {
        Some(facade) => routes.route(&format!("{}/{{*path}}", facade::BASE), any(facade::handle).with_state(facade)),
        None => routes,
    };
    routes.layer(middleware::from_fn_with_state(guard, guarded))
}

async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Problem> {
    let path = request.uri().path();
    let has_code = path.starts_with(facade::BASE) && guard.allows_code(facade::code(request.uri()).as_deref());
    let open = has_code || PROBES.contains(&path);
    guard.check(request.uri(), request.headers(), open)?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, token: Option<&str>) -> Result<(), String> {
        let options = AdminOptions { token: token.map(str::to_owned), ..AdminOptions::default() };
        options.check(address.parse().expect("an address")).map_err(|error| error.to_string())
    }

    #[test]
    fn beyond_loopback_a_token_is_required() {
        assert_eq!(check("127.0.0.1:7070", None), Ok(()));
        assert_eq!(check("[::1]:7070", None), Ok(()));
        for address in ["0.0.0.0:7070", "10.0.0.1:7070", "[::]:7070"] {
            assert!(check(address, None).expect_err(address).contains("--admin-token-file"));
            assert_eq!(check(address, Some("0123456789abcdef")), Ok(()));
        }
    }

    #[test]
    fn a_short_token_is_refused_even_on_loopback() {
        assert!(check("127.0.0.1:7070", Some("short")).expect_err("refused").contains("at least 16"));
    }
}
