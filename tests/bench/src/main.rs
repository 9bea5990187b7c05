//! `bench-host`: measures a host beside the raw limits of the machine it runs on, and says which goals it meets.
//!
//! It never judges a host by a number alone: the disk and the CPU drift by the minute, so what the machine can
//! do is measured in the same run, just before and after, and goals are ratios where they can be.

mod api;
mod args;
mod bench;
mod client;
mod figures;
mod goals;
mod host;
mod instructions;
mod limits;
mod load;
mod meter;
mod numbers;
mod plot;
mod proc;
mod record;
mod report;
mod works;

use crate::args::{Args, Command, RunArgs, Work};
use crate::bench::{Bench, Scale};
use crate::host::{BenchHost, Places};
use crate::limits::http::BareHttp;
use crate::plot::Source;
use crate::report::Report;
use anyhow::bail;
use clap::{Parser as _, ValueEnum as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.command {
        Some(Command::BareHttpServer) => limits::http::serve(),
        Some(Command::Plot { files, svg }) => plot_files(files, svg),
        Some(Command::Instructions { piece, steps }) => instructions::run(*piece, *steps),
        None => measure(&args.run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures until done, or until it is asked to end; all that was started ends with it.
fn measure(args: &RunArgs) -> anyhow::Result<()> {
    // One thread: the client must leave the machine to the host.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            outcome = run(args) => outcome,
            _ = interrupt.recv() => bail!("stopped; what was started has ended"),
            _ = terminate.recv() => bail!("stopped; what was started has ended"),
        }
    })
}

async fn run(args: &RunArgs) -> anyhow::Result<()> {
    if !args.counts.is_empty() && args.works.len() != 1 {
        bail!("--count means something else to each work; give one --work with it");
    }
    let places = Places::find(args.host_bin.clone(), args.data_dir.clone())?;
    let log = places.directory()?;
    let bare_http = BareHttp::start(log.path())?;
    let report = Report::new(args.json.as_deref())?;
    let mut bench = Bench { places, scale: Scale::new(args.quick), counts: args.counts.clone(), report, bare_http };
    header(&bench).await?;
    let works = if args.works.is_empty() { Work::value_variants() } else { &args.works };
    for work in works {
        println!("{}", work.title());
        works::run(&mut bench, *work).await?;
    }
    let records = bench.report.records();
    println!("Goals");
    goals::judge(records).iter().for_each(|goal| println!("  {goal}"));
    goals::share_of_the_parts(records).iter().for_each(|note| println!("  {note}"));
    goals::drifted(records).iter().for_each(|drift| println!("  {drift}"));
    match &args.svg {
        Some(directory) => draw(&[Source { name: String::new(), records: records.to_vec() }], directory),
        None => Ok(()),
    }
}

/// Draws what earlier runs have written, each under its file's name if there are two.
fn plot_files(files: &[PathBuf], directory: &Path) -> anyhow::Result<()> {
    let source = |file: &PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = if files.len() > 1 { stem.into_owned() } else { String::new() };
        anyhow::Ok(Source { name, records: report::read(file)? })
    };
    let sources: Vec<Source> = files.iter().map(source).collect::<Result<_, _>>()?;
    draw(&sources, directory)
}

fn draw(sources: &[Source], directory: &Path) -> anyhow::Result<()> {
    let files = plot::draw(sources, directory)?;
    files.iter().for_each(|file| println!("drawn: {file}"));
    Ok(())
}

/// Says what is measured on what.
async fn header(bench: &Bench) -> anyhow::Result<()> {
    let host = BenchHost::start(&bench.places, &[]).await?;
    let stats = api::stats(&mut host.admin().await?).await?;
    println!("host:       {}", bench.places.host.display());
    println!("durability: {}", stats.durability);
    println!("machine:    {}", proc::machine());
    println!("data:       {}", bench.places.data.display());
    if bench.scale.quick {
        println!("scale:      quick: to see that it works; the figures are not to be compared");
    }
    Ok(())
}
