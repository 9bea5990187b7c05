//! Orchestrations, which are instances here.

use super::query::Query;
use super::reply::{CheckStatus, Refusal, accepted, as_string, come_back, seconds};
use super::{Asked, Facade, history};
use crate::{cursor, show};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use rehydrate_runtime::core::{Answer, EventId, RunNumber};
use rehydrate_runtime::store::{ComponentKind, InstanceRow, InstanceStateTag, ListQuery};
use rehydrate_runtime::{
    ConflictPolicy, ErrorKind, InstanceResult, RestartAs, RestartId, ReusePolicy, RuntimeError, StartRequest,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// Where the place in a list is carried, both ways.
pub const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation-token");

/// The longest an answer waits for an instance to end.
const WAIT_MAX: Duration = Duration::from_secs(230);

/// Most instances on a page, and if nobody says.
const TOP_MAX: usize = 500;
const TOP: usize = 100;

/// Rows looked at for one page.
const SCAN_MAX: usize = 10_000;

/// What an instance is told when nobody says why.
const NO_REASON: &str = "requested over the Durable Functions API";

/// An instance as the clients know it. Members are always there, as some clients need them to be.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    name: String,
    instance_id: String,
    runtime_status: &'static str,
    input: Option<Box<RawValue>>,
    custom_status: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    created_time: String,
    last_updated_time: String,
    /// The same twice: the services write one name, a client reads the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    history_events: Option<history::Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<history::Shown>,
}

/// The word for a state.
fn word(state: InstanceStateTag) -> &'static str {
    match state {
        // What pauses an instance is no state of the workflow.
        InstanceStateTag::Running | InstanceStateTag::Paused => "Running",
        InstanceStateTag::Suspended => "Suspended",
        InstanceStateTag::Completed => "Completed",
        InstanceStateTag::Failed => "Failed",
        InstanceStateTag::Cancelled => "Canceled",
        InstanceStateTag::Terminated => "Terminated",
    }
}

/// The states for a word; none for one that no instance here is ever in.
fn states(word: &str) -> Result<Vec<InstanceStateTag>, Refusal> {
    use InstanceStateTag as Tag;
    Ok(match word.to_ascii_lowercase().as_str() {
        "running" => vec![Tag::Running, Tag::Paused],
        "suspended" => vec![Tag::Suspended],
        "completed" => vec![Tag::Completed],
        "failed" => vec![Tag::Failed],
        "canceled" | "cancelled" => vec![Tag::Cancelled],
        "terminated" => vec![Tag::Terminated],
        "pending" | "continuedasnew" | "unknown" => Vec::new(),
        _ => return Err(Refusal::bad(format!("`{word}` is no runtime status"))),
    })
}

/// What an ended instance gave: its output, or its failure as a sentence.
fn output(result: &InstanceResult) -> Option<Box<RawValue>> {
    result.outcome.as_ref().map(|outcome| match outcome {
        Ok(output) => show::json(output),
        Err(failure) => as_string(&failure.message),
    })
}

fn status_of(row: &InstanceRow, input: Option<&str>, output: Option<Box<RawValue>>) -> Status {
    Status {
        name: row.workflow.clone(),
        instance_id: row.id.clone(),
        runtime_status: word(row.state),
        input: input.map(show::json),
        custom_status: row.custom_status.as_deref().map(show::json),
        output,
        created_time: seconds(row.created),
        last_updated_time: seconds(row.updated),
        history_events: None,
        history: None,
    }
}

impl Facade {
    /// Starts a workflow: its newest version, unless one is named.
    pub(super) async fn start(&self, name: &str, id: Option<&str>, mut asked: Asked) -> Result<Response, Refusal> {
        let patience = patience(&asked.query)?;
        let body = std::mem::take(&mut asked.body);
        let input = self.json(body).await?;
        let request = StartRequest {
            workflow: self.deployed_name(ComponentKind::Workflow, name).await?,
            version: asked.query.get("version").map(str::to_owned),
            id: id.filter(|id| !id.is_empty()).map(str::to_owned),
            input,
            reuse: ReusePolicy::Allow,
            conflict: ConflictPolicy::Refuse,
            ..StartRequest::default()
        };
        let refused = |error: RuntimeError| match error.kind {
            ErrorKind::NotFound => Refusal::bad(error.message),
            ErrorKind::Conflict => Refusal::new(StatusCode::CONFLICT, still_runs(id.unwrap_or_default())),
            _ => Refusal::from(error),
        };
        let Some(patience) = patience else {
            let started = self.runtime().start(request).await.map_err(refused)?;
            return Ok(accepted(&started.id, &asked));
        };
        let (started, watched) = self.runtime().start_watched(request).await.map_err(refused)?;
        let result = self.0.result_of(watched, patience).await?;
        match &result.outcome {
            None => Ok(accepted(&started.id, &asked)),
            Some(Ok(output)) => Ok(Json(show::json(output)).into_response()),
            Some(Err(_)) => self.status(&started.id, asked).await,
        }
    }

    pub(super) async fn status(&self, id: &str, asked: Asked) -> Result<Response, Refusal> {
        let query = &asked.query;
        let detail = self.runtime().describe(id).await.map_err(no_such_instance)?;
        let row = &detail.row;
        let output = match (&detail.output, &detail.failure) {
            (Some(output), _) => Some(show::json(output)),
            (None, Some(failure)) => Some(as_string(&failure.message)),
            (None, None) => None,
        };
        let input = Some(detail.input.as_str()).filter(|_| query.flag("showinput", true));
        let mut status = status_of(row, input, output);
        if query.flag("showhistory", false) {
            let events = self.all_events(id, row.run).await?;
            let shown = history::events(&events, query.flag("showhistoryoutput", false), query.flag("showinput", true));
            status.history = Some(shown.clone());
            status.history_events = Some(shown);
        }
        if !row.state.is_closed() {
            let mut response = (StatusCode::ACCEPTED, Json(status)).into_response();
            let document = CheckStatus::of(id, &asked.base, &query.common());
            come_back(&mut response, HeaderValue::from_str(document.status()).ok(), "5");
            return Ok(response);
        }
        let is_error = row.state == InstanceStateTag::Failed && query.flag("returninternalservererroronfailure", false);
        let code = if is_error { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        Ok((code, Json(status)).into_response())
    }

    async fn all_events(&self, id: &str, run: RunNumber) -> Result<Vec<rehydrate_runtime::core::Event>, Refusal> {
        const PAGE: usize = 1_000;
        let mut all = Vec::new();
        let mut from = EventId(1);
        loop {
            let page = self.runtime().history(id, Some(run), from, PAGE).await?;
            let done = page.events.len() < PAGE;
            all.extend(page.events);
            if done {
                return Ok(all);
            }
            from = all.last().map_or(from, |event: &rehydrate_runtime::core::Event| event.id.next());
        }
    }

    fn list_query(asked: &Asked, limit: usize) -> Result<Option<ListQuery>, Refusal> {
        let query = &asked.query;
        let words = query.all("runtimestatus");
        let mut tags = Vec::new();
        for word in &words {
            tags.extend(states(word)?);
        }
        if tags.is_empty() && !words.is_empty() {
            return Ok(None);
        }
        let token = asked.headers.get(&CONTINUATION).and_then(|value| value.to_str().ok());
        let token = token.filter(|token| !token.is_empty() && *token != "null");
        Ok(Some(ListQuery {
            states: tags,
            id_prefix: query.get("instanceidprefix").map(str::to_owned),
            created_from: query.time("createdtimefrom")?,
            created_to: query.time("createdtimeto")?,
            after: token.map(cursor::decode).transpose()?,
            limit,
            scan_max: SCAN_MAX,
            ..ListQuery::default()
        }))
    }

    pub(super) async fn list(&self, asked: Asked) -> Result<Response, Refusal> {
        let top = asked.query.top(TOP, TOP_MAX)?;
        let Some(query) = Facade::list_query(&asked, top)? else {
            return Ok(Json(Vec::<Status>::new()).into_response());
        };
        let page = self.runtime().list(query).await?;
        let show_input = asked.query.flag("showinput", true);
        let mut all = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            match self.runtime().brief(row).await {
                Ok((input, result)) => {
                    all.push(status_of(row, Some(input.as_str()).filter(|_| show_input), output(&result)));
                }
                // It was purged a moment ago.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut response = Json(all).into_response();
        let next = page.next.as_ref().and_then(|next| HeaderValue::from_str(&cursor::encode(next)).ok());
        response.headers_mut().extend(next.map(|next| (CONTINUATION, next)));
        Ok(response)
    }

    pub(super) async fn purge(&self, id: &str) -> Result<Response, Refusal> {
        match self.runtime().purge(id).await {
            Ok(()) => Ok(Json(serde_json::json!({ "instancesDeleted": 1 })).into_response()),
            // Only what has ended is there to be purged.
            Err(error) if error.kind == ErrorKind::Conflict => Err(Refusal::empty(StatusCode::NOT_FOUND)),
            Err(error) => Err(no_such_instance(error)),
        }
    }

    pub(super) async fn purge_where(&self, asked: Asked) -> Result<Response, Refusal> {
        if asked.query.get("createdtimefrom").is_none() {
            return Err(Refusal::bad("`createdTimeFrom` is needed to purge instances"));
        }
        let deleted = match Facade::list_query(&asked, TOP)?.and_then(of_ended) {
            Some(query) => self.runtime().purge_where(query).await?,
            None => 0,
        };
        match deleted {
            0 => Err(Refusal::empty(StatusCode::NOT_FOUND)),
            deleted => Ok(Json(serde_json::json!({ "instancesDeleted": deleted })).into_response()),
        }
    }

    /// An event is a signal here. Its name is matched in any case with what the instance waits for.
    pub(super) async fn raise_event(&self, id: &str, name: &str, asked: Asked) -> Result<Response, Refusal> {
        let media_type = asked.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::bad("only `application/json` is taken as the content of an event"));
        }
        let payload = self.json(asked.body).await?;
        let detail = self.runtime().describe(id).await?;
        let waits = detail.waiting_for.iter().filter(|waiting| waiting.kind == "signal");
        let mut names = waits.filter_map(|waiting| waiting.name.as_deref());
        let exact = names.clone().find(|known| *known == name);
        let spelled = exact.or_else(|| names.find(|known| known.eq_ignore_ascii_case(name)));
        taken(self.runtime().signal(id, spelled.unwrap_or(name), payload, None).await?)
    }

    /// `terminate`, `suspend`, `resume`, `rewind`, `restart`.
    pub(super) async fn change(&self, id: &str, verb: &str, asked: Asked) -> Result<Response, Refusal> {
        let reason = asked.query.get("reason").unwrap_or(NO_REASON).to_owned();
        match verb {
            "terminate" => taken(self.runtime().terminate(id, reason).await?),
            "suspend" => taken(self.runtime().suspend(id, reason).await?),
            "resume" => match self.runtime().resume(id, reason).await {
                // One that runs is as the caller wants it.
                Err(error) if error.kind != ErrorKind::Conflict => Err(error.into()),
                _ => Ok(StatusCode::ACCEPTED.into_response()),
            },
            "rewind" => {
                self.runtime().rewind(id, reason).await?;
                Ok(StatusCode::ACCEPTED.into_response())
            }
            "restart" => self.restart(id, asked).await,
            _ => Err(Refusal::nothing_here()),
        }
    }

    async fn restart(&self, id: &str, asked: Asked) -> Result<Response, Refusal> {
        let new_id = asked.query.flag("restartwithnewinstanceid", true);
        let restart_as = RestartAs { id: if new_id { RestartId::New } else { RestartId::Same }, version: None };
        let started = self.runtime().restart(id, restart_as).await.map_err(|error| match error.kind {
            ErrorKind::NotFound => Refusal::bad(error.message),
            _ => Refusal::from(error),
        })?;
        Ok(accepted(&started.id, &asked))
    }
}

/// The answer to an error of reading one instance: an id that can't be one is that of none.
fn no_such_instance(error: RuntimeError) -> Refusal {
    match error.kind {
        ErrorKind::NotFound | ErrorKind::Invalid => Refusal::empty(StatusCode::NOT_FOUND),
        _ => error.into(),
    }
}

/// Why an id can't be started again. The runtime's own words name policies that this API does not have.
fn still_runs(id: &str) -> String {
    format!("instance `{id}` has not ended; use another id, or terminate it first")
}

/// A query for those only of its states that an instance ends in; none if it names others alone.
fn of_ended(query: ListQuery) -> Option<ListQuery> {
    let states: Vec<_> = query.states.iter().copied().filter(|state| state.is_closed()).collect();
    (query.states.is_empty() || !states.is_empty()).then_some(ListQuery { states, ..query })
}

/// How long the answer to a start may wait for the end: not at all, unless both parameters are there. How often the
/// host looks is its own affair: it is told.
fn patience(query: &Query) -> Result<Option<Duration>, Refusal> {
    let (timeout, interval) = (query.seconds("timeout")?, query.seconds("pollinginterval")?);
    match (timeout, interval) {
        (Some(timeout), Some(interval)) if interval > timeout => {
            Err(Refusal::bad("`timeout` is shorter than `pollingInterval`; both are in seconds"))
        }
        (Some(timeout), Some(_)) => Ok(Some(timeout.min(WAIT_MAX))),
        _ => Ok(None),
    }
}

fn taken(answer: Answer) -> Result<Response, Refusal> {
    match answer {
        Answer::Gone => Err(Refusal::empty(StatusCode::GONE)),
        Answer::NotFound => Err(Refusal::empty(StatusCode::NOT_FOUND)),
        _ => Ok(StatusCode::ACCEPTED.into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_word_and_every_word_its_states() {
        for state in InstanceStateTag::ALL {
            assert!(states(word(state)).is_ok_and(|states| states.contains(&state)), "{state:?}");
        }
        assert!(states("Pending").is_ok_and(|states| states.is_empty()));
        assert!(states("Sleeping").is_err());
    }
}
