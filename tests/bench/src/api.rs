//! The few things of the host's API that are needed here.

use crate::client::{Answer, Conn};
use crate::host::WORKFLOW;
use anyhow::{Context as _, bail};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest the host is asked to hold an answer back.
const WAIT_SECONDS: u64 = 30;

/// How often is asked again for what can't be waited for.
const POLL: Duration = Duration::from_millis(20);

/// Counters of the host. Those that it does not have are zero.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// How writes become durable.
    pub durability: String,
    /// Synced writes.
    pub commits: u64,
    /// Batches in them.
    pub batches: u64,
    /// Bytes of those, roughly.
    pub batch_bytes: u64,
    /// Bytes written to the write-ahead log, if the host counts them.
    pub wal_bytes: Option<u64>,
    /// Guests in memory.
    pub resident_instances: u64,
    /// Bytes they take, roughly.
    pub resident_bytes: u64,
}

/// An instance in a list.
#[derive(Debug, Deserialize)]
pub struct Summary<'a> {
    /// Its id.
    pub id: &'a str,
    /// When it was created.
    pub created: &'a str,
    /// When its last event was recorded.
    pub updated: &'a str,
}

#[derive(Debug, Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    instances: Vec<Summary<'a>>,
    next_cursor: Option<String>,
}

/// One event of a history.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// When it was recorded.
    #[serde(deserialize_with = "time")]
    pub time: jiff::Timestamp,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A piece of a history.
#[derive(Debug, Deserialize)]
pub struct History {
    /// The events asked for.
    pub events: Vec<Event>,
    /// The last event there is.
    pub last: u64,
}

fn time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<jiff::Timestamp, D::Error> {
    let text = <&str>::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Deploys a component.
pub async fn deploy(conn: &mut Conn, name: &str, file: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let path = format!("/v1/components/{name}/1");
    let answer = conn.send(&Method::PUT, &path, &bytes).await?;
    answer.expect(201, &format!("deploying {}", file.display())).map(drop)
}

/// The counters.
pub async fn stats(conn: &mut Conn) -> anyhow::Result<Stats> {
    let answer = conn.get("/v1/stats").await?.expect(200, "reading the counters")?;
    serde_json::from_slice(&answer.body).context("the counters are not what they were")
}

fn start_body(id: &str, input: &str) -> String {
    format!(r#"{{"workflow":"{WORKFLOW}","id":"{id}","input":{input}}}"#)
}

/// Starts an instance.
pub async fn start(conn: &mut Conn, id: &str, input: &str) -> anyhow::Result<()> {
    let answer = conn.post("/v1/instances", start_body(id, input)).await?;
    if answer.status == 202 { Ok(()) } else { answer.expect(202, &format!("starting {id}")).map(drop) }
}

/// Starts an instance and waits until it has completed.
pub async fn run(conn: &mut Conn, id: &str, input: &str, limit: Duration) -> anyhow::Result<Answer> {
    let path = format!("/v1/instances?wait_seconds={WAIT_SECONDS}");
    let begun = Instant::now();
    let answer = conn.post(&path, start_body(id, input)).await?;
    match answer.status {
        200 => completed(id, answer),
        202 => result(conn, id, limit.saturating_sub(begun.elapsed())).await,
        _ => answer.expect(200, &format!("starting {id}")),
    }
}

/// Waits until an instance has completed.
pub async fn result(conn: &mut Conn, id: &str, limit: Duration) -> anyhow::Result<Answer> {
    let path = format!("/v1/instances/{id}/result?wait_seconds={WAIT_SECONDS}");
    let begun = Instant::now();
    loop {
        let answer = conn.get(&path).await?;
        match answer.status {
            200 => return completed(id, answer),
            202 if begun.elapsed() < limit => {}
            202 => bail!("instance {id} has not ended within {limit:?}"),
            _ => return answer.expect(200, &format!("waiting for {id}")),
        }
    }
}

fn completed(id: &str, answer: Answer) -> anyhow::Result<Answer> {
    if answer.has(r#""state":"completed""#) {
        return Ok(answer);
    }
    bail!("instance {id} ended, but did not complete: {}", answer.excerpt());
}

/// The output in the answer of [`run`] or [`result`].
pub fn output<T: serde::de::DeserializeOwned>(answer: &Answer) -> anyhow::Result<T> {
    #[derive(Deserialize)]
    struct Result<'a> {
        #[serde(borrow)]
        output: &'a RawValue,
    }
    let result: Result<'_> = serde_json::from_slice(&answer.body).context("a result has an output")?;
    serde_json::from_str(result.output.get()).with_context(|| format!("the output is {}", result.output))
}

/// The path on the public listener of the callback that an instance shows in its status.
pub async fn shown_callback(conn: &mut Conn, id: &str) -> anyhow::Result<String> {
    const LIMIT: Duration = Duration::from_secs(30);
    let (path, begun) = (format!("/v1/instances/{id}"), Instant::now());
    loop {
        let answer = conn.get(&path).await?.expect(200, &format!("looking at {id}"))?;
        if let Some(callback) = callback_path(&answer.body) {
            return Ok(callback);
        }
        if begun.elapsed() > LIMIT {
            bail!("instance {id} showed no callback within {LIMIT:?}: {}", answer.excerpt());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Finds `"custom_status":"http://<address>/callbacks/<token without its marker>"` and puts the marker back.
fn callback_path(status: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(status).ok()?;
    let (_, after) = text.split_once(r#""custom_status":""#)?;
    let (_, token) = after.split_once('"')?.0.split_once("/callbacks/")?;
    Some(format!("/callbacks/rhcb_{token}"))
}

/// Completes a callback.
pub async fn call_back(conn: &mut Conn, path: &str) -> anyhow::Result<()> {
    let answer = conn.post(path, "7").await?;
    if answer.status == 202 { Ok(()) } else { answer.expect(202, "completing a callback").map(drop) }
}

/// Looks at every instance of a state, page by page.
pub async fn for_each(
    conn: &mut Conn,
    state: &str,
    mut look: impl FnMut(&Summary<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let first = format!("/v1/instances?state={state}&limit=500");
    let mut path = first.clone();
    loop {
        let answer = conn.get(&path).await?.expect(200, "listing instances")?;
        let page: List<'_> = serde_json::from_slice(&answer.body).context("a list is not what it was")?;
        page.instances.iter().try_for_each(&mut look)?;
        let Some(cursor) = page.next_cursor else { return Ok(()) };
        path = format!("{first}&cursor={cursor}");
    }
}

/// Waits until no instance runs any more, and makes sure that none failed.
pub async fn none_runs(conn: &mut Conn, limit: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while let Some(id) = any(conn, "running").await? {
        if begun.elapsed() > limit {
            bail!("instance {id} still runs after {limit:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    for state in ["failed", "paused"] {
        if let Some(id) = any(conn, state).await? {
            bail!("instance {id} is {state}; no work here should be");
        }
    }
    Ok(())
}

/// The id of an instance in that state.
async fn any(conn: &mut Conn, state: &str) -> anyhow::Result<Option<String>> {
    let mut path = format!("/v1/instances?state={state}&limit=1");
    loop {
        let answer = conn.get(&path).await?.expect(200, "listing instances")?;
        let page: List<'_> = serde_json::from_slice(&answer.body).context("a list is not what it was")?;
        if let Some(one) = page.instances.first() {
            return Ok(Some(one.id.to_owned()));
        }
        let Some(cursor) = page.next_cursor else { return Ok(None) };
        path = format!("/v1/instances?state={state}&limit=1&cursor={cursor}");
    }
}

/// Events from one on, at most `limit`.
pub async fn history(conn: &mut Conn, id: &str, from: u64, limit: u64) -> anyhow::Result<History> {
    let path = format!("/v1/instances/{id}/history?from={from}&limit={limit}");
    let answer = conn.get(&path).await?.expect(200, &format!("reading the history of {id}"))?;
    serde_json::from_slice(&answer.body).context("a history is not what it was")
}

/// One event, which must be there.
pub async fn event(conn: &mut Conn, id: &str, event: u64) -> anyhow::Result<Event> {
    let history = history(conn, id, event, 1).await?;
    history.events.into_iter().next().with_context(|| format!("the history of {id} has no event {event}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_of_a_shown_callback_is_put_back() {
        let status = br#"{"id":"a","custom_status":"http://127.0.0.1:7071/callbacks/AbC-_9","waiting_for":[]}"#;
        assert_eq!(callback_path(status).as_deref(), Some("/callbacks/rhcb_AbC-_9"));
        assert_eq!(callback_path(br#"{"id":"a","custom_status":null}"#), None);
    }

    #[test]
    fn counters_that_the_host_does_not_have_are_none() {
        let stats: Stats = serde_json::from_str(r#"{"commits":3,"other":true}"#).unwrap();
        assert_eq!((stats.commits, stats.batches, stats.wal_bytes), (3, 0, None));
    }
}
