//! Reading and following an instance's history, and reading its log.

use super::Admin;
use crate::dto::{Log, LogLine};
use crate::events::{Event, History};
use crate::problem::Problem;
use crate::request::{FollowParams, InPath, InQuery, RangeParams};
use crate::sse;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{KeepAlive, Sse};
use http::HeaderMap;
use rehydrate_runtime::Runtime;
use rehydrate_runtime::core::{EventBody, EventId, RunNumber};

/// Events read at once: with payloads of a megabyte each, more would fill the memory.
const CHUNK: usize = 16;

/// An answer stops growing after this many bytes of payloads, however many events were asked for.
const ANSWER_BYTES: usize = 8 << 20;

/// A piece of a run's history. It may be shorter than asked for: read on until you have event `last`.
#[utoipa::path(
    get, path = "/v1/instances/{id}/history", operation_id = "read_history", tag = "history",
    params(("id" = String, Path), RangeParams),
    responses((status = 200, body = History), (status = 404, body = Problem)),
)]
pub async fn history(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    InQuery(range): InQuery<RangeParams>,
) -> Result<Json<History>, Problem> {
    let limit = range.limit()?;
    let from = EventId(range.from.unwrap_or(1).max(1));
    Ok(Json(read(&admin.runtime, &id, range.run.map(RunNumber), from, limit).await?))
}

async fn read(
    runtime: &Runtime,
    id: &str,
    run: Option<RunNumber>,
    from: EventId,
    limit: usize,
) -> Result<History, Problem> {
    let first = runtime.history(id, run, from, limit.min(CHUNK)).await?;
    // Further pages must be of the same run, whatever is started meanwhile.
    let run = first.run;
    let mut history = History { run: run.0, events: Vec::new(), last: first.last.0, closed: first.closed };
    let (mut page, mut next, mut bytes) = (first, from, 0);
    loop {
        history.events.extend(page.events.iter().map(Event::from));
        bytes += page.events.iter().map(|event| payload_bytes(&event.body)).sum::<usize>();
        let Some(last) = page.events.last() else { return Ok(history) };
        next = next.max(last.id.next());
        if history.events.len() >= limit || bytes >= ANSWER_BYTES || next.0 > history.last {
            return Ok(history);
        }
        page = runtime.history(id, Some(run), next, CHUNK.min(limit - history.events.len())).await?;
        (history.last, history.closed) = (page.last.0, page.closed);
    }
}

/// Roughly the bytes an event adds to an answer.
fn payload_bytes(body: &EventBody) -> usize {
    match body {
        EventBody::InstanceStarted { input, .. } | EventBody::ActivityScheduled { input, .. } => input.len(),
        EventBody::ActivityCompleted { output, .. } | EventBody::InstanceCompleted { output } => output.len(),
        EventBody::SignalReceived { payload, .. } => payload.len(),
        EventBody::StatusSet { status } => status.len(),
        EventBody::CallbackSettled { outcome: Ok(output), .. } => output.len(),
        EventBody::CallbackSettled { outcome: Err(failure), .. }
        | EventBody::ActivityAttemptFailed { failure, .. }
        | EventBody::ActivityFailed { failure, .. }
        | EventBody::InstanceFailed { failure }
        | EventBody::InstanceCancelled { failure }
        | EventBody::InstanceStopped { failure } => failure.len_bytes(),
        _ => 0,
    }
}

/// Follows a run's history as server-sent events. Each has the event's id as `id`, its type as `event` and its
/// JSON as `data`. After the run's last event comes one of type `end`, and the stream ends. Silence is broken
/// by a comment every 15 seconds.
#[utoipa::path(
    get, path = "/v1/instances/{id}/events", operation_id = "follow_history", tag = "history",
    params(
        ("id" = String, Path), FollowParams,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event seen; the stream goes on after it."),
    ),
    responses(
        (status = 200, description = "The events.", body = String, content_type = "text/event-stream"),
        (status = 404, body = Problem),
    ),
)]
pub async fn follow(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    InQuery(params): InQuery<FollowParams>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let from = sse::first(headers.get("last-event-id"), params.from)?;
    let run = params.run.map(RunNumber);
    let events = sse::follow(admin.runtime, id, run, from, admin.draining).await?;
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(sse::HEARTBEAT)))
}

/// A piece of an instance's log. Old lines may be gone: the log is bounded.
#[utoipa::path(
    get, path = "/v1/instances/{id}/log", operation_id = "read_log", tag = "history",
    params(("id" = String, Path), RangeParams),
    responses((status = 200, body = Log), (status = 404, body = Problem)),
)]
pub async fn log(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    InQuery(range): InQuery<RangeParams>,
) -> Result<Json<Log>, Problem> {
    let limit = range.limit()?;
    let from = range.from.unwrap_or(1).max(1);
    let entries = admin.runtime.log(&id, range.run.map(RunNumber), from, limit).await?;
    let lines: Vec<LogLine> = entries.iter().map(LogLine::from).collect();
    let next = lines.last().map_or(from, |line| line.sequence.saturating_add(1));
    Ok(Json(Log { lines, next }))
}
