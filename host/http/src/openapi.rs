//! The description of the API, made from the handlers themselves.
//!
//! `openapi.json` beside this crate is its golden copy: a change of the API shows in it, or the test fails.

use crate::admin::{components, entities, history, host, instances, messages, schedules, upkeep, versions};
use std::sync::OnceLock;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

const PROBLEM: &str = "application/problem+json";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Rehydrate admin API",
        description = "Components and instances of a Rehydrate host. Times are RFC 3339 in UTC with nanoseconds; \
            names that end in `_ms` are milliseconds. Errors are RFC 9457 problem documents with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        components::deploy, components::list,
        versions::describe, versions::remove, versions::check, versions::migrate,
        instances::start, instances::list, instances::describe, instances::result,
        instances::custom_status, instances::migrate,
        instances::replay,
        upkeep::purge, upkeep::purge_where, upkeep::restart,
        history::history, history::follow, history::log,
        messages::signal, messages::cancel, messages::terminate, messages::suspend, messages::resume, messages::rewind,
        entities::list, entities::describe, entities::call, entities::signal,
        schedules::put, schedules::list, schedules::show, schedules::delete, schedules::pause, schedules::resume,
        schedules::trigger,
        host::health, host::ready, host::stats, host::openapi,
    ),
    components(schemas(crate::events::Event, crate::events::Body)),
    security(("token" = [])),
    modifiers(&Token, &Problems),
)]
struct Api;

/// The bearer token, which is needed where one is configured.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// Every operation can end with a problem document, which has its own media type.
struct Problems;

impl Modify for Problems {
    fn modify(&self, openapi: &mut OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                responses.insert("default".to_owned(), problem("Any other error."));
                responses.values_mut().for_each(name_media_type);
            }
        }
    }
}

fn problem(description: &str) -> RefOr<utoipa::openapi::Response> {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content(PROBLEM, content).build().into()
}

/// Puts the media type of problems in place of `application/json`, where the content is a problem.
fn name_media_type(response: &mut RefOr<utoipa::openapi::Response>) {
    let RefOr::T(response) = response else { return };
    let is_problem = |content: &RefOr<utoipa::openapi::Content>| match content {
        RefOr::T(content) => {
            matches!(&content.schema, Some(RefOr::Ref(to)) if to.ref_location.ends_with("/Problem"))
        }
        RefOr::Ref(_) => false,
    };
    if response.content.get("application/json").is_some_and(is_problem)
        && let Some(content) = response.content.shift_remove("application/json")
    {
        response.content.insert(PROBLEM.to_owned(), content);
    }
}

/// The OpenAPI document as JSON.
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut text = Api::openapi().to_pretty_json().unwrap_or_else(|error| {
            tracing::error!(%error, "the description of the API could not be written");
            "{}".to_owned()
        });
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_operation_has_its_own_id() {
        let document: serde_json::Value = serde_json::from_str(super::document()).expect("json");
        let paths = document["paths"].as_object().expect("paths");
        let operations = paths.values().flat_map(|path| path.as_object().expect("operations").values());
        let mut ids: Vec<&str> = operations.map(|o| o["operationId"].as_str().expect("an id")).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }

    #[test]
    fn the_golden_copy_is_what_the_handlers_say() {
        expect_test::expect_file!["../openapi.json"].assert_eq(super::document());
    }
}
