//! Extractors whose refusals are problem documents, and the parameters of queries.

use crate::problem::Problem;
use crate::{cursor, show};
use axum::extract::{FromRequestParts, Path, Query};
use http::HeaderMap;
use http::request::Parts;
use rehydrate_runtime::store::{EntityQuery, InstanceStateTag, ListQuery};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use utoipa::IntoParams;

use crate::dto::State;

/// Most instances on a page.
const LIST_MAX: usize = 500;
/// Most events or log lines in one answer.
const EVENTS_MAX: usize = 1_000;
/// Most ended instances that a check of a deployment replays.
const CHECK_ENDED_MAX: usize = 10_000;
/// Rows looked at for one page of a list.
const SCAN_MAX: usize = 10_000;
/// The longest an answer waits for an instance to end, in seconds.
const WAIT_SECONDS_MAX: f64 = 60.0;
/// Most bytes of an idempotency key.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// The parts of the path.
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(InPath(value)),
            Err(rejection) => Err(Problem::invalid("path.invalid", rejection.body_text())),
        }
    }
}

/// The parameters of the query.
pub struct InQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(InQuery(value)),
            Err(rejection) => Err(Problem::invalid("query.invalid", rejection.body_text())),
        }
    }
}

/// Which instances to list. Every condition given must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// States, separated by commas; none: all.
    state: Option<String>,
    /// The deployment's name.
    workflow: Option<String>,
    /// The version that they are pinned to.
    version: Option<String>,
    /// What the id begins with.
    id_prefix: Option<String>,
    /// Created then or later, RFC 3339.
    created_from: Option<String>,
    /// Created then or earlier, RFC 3339.
    created_to: Option<String>,
    /// Instances on the page, at most 500; 50 if not given.
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ListParams {
    /// As the store takes it; 400 names the parameter that is wrong.
    pub fn into_query(self) -> Result<ListQuery, Problem> {
        Ok(ListQuery {
            states: self.state.as_deref().map(states).transpose()?.unwrap_or_default(),
            workflow: self.workflow,
            version: self.version,
            digest: None,
            id_prefix: self.id_prefix,
            created_from: time("created_from", self.created_from.as_deref())?,
            created_to: time("created_to", self.created_to.as_deref())?,
            after: self.cursor.as_deref().map(cursor::decode).transpose()?,
            limit: limit(self.limit, 50, LIST_MAX)?,
            scan_max: SCAN_MAX,
        })
    }
}

/// Which instances to purge, of those that have ended. Every condition given must hold, and at least one must be given.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PurgeParams {
    /// States, separated by commas, all of them states of an end; none: all of these.
    state: Option<String>,
    /// The deployment's name.
    workflow: Option<String>,
    /// The version that they were pinned to.
    version: Option<String>,
    /// What the id begins with.
    id_prefix: Option<String>,
    /// Created then or later, RFC 3339.
    created_from: Option<String>,
    /// Created then or earlier, RFC 3339.
    created_to: Option<String>,
}

impl PurgeParams {
    /// As the store takes it; 400 names the parameter that is wrong.
    pub fn into_query(self) -> Result<ListQuery, Problem> {
        let PurgeParams { state, workflow, version, id_prefix, created_from, created_to } = self;
        let list =
            ListParams { state, workflow, version, id_prefix, created_from, created_to, ..ListParams::default() };
        list.into_query()
    }
}

/// How many instances that have ended a check takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CheckParams {
    /// How many of those that have ended are replayed as well, the newest ones: at most 10000; 100 if not given.
    ended: Option<usize>,
}

impl CheckParams {
    /// How many.
    pub fn ended(&self) -> Result<usize, Problem> {
        match self.ended.unwrap_or(100) {
            ended if ended <= CHECK_ENDED_MAX => Ok(ended),
            ended => Err(invalid("ended", &format!("{ended} is out of range; give 0 to {CHECK_ENDED_MAX}"))),
        }
    }
}

fn states(text: &str) -> Result<Vec<InstanceStateTag>, Problem> {
    let known = |word: &str| State::ALL.into_iter().find(|state| state.as_str() == word).map(State::tag);
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let all = State::ALL.map(State::as_str).join(", ");
            known(word).ok_or_else(|| invalid("state", &format!("`{word}` is not a state; give some of {all}")))
        })
        .collect()
}

fn time(name: &str, text: Option<&str>) -> Result<Option<rehydrate_runtime::core::Timestamp>, Problem> {
    let parse = |text: &str| {
        let wrong = |error| invalid(name, &format!("{error}; give a time such as 2026-01-31T12:00:00Z"));
        show::parse_time(text).map_err(wrong)
    };
    text.map(parse).transpose()
}

fn limit(given: Option<usize>, default: usize, max: usize) -> Result<usize, Problem> {
    match given.unwrap_or(default) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        limit => Err(invalid("limit", &format!("{limit} is out of range; give 1 to {max}"))),
    }
}

fn invalid(name: &str, what: &str) -> Problem {
    Problem::invalid("query.invalid", format!("the parameter `{name}` is wrong: {what}"))
}

/// Which entities to list. Every condition given must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EntityListParams {
    /// The name of their component's deployment.
    name: Option<String>,
    /// Their last operation was then or later, RFC 3339.
    last_operation_from: Option<String>,
    /// Their last operation was then or earlier, RFC 3339.
    last_operation_to: Option<String>,
    /// Entities on the page, at most 500; 50 if not given.
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl EntityListParams {
    /// As the store takes it; 400 names the parameter that is wrong.
    pub fn into_query(self) -> Result<EntityQuery, Problem> {
        Ok(EntityQuery {
            name: self.name,
            from: time("last_operation_from", self.last_operation_from.as_deref())?,
            to: time("last_operation_to", self.last_operation_to.as_deref())?,
            after: self.cursor,
            limit: limit(self.limit, 50, LIST_MAX)?,
            scan_max: SCAN_MAX,
        })
    }
}

/// Which schedules to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SchedulesParams {
    /// Only those whose names come after this one: the `next_after` of the page before.
    pub after: Option<String>,
    /// Schedules on the page, at most 500; 50 if not given.
    limit: Option<usize>,
}

impl SchedulesParams {
    /// How many.
    pub fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit, 50, LIST_MAX)
    }
}

/// Which part of a history or log to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RangeParams {
    /// The run; none: the last.
    pub run: Option<u32>,
    /// The first event or line; 1 if not given.
    pub from: Option<u64>,
    /// How many, at most 1000; 200 if not given.
    limit: Option<usize>,
}

impl RangeParams {
    /// How many.
    pub fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit, 200, EVENTS_MAX)
    }
}

/// From where to follow a history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FollowParams {
    /// The run; none: the last.
    pub run: Option<u32>,
    /// The first event; 1 if not given. The header `Last-Event-ID` wins.
    pub from: Option<u64>,
}

/// How long an answer may wait for the instance to end.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitParams {
    /// Seconds to wait for the instance to end, 0 to 60, with a fraction if need be; 0 if not given.
    wait_seconds: Option<f64>,
}

impl WaitParams {
    /// How long; none: not at all.
    pub fn patience(&self) -> Result<Option<Duration>, Problem> {
        let Some(seconds) = self.wait_seconds else { return Ok(None) };
        if !(0.0..=WAIT_SECONDS_MAX).contains(&seconds) {
            let what = format!("{seconds} is out of range; give 0 to {WAIT_SECONDS_MAX} seconds and ask again");
            return Err(invalid("wait_seconds", &what));
        }
        Ok(Some(Duration::from_secs_f64(seconds)))
    }
}

/// The `Idempotency-Key` of a request.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = |what: &str| {
        let detail = format!("the Idempotency-Key {what}; give 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible characters");
        Problem::invalid("idempotency-key.invalid", detail)
    };
    if values.next().is_some() {
        return Err(wrong("was sent more than once"));
    }
    let key = value.to_str().map_err(|_| wrong("has characters that are not visible ASCII"))?;
    match key.len() {
        0 => Err(wrong("is empty")),
        len if len > IDEMPOTENCY_KEY_BYTES_MAX => Err(wrong("is too long")),
        _ => Ok(Some(key.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use rehydrate_runtime::core::Timestamp;

    fn query(text: &str) -> Result<ListQuery, Problem> {
        let uri = format!("http://localhost/?{text}").parse().expect("a URI");
        let Query(params) =
            Query::<ListParams>::try_from_uri(&uri).map_err(|e| Problem::invalid("query.invalid", e.body_text()))?;
        params.into_query()
    }

    #[test]
    fn every_filter_reaches_the_store() {
        let query = query(
            "state=running,failed&workflow=job&version=1.2&id_prefix=a%2Fb&created_from=1970-01-01T00:00:01Z\
             &created_to=1970-01-01T00:00:02Z&limit=7",
        )
        .expect("a query");
        assert_eq!(query.states, [InstanceStateTag::Running, InstanceStateTag::Failed]);
        assert_eq!((query.workflow.as_deref(), query.id_prefix.as_deref()), (Some("job"), Some("a/b")));
        assert_eq!(query.created_from, Some(Timestamp(1_000_000_000)));
        assert_eq!(query.created_to, Some(Timestamp(2_000_000_000)));
        assert_eq!((query.version.as_deref(), query.limit), (Some("1.2"), 7));
    }

    #[test]
    fn a_wrong_parameter_is_a_400_that_names_it() {
        let wrong = [
            ("state=asleep", "asleep"),
            ("created_from=yesterday", "created_from"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=x", "limit"),
            ("cursor=x", "cursor"),
            ("stat=running", "stat"),
        ];
        for (text, named) in wrong {
            let problem = query(text).expect_err(text);
            assert!(problem.status == 400 && problem.detail.contains(named), "{text}: {problem:?}");
        }
    }

    #[test]
    fn the_time_to_wait_is_bounded() {
        let patience = |seconds| WaitParams { wait_seconds: seconds }.patience();
        assert_eq!(patience(None), Ok(None));
        assert_eq!(patience(Some(0.25)), Ok(Some(Duration::from_millis(250))));
        for seconds in [-0.1, 60.1, f64::NAN, f64::INFINITY] {
            let problem = patience(Some(seconds)).expect_err("out of range");
            assert!(problem.status == 400 && problem.detail.contains("wait_seconds"), "{problem:?}");
        }
    }

    #[test]
    fn an_idempotency_key_is_visible_text_of_bounded_length() {
        let with = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(value).expect("a value"));
            idempotency_key(&headers)
        };
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(with(b"order-7"), Ok(Some("order-7".to_owned())));
        for value in [&b""[..], &[b'a'; 257], b"\xff"] {
            assert_eq!(with(value).expect_err("refused").status, 400);
        }
        let mut two = HeaderMap::new();
        two.append("idempotency-key", HeaderValue::from_static("a"));
        two.append("idempotency-key", HeaderValue::from_static("b"));
        assert_eq!(idempotency_key(&two).expect_err("which one?").status, 400);
    }
}
