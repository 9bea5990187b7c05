//! Bare activities: a component called again and again on one thread, with no runtime and no store around it.

use crate::host::Places;
use anyhow::{anyhow, bail};
use futures::executor::block_on;
use rehydrate_core::Limits;
use rehydrate_guest::{
    ActivityComponent, ActivityHost, ActivityLog, ActivityRequest, BoxError, BoxFuture, Component, HttpBody,
    HttpTimeouts, OutboundHttp,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls between two looks at the clock.
const CALLS: u64 = 1_000;

/// Calls the activity of W1.
pub struct Caller {
    component: ActivityComponent,
    host: ActivityHost,
}

impl Caller {
    /// Compiles the component; what was compiled is kept in `directory`.
    pub fn new(places: &Places, directory: &Path) -> anyhow::Result<Caller> {
        let limits = Limits::default();
        let component = super::load(&places.activities, directory, &limits)?;
        let Component::Activity(component) = component else { bail!("the activities' component offers none") };
        Ok(Caller { component, host: ActivityHost::new(Arc::new(NoNetwork), limits) })
    }

    /// Calls it for `length`; how often.
    pub fn call_for(&self, length: Duration) -> anyhow::Result<u64> {
        let (begun, mut calls) = (Instant::now(), 0);
        while begun.elapsed() < length {
            (0..CALLS).try_for_each(|_| self.call())?;
            calls += CALLS;
        }
        Ok(calls)
    }

    fn call(&self) -> anyhow::Result<()> {
        let request = ActivityRequest {
            instance_id: "bare".to_owned(),
            run: 1,
            attempt: 1,
            idempotency_key: "bare-1-2-1".to_owned(),
            heartbeat: Box::new(|| {}),
            cancelled: Arc::default(),
        };
        let log = ActivityLog::default();
        let outcome = block_on(self.host.run(&self.component, "next", &"1".to_owned(), request, &log));
        match outcome {
            Ok(output) if output == "2" => Ok(()),
            other => Err(anyhow!("the activity should have given 2, but: {other:?}")),
        }
    }
}

/// The activity asks for nothing.
struct NoNetwork;

impl OutboundHttp for NoNetwork {
    fn send(
        &self,
        _request: http::Request<HttpBody>,
        _timeouts: HttpTimeouts,
    ) -> BoxFuture<Result<http::Response<HttpBody>, BoxError>> {
        Box::pin(async { Err("there is no network here".into()) })
    }
}
