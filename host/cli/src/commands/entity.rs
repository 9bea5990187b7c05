//! `entity`: what entities keep, and their operations.

use super::{Context, json_argument};
use crate::args::{EntityCommand, OperationArgs};
use crate::client::{Answer, LONG_ANSWER, with_json};
use crate::output::{self, Ended, Table};
use rehydrate_http::dto::{Entity, EntityList, EntityLock, EntitySummary, OperationResult};
use rehydrate_http::paths;
use reqwest::Method;

/// `entity`
pub async fn run(context: &Context, command: EntityCommand) -> anyhow::Result<Ended> {
    match command {
        EntityCommand::List { name, limit, cursor } => list(context, name, limit, cursor).await?,
        EntityCommand::Describe { name, key } => {
            let answer = context.client.get(&paths::entity(&name, &key), &[]).await?;
            context.print(&answer, |answer| Ok(shown(&answer.parse()?)))?;
        }
        EntityCommand::Call(args) => return call(context, &args).await,
        EntityCommand::Signal(args) => {
            operate(context, &args, "signal").await?;
            let OperationArgs { name, key, operation, .. } = args;
            super::messages::done(context, &format!("`{operation}` for `@{name}@{key}` is recorded"))?;
        }
    }
    Ok(Ended::Well)
}

async fn list(context: &Context, name: Option<String>, limit: usize, cursor: Option<String>) -> anyhow::Result<()> {
    let query = [("name", name), ("limit", Some(limit.to_string())), ("cursor", cursor)];
    let query: Vec<(&str, String)> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let answer = context.client.get("/v1/entities", &query).await?;
    context.print(&answer, |answer| Ok(table(&answer.parse()?)))
}

fn locked(lock: Option<&EntityLock>) -> String {
    lock.map_or_else(String::new, |lock| format!("{} (run {})", lock.instance, lock.run))
}

fn table(list: &EntityList) -> String {
    if list.entities.is_empty() {
        return "no such entities; make one with `rehydrate entity signal NAME KEY OPERATION`".to_owned();
    }
    let mut table = Table::new(&["name", "key", "created", "last operation", "locked by", "waiting"]);
    for entity in &list.entities {
        let EntitySummary { name, key, created, last_operation, locked_by, waiting } = entity;
        let times = [output::time(created), output::time(last_operation)];
        let [created, last] = times;
        table.row([name.clone(), key.clone(), created, last, locked(locked_by.as_ref()), waiting.to_string()]);
    }
    let mut text = table.render();
    if let Some(cursor) = &list.next_cursor {
        text.push_str(&format!("there are more: go on with --cursor {cursor}, or give a larger --limit\n"));
    }
    text
}

fn shown(entity: &Entity) -> String {
    const VALUE_CHARS: usize = 2_000;
    let mut text = format!("@{}@{}\n", entity.name, entity.key);
    text.push_str(&format!("created   {}\n", output::time(&entity.created)));
    text.push_str(&format!("operated  {}\n", output::time(&entity.last_operation)));
    if let Some(lock) = &entity.locked_by {
        text.push_str(&format!("locked    by {}, {} waiting\n", locked(Some(lock)), entity.waiting));
    }
    for (key, value) in &entity.values {
        text.push_str(&format!("{key:<9} {}\n", output::brief(value.get(), VALUE_CHARS)));
    }
    output::clean(&text)
}

async fn call(context: &Context, args: &OperationArgs) -> anyhow::Result<Ended> {
    let answer = operate(context, args, "call").await?;
    let result: OperationResult = answer.parse()?;
    context.print(&answer, |_| {
        Ok(match (&result.output, &result.failure) {
            (_, Some(failure)) => output::clean(&format!("{} ({}): {}", failure.code, failure.kind, failure.message)),
            (Some(output), None) => output.get().to_owned(),
            (None, None) => "null".to_owned(),
        })
    })?;
    Ok(if result.failure.is_none() { Ended::Well } else { Ended::InstanceFailed })
}

async fn operate(context: &Context, args: &OperationArgs, how: &str) -> anyhow::Result<Answer> {
    let input = json_argument(&args.input)?;
    let path = format!("{}/{how}/{}", paths::entity(&args.name, &args.key), paths::segment(&args.operation));
    let request = with_json(context.client.request(Method::POST, &path)?, input.get().to_owned());
    context.client.send(request, LONG_ANSWER).await
}
