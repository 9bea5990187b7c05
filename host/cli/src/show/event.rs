//! An event of a history as one line.

use crate::output;
use anyhow::Context as _;
use rehydrate_http::dto::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most characters of a payload on a line.
const PAYLOAD_CHARS: usize = 100;

/// The fields of all kinds of events together; payloads stay as text.
#[derive(Deserialize)]
struct Fields {
    id: u64,
    time: String,
    #[serde(rename = "type")]
    kind: String,
    op: Option<u64>,
    name: Option<String>,
    attempt: Option<u32>,
    workflow: Option<String>,
    version: Option<String>,
    input: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    payload: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
    failure: Option<Failure>,
    next_attempt: Option<String>,
    deadline: Option<String>,
    expires: Option<String>,
    change: Option<String>,
    reason: Option<String>,
    instance: Option<String>,
    entity: Option<String>,
    operation: Option<String>,
    was: Option<String>,
}

/// One line: number, time, type, and what belongs to the type.
pub fn event(json: &str) -> anyhow::Result<String> {
    let fields: Fields = serde_json::from_str(json)
        .context("an event of the host is not understood; use the `rehydrate` of the host's version")?;
    let head = format!("{:>5}  {}  {:<21}  ", fields.id, output::time(&fields.time), fields.kind);
    let line = format!("{head}{}", details(&fields).join("  "));
    Ok(output::clean(line.trim_end()).replace(['\n', '\t'], " "))
}

fn details(fields: &Fields) -> Vec<String> {
    let payload = |payload: &Option<Box<RawValue>>| payload.as_ref().map(|p| output::brief(p.get(), PAYLOAD_CHARS));
    let at = |word: &str, time: &Option<String>| time.as_ref().map(|time| format!("{word} {}", output::time(time)));
    let workflow = match (&fields.workflow, &fields.version) {
        (Some(name), Some(version)) => Some(format!("{name}@{version}")),
        (name, _) => name.clone(),
    };
    // The first event names the instance itself, which is known.
    let other = fields.instance.as_ref().filter(|_| fields.kind != "InstanceStarted");
    [
        workflow,
        other.map(|instance| format!("`{instance}`")),
        fields.entity.as_ref().map(|entity| format!("`{entity}`")),
        fields.operation.as_ref().or(fields.name.as_ref()).map(|name| format!("`{name}`")),
        fields.op.map(|op| format!("#{op}")),
        fields.attempt.map(|attempt| format!("attempt {attempt}")),
        fields.change.clone(),
        fields.was.clone(),
        fields.reason.clone(),
        at("due", &fields.deadline),
        at("expires", &fields.expires),
        fields.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.message)),
        at("next", &fields.next_attempt),
        payload(&fields.input),
        payload(&fields.output),
        payload(&fields.payload),
        payload(&fields.status),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::event;
    use expect_test::expect;

    #[test]
    fn each_kind_shows_what_belongs_to_it() {
        let events = [
            r#"{"id":1,"time":"2023-11-14T22:13:20.000000000Z","cause":0,"type":"InstanceStarted","instance":"i","workflow":"job","version":"1.0.0","digest":"00","input":{"n":1}}"#,
            r#"{"id":2,"time":"2023-11-14T22:13:20.000000001Z","cause":1,"type":"CallbackCreated","name":"done","expires":"2023-11-14T23:13:20.000000000Z","base_url":"http://h","key_id":1}"#,
            r#"{"id":3,"time":"2023-11-14T22:13:20.5Z","cause":1,"type":"ActivityAttemptFailed","op":2,"attempt":1,"started":"2023-11-14T22:13:20.000000000Z","failure":{"kind":"application","code":"http.500","message":"the service\nsaid 500","details":null,"retryable":true},"next_attempt":"2023-11-14T22:13:21.000000000Z"}"#,
            r#"{"id":40,"time":"2023-11-14T22:13:20.000000000Z","cause":1,"type":"SomethingNew","extra":1}"#,
        ];
        let lines: Vec<String> = events.iter().map(|json| event(json).expect("an event")).collect();
        // The first line keeps the indentation of the others from being taken for that of the source.
        expect![[r#"
            events
                1  2023-11-14T22:13:20.000Z  InstanceStarted        job@1.0.0  {"n":1}
                2  2023-11-14T22:13:20.000Z  CallbackCreated        `done`  expires 2023-11-14T23:13:20.000Z
                3  2023-11-14T22:13:20.5Z  ActivityAttemptFailed  #2  attempt 1  http.500: the service said 500  next 2023-11-14T22:13:21.000Z
               40  2023-11-14T22:13:20.000Z  SomethingNew
        "#]].assert_eq(&format!("events\n{}\n", lines.join("\n")));
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        assert!(event("{}").is_err());
    }
}
