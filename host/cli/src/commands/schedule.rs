//! `schedule`: instances started at the times of a cron expression.

use super::{Context, json_argument, workflow_and_version};
use crate::args::{CatchUp, Output, Overlap, PutScheduleArgs, ScheduleCommand};
use crate::client::LONG_ANSWER;
use crate::client::with_json;
use crate::output::{self, Ended, Table};
use crate::show;
use rehydrate_http::dto;
use rehydrate_http::paths;
use reqwest::{Method, StatusCode};
use std::time::Duration;

/// Schedules asked for at once.
const PAGE: usize = 500;

/// `schedule`
pub async fn run(context: &Context, command: ScheduleCommand) -> anyhow::Result<Ended> {
    match command {
        ScheduleCommand::Put(args) => put(context, &args).await?,
        ScheduleCommand::List => list(context).await?,
        ScheduleCommand::Show { name } => {
            let answer = context.client.get(&paths::schedule(&name), &[]).await?;
            context.print(&answer, |answer| Ok(show::schedule(&answer.parse()?)))?;
        }
        ScheduleCommand::Pause { name, note } => change(context, &name, "pause", note).await?,
        ScheduleCommand::Resume { name, note } => change(context, &name, "resume", note).await?,
        ScheduleCommand::Trigger { name } => {
            let path = format!("{}/trigger", paths::schedule(&name));
            let answer = context.client.post(&path, "{}".to_owned()).await?;
            context.print(&answer, |answer| Ok(show::started(&answer.parse()?)))?;
        }
        ScheduleCommand::Delete { name } => {
            let request = context.client.request(Method::DELETE, &paths::schedule(&name))?;
            context.client.send(request, LONG_ANSWER).await?;
            match context.output {
                Output::Json => output::line("{}")?,
                Output::Table => {
                    output::line(&output::clean(&format!("`{name}` is deleted; what it started goes on")))?
                }
            }
        }
    }
    Ok(Ended::Well)
}

async fn put(context: &Context, args: &PutScheduleArgs) -> anyhow::Result<()> {
    let (workflow, version) = workflow_and_version(&args.workflow);
    let body = dto::PutSchedule {
        cron: args.cron.clone(),
        time_zone: args.time_zone.clone(),
        workflow,
        version,
        input: Some(json_argument(&args.input)?),
        overlap: match args.overlap {
            Overlap::Skip => dto::Overlap::Skip,
            Overlap::Allow => dto::Overlap::Allow,
            Overlap::BufferOne => dto::Overlap::BufferOne,
            Overlap::CancelOther => dto::Overlap::CancelOther,
            Overlap::TerminateOther => dto::Overlap::TerminateOther,
        },
        catch_up: match args.catch_up {
            CatchUp::All => dto::CatchUp::All,
            CatchUp::Latest => dto::CatchUp::Latest,
            CatchUp::None => dto::CatchUp::None,
        },
        catch_up_window_ms: millis(args.catch_up_window),
        jitter_ms: millis(args.jitter),
        start: args.start.clone(),
        end: args.end.clone(),
        remaining_runs: args.remaining_runs,
        paused: args.paused.then_some(true),
        note: args.note.clone(),
    };
    let request = context.client.request(Method::PUT, &paths::schedule(&args.name))?;
    let answer = context.client.send(with_json(request, serde_json::to_string(&body)?), LONG_ANSWER).await?;
    context.print(&answer, |answer| {
        let schedule: dto::Schedule = answer.parse()?;
        let what = if answer.status == StatusCode::CREATED { "created" } else { "put" };
        let when = match schedule.next.first() {
            Some(next) => format!("due next at {}", output::time(next)),
            None => "is due no more, or paused".to_owned(),
        };
        Ok(output::clean(&format!("{what} {}; {when}", schedule.name)))
    })
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

async fn change(context: &Context, name: &str, verb: &str, note: Option<String>) -> anyhow::Result<()> {
    let path = format!("{}/{verb}", paths::schedule(name));
    let answer = context.client.post(&path, serde_json::to_string(&dto::Note { note })?).await?;
    context.print(&answer, |answer| Ok(show::schedule(&answer.parse()?)))
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let mut all = dto::ScheduleList { schedules: Vec::new(), next_after: None };
    loop {
        let mut query = vec![("limit", PAGE.to_string())];
        query.extend(all.next_after.take().map(|after| ("after", after)));
        let page: dto::ScheduleList = context.client.get("/v1/schedules", &query).await?.parse()?;
        all.schedules.extend(page.schedules);
        all.next_after = page.next_after;
        if all.next_after.is_none() {
            break;
        }
    }
    match context.output {
        Output::Json => output::line(&serde_json::to_string(&all)?)?,
        Output::Table => output::line(&table(&all))?,
    }
    Ok(())
}

fn table(list: &dto::ScheduleList) -> String {
    if list.schedules.is_empty() {
        return "no schedules; put one with `rehydrate schedule put NAME WORKFLOW --cron '0 2 * * *'`".to_owned();
    }
    let titles = ["name", "cron", "time zone", "workflow", "next", "last", "fired", "skipped", "missed", "failed"];
    let mut table = Table::new(&titles);
    for schedule in &list.schedules {
        let next = if schedule.paused { Some("paused".to_owned()) } else { schedule.next.as_deref().map(output::time) };
        table.row([
            schedule.name.clone(),
            schedule.cron.clone(),
            schedule.time_zone.clone(),
            show::workflow(&schedule.workflow, schedule.version.as_deref()),
            next.unwrap_or_else(|| "none".to_owned()),
            schedule.last.as_ref().map_or_else(String::new, |last| output::time(&last.started)),
            schedule.fired.to_string(),
            schedule.skipped.to_string(),
            schedule.missed.to_string(),
            schedule.failed.to_string(),
        ]);
    }
    table.render()
}
