//! `instance`: starting, listing and looking.

use super::{Context, json_argument, messages, upkeep, workflow_and_version};
use crate::args::{Conflict, FollowArgs, HistoryArgs, InstanceCommand, ListArgs, Output, Reuse, StartArgs};
use crate::client::{Answer, Client, Follow, Followed, LONG_ANSWER, wait_for_end, with_json};
use crate::output::{self, Ended, Table};
use crate::show;
use rehydrate_http::dto::{
    ConflictPolicy, InstanceList, InstanceStarted, InstanceStatus, InstanceSummary, Log, Replay, ReplayReport,
    ReusePolicy, StartInstance, State,
};
use rehydrate_http::paths;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Instances asked for at once.
const PAGE: usize = 500;

/// `instance`
pub async fn run(context: &Context, command: InstanceCommand) -> anyhow::Result<Ended> {
    match command {
        InstanceCommand::Start(args) => return start(context, &args).await,
        InstanceCommand::Follow(FollowArgs { id, run, from }) => {
            return follow(&context.client, context.output, &id, run, from).await;
        }
        InstanceCommand::Replay { id, version, run } => return replay(context, &id, Replay { version, run }).await,
        InstanceCommand::List(args) => list(context, &args).await?,
        InstanceCommand::Describe { id } => {
            let answer = context.client.get(&paths::instance(&id), &[]).await?;
            context.print(&answer, |answer| Ok(show::instance(&answer.parse()?)))?;
        }
        InstanceCommand::History(args) => history(context, &args).await?,
        InstanceCommand::Log { id, run } => log(context, &id, run).await?,
        InstanceCommand::Signal(args) => messages::signal(context, &args).await?,
        InstanceCommand::Cancel(args) => messages::end(context, "cancel", &args).await?,
        InstanceCommand::Terminate(args) => messages::end(context, "terminate", &args).await?,
        InstanceCommand::Suspend(args) => messages::end(context, "suspend", &args).await?,
        InstanceCommand::Resume(args) => messages::go_on(context, "resume", &args).await?,
        InstanceCommand::Rewind(args) => messages::go_on(context, "rewind", &args).await?,
        InstanceCommand::Purge(args) => upkeep::purge(context, &args).await?,
        InstanceCommand::Restart(args) => upkeep::restart(context, &args).await?,
        InstanceCommand::Migrate { id, version } => messages::migrate(context, &id, version).await?,
    }
    Ok(Ended::Well)
}

async fn start(context: &Context, args: &StartArgs) -> anyhow::Result<Ended> {
    let body = StartInstance {
        reuse_policy: match args.reuse_policy {
            Reuse::Allow => ReusePolicy::Allow,
            Reuse::AllowIfFailed => ReusePolicy::AllowIfFailed,
            Reuse::Refuse => ReusePolicy::Refuse,
        },
        conflict_policy: match args.conflict_policy {
            Conflict::Refuse => ConflictPolicy::Refuse,
            Conflict::UseExisting => ConflictPolicy::UseExisting,
            Conflict::Terminate => ConflictPolicy::Terminate,
        },
        ..start_request(&args.workflow, args.id.clone(), &args.input)?
    };
    let json = serde_json::to_string(&body)?;
    let mut request = with_json(context.client.request(Method::POST, "/v1/instances")?, json);
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let answer = context.client.send(request, LONG_ANSWER).await?;
    let started: InstanceStarted = answer.parse()?;
    if !args.wait {
        context.print(&answer, |_| Ok(show::started(&started)))?;
        return Ok(Ended::Well);
    }
    eprintln!("{}", output::clean(&show::started(&started)));
    wait_for_end(&context.client, &started.id, started.run).await?;
    finish(&context.client, context.output, &started.id).await
}

/// The body that starts `NAME[@VERSION]` with an input argument.
pub fn start_request(workflow: &str, id: Option<String>, input: &str) -> anyhow::Result<StartInstance> {
    let (workflow, version) = workflow_and_version(workflow);
    Ok(StartInstance {
        workflow,
        version,
        id,
        input: Some(json_argument(input)?),
        reuse_policy: ReusePolicy::default(),
        conflict_policy: ConflictPolicy::default(),
    })
}

/// Prints how an instance ended.
async fn finish(client: &Client, output: Output, id: &str) -> anyhow::Result<Ended> {
    let answer = client.get(&paths::instance(id), &[]).await?;
    let status: InstanceStatus = answer.parse()?;
    match output {
        Output::Json => output::line(&answer.text)?,
        Output::Table => output::line(&show::end(&status))?,
    }
    Ok(if status.state == State::Completed { Ended::Well } else { Ended::InstanceFailed })
}

async fn list(context: &Context, args: &ListArgs) -> anyhow::Result<()> {
    let mut all = InstanceList { instances: Vec::new(), next_cursor: args.cursor.clone() };
    loop {
        let left = args.limit.saturating_sub(all.instances.len());
        let answer = context.client.get("/v1/instances", &list_query(args, left.min(PAGE), &all.next_cursor)).await?;
        let page: InstanceList = answer.parse()?;
        all.instances.extend(page.instances);
        all.next_cursor = page.next_cursor;
        if all.next_cursor.is_none() || all.instances.len() >= args.limit {
            break;
        }
    }
    match context.output {
        Output::Json => output::line(&serde_json::to_string(&all)?)?,
        Output::Table => output::line(&list_table(&all))?,
    }
    Ok(())
}

fn list_query(args: &ListArgs, limit: usize, cursor: &Option<String>) -> Vec<(&'static str, String)> {
    let states = (!args.state.is_empty()).then(|| args.state.join(","));
    [
        ("state", states),
        ("workflow", args.workflow.clone()),
        ("version", args.version.clone()),
        ("id_prefix", args.id_prefix.clone()),
        ("created_from", args.created_from.clone()),
        ("created_to", args.created_to.clone()),
        ("limit", Some(limit.to_string())),
        ("cursor", cursor.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn list_table(list: &InstanceList) -> String {
    if list.instances.is_empty() {
        return "no such instances; start one with `rehydrate instance start NAME`".to_owned();
    }
    let mut table = Table::new(&["id", "workflow", "state", "created", "updated", "problem"]);
    for instance in &list.instances {
        let InstanceSummary { id, workflow, version, state, created, updated, problem, .. } = instance;
        table.row([
            id.clone(),
            format!("{workflow}@{version}"),
            state.as_str().to_owned(),
            output::time(created),
            output::time(updated),
            problem.as_ref().map_or_else(String::new, |problem| output::brief(&problem.message, 60)),
        ]);
    }
    let mut text = table.render();
    if let Some(cursor) = &list.next_cursor {
        text.push_str(&format!("there are more: go on with --cursor {cursor}, or give a larger --limit\n"));
    }
    text
}

/// A piece of a history whose events stay as they came.
#[derive(Serialize, Deserialize)]
struct RawHistory {
    run: u32,
    events: Vec<Box<RawValue>>,
    last: u64,
    closed: bool,
}

async fn history(context: &Context, args: &HistoryArgs) -> anyhow::Result<()> {
    let path = format!("{}/history", paths::instance(&args.id));
    let mut wanted = args.limit.unwrap_or(usize::MAX);
    let (mut from, mut run) = (args.from.max(1), args.run);
    let mut all: Option<RawHistory> = None;
    while wanted > 0 {
        let mut query = vec![("from", from.to_string()), ("limit", wanted.min(PAGE).to_string())];
        query.extend(run.map(|run| ("run", run.to_string())));
        let mut page: RawHistory = context.client.get(&path, &query).await?.parse()?;
        run = Some(page.run);
        wanted = wanted.saturating_sub(page.events.len());
        from = from.saturating_add(u64::try_from(page.events.len()).unwrap_or(u64::MAX));
        let done = page.events.is_empty() || from > page.last;
        if context.output == Output::Table {
            // As it comes: a history can be long.
            for event in page.events.drain(..) {
                output::line(&show::event(event.get())?)?;
            }
        }
        match &mut all {
            Some(all) => {
                all.events.append(&mut page.events);
                (all.last, all.closed) = (page.last, page.closed);
            }
            None => all = Some(page),
        }
        if done {
            break;
        }
    }
    if context.output == Output::Json {
        output::line(&serde_json::to_string(&all)?)?;
    }
    Ok(())
}

/// Prints events as they come until the run has ended, then how it ended.
pub async fn follow(client: &Client, output: Output, id: &str, run: Option<u32>, from: u64) -> anyhow::Result<Ended> {
    let mut follow = Follow::new(client, id, run, from);
    while let Followed::Event(json) = follow.next().await? {
        match output {
            Output::Json => output::line(&json)?,
            Output::Table => output::line(&show::event(&json)?)?,
        }
    }
    // The last line of JSON would be of another kind than those before it.
    match output {
        Output::Table => finish(client, output, id).await,
        Output::Json => {
            let status: InstanceStatus = client.get(&paths::instance(id), &[]).await?.parse()?;
            Ok(if status.state == State::Completed { Ended::Well } else { Ended::InstanceFailed })
        }
    }
}

async fn log(context: &Context, id: &str, run: Option<u32>) -> anyhow::Result<()> {
    let path = format!("{}/log", paths::instance(id));
    let mut all = Log { lines: Vec::new(), next: 1 };
    loop {
        let mut query = vec![("from", all.next.to_string()), ("limit", PAGE.to_string())];
        query.extend(run.map(|run| ("run", run.to_string())));
        let page: Log = context.client.get(&path, &query).await?.parse()?;
        if page.lines.is_empty() {
            break;
        }
        all.next = page.next;
        match context.output {
            Output::Json => all.lines.extend(page.lines),
            Output::Table => page.lines.iter().try_for_each(|line| output::line(&show::log_line(line)))?,
        }
    }
    if context.output == Output::Json {
        output::line(&serde_json::to_string(&all)?)?;
    }
    Ok(())
}

async fn replay(context: &Context, id: &str, replay: Replay) -> anyhow::Result<Ended> {
    let path = format!("{}/replay", paths::instance(id));
    let request = with_json(context.client.request(Method::POST, &path)?, serde_json::to_string(&replay)?);
    let answer: Answer = context.client.send(request, LONG_ANSWER).await?;
    let report: ReplayReport = answer.parse()?;
    context.print(&answer, |_| Ok(show::replay(&report)))?;
    Ok(if report.verdict == "matches" { Ended::Well } else { Ended::InstanceFailed })
}
