//! The parameters of a query: their names in any case, each once or several times.

use super::reply::Refusal;
use crate::show;
use rehydrate_runtime::core::Timestamp;
use std::time::Duration;

/// The hub of a client that names none; this host has but one.
const TASK_HUB: &str = "Rehydrate";

/// The parameters of a request, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a URL.
    pub fn parse(query: Option<&str>) -> Query {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Query(pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned())).collect())
    }

    /// The first value of a parameter, named in lower case, that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter, each cut at its commas.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(known, _)| known == name).flat_map(|(_, value)| value.split(','));
        values.map(str::trim).filter(|value| !value.is_empty()).collect()
    }

    /// Whether a parameter says yes; `default` if it is not there or says neither.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            _ => default,
        }
    }

    /// A point in time: RFC 3339, or without a zone, which then is UTC.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let in_utc = || show::parse_time(&format!("{text}Z"));
        let wrong = |_| Refusal::bad(format!("`{name}` is `{text}`, which is no time such as 2026-01-31T12:00:00Z"));
        show::parse_time(text).or_else(|_| in_utc()).map(Some).map_err(wrong)
    }

    /// A number of seconds.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.map(Some).ok_or_else(|| Refusal::bad(format!("`{name}` is `{text}`, which is no number of seconds")))
    }

    /// How many are wanted: `default` if nobody says, never more than `max`.
    pub fn top(&self, default: usize, max: usize) -> Result<usize, Refusal> {
        let Some(text) = self.get("top") else { return Ok(default) };
        let top = text.parse::<usize>().ok().filter(|top| *top > 0);
        top.map(|top| top.min(max))
            .ok_or_else(|| Refusal::bad(format!("`top` is `{text}`, which is no number above 0")))
    }

    /// The parameters that name the client's hub and key, to be handed back in URLs: `a=1&b=2`. There is always one, as
    /// clients add theirs with `&`.
    pub fn common(&self) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        for (name, shown) in [("taskhub", "taskHub"), ("connection", "connection"), ("code", "code")] {
            let other = match name {
                "taskhub" => Some(TASK_HUB),
                "connection" => self.get("connectionname"),
                _ => None,
            };
            if let Some(value) = self.get(name).or(other) {
                out.append_pair(shown, value);
            }
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_values_may_be_lists() {
        let query = Query::parse(Some("RuntimeStatus=Running,%20Failed&runtimestatus=Completed&SHOWINPUT=False&top=7"));
        assert_eq!(query.all("runtimestatus"), ["Running", "Failed", "Completed"]);
        assert!(!query.flag("showinput", true) && query.flag("showhistory", true));
        assert_eq!(query.top(100, 500).ok(), Some(7));
        assert!(Query::parse(Some("top=0")).top(1, 1).is_err());
    }

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let at = |text: &str| Query::parse(Some(&format!("t={text}"))).time("t").ok().flatten().map(|at| at.0);
        let expected = Some(1_769_860_800_500_000_000);
        assert_eq!(at("2026-01-31T12:00:00.500000Z"), expected);
        assert_eq!(at("2026-01-31T12:00:00.5"), expected);
        assert_eq!(at("2026-01-31T13:00:00.5%2B01:00"), expected);
        assert!(Query::parse(Some("t=soon")).time("t").is_err());
    }

    #[test]
    fn what_names_the_hub_is_handed_back_and_nothing_else_and_a_hub_there_is_always() {
        assert_eq!(Query::parse(Some("TOP=3")).common(), "taskHub=Rehydrate");
        let query = Query::parse(Some("taskHub=Hub&connectionName=Storage&code=a%20b&top=3"));
        assert_eq!(query.common(), "taskHub=Hub&connection=Storage&code=a+b");
    }
}
