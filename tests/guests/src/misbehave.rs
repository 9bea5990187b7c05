//! What a hostile or broken workflow does. Each must be stopped by the host with a clear failure, while other
//! instances go on.

use rehydrate::{Context, Failure, Level};
use serde::Deserialize;
use serde_json::{Value, json};
use std::hint::black_box;

/// How.
#[derive(Deserialize, Debug)]
#[serde(tag = "how", rename_all = "snake_case")]
pub(crate) enum Misbehave {
    /// Panics with that message.
    Panic { message: String },
    /// Uses the CPU for ever.
    LoopForever,
    /// Takes memory until there is none.
    EatMemory,
    /// Calls itself until the stack is full.
    Recurse,
    /// Writes long lines to the log for ever.
    FloodLog,
    /// Writes long lines to stdout for ever.
    FloodStdout,
    /// Makes host calls that leave no trace, for ever.
    FloodCalls,
    /// Issues commands for ever.
    FloodCommands,
    /// Starts operations for ever and keeps them.
    FloodOperations,
    /// Gives that many bytes back.
    BigOutput { bytes: usize },
    /// Sets a status that is no JSON.
    InvalidStatus,
    /// Gives an activity an input that is no JSON.
    InvalidInput,
    /// Waits for nothing at all.
    WaitForNothing,
}

impl Misbehave {
    /// Does it. Where it comes back, the output tells what it had.
    pub(crate) fn run(self, ctx: &Context) -> Result<Value, Failure> {
        match self {
            Misbehave::Panic { message } => panic!("{message}"),
            Misbehave::LoopForever => loop_forever(),
            Misbehave::EatMemory => eat_memory(),
            Misbehave::Recurse => Ok(json!(ackermann(4, 3))),
            Misbehave::FloodLog => loop {
                ctx.log(Level::Info, "x".repeat(1000));
            },
            Misbehave::FloodStdout => loop {
                println!("{}", "x".repeat(1000));
            },
            Misbehave::FloodCalls => loop {
                ctx.random_u64();
            },
            Misbehave::FloodCommands => flood_commands(ctx),
            Misbehave::FloodOperations => flood_operations(ctx),
            Misbehave::BigOutput { bytes } => Ok(json!("x".repeat(bytes))),
            Misbehave::InvalidStatus => raw::invalid_status(),
            Misbehave::InvalidInput => raw::invalid_input(),
            Misbehave::WaitForNothing => raw::wait_for_nothing(),
        }
    }
}

fn loop_forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn eat_memory() -> ! {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Recursion that no compiler turns into a loop, and that ends only after more calls than any stack holds.
fn ackermann(m: u64, n: u64) -> u64 {
    match (m, n) {
        (0, n) => n.wrapping_add(1),
        (m, 0) => ackermann(m - 1, 1),
        (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
    }
}

fn flood_commands(ctx: &Context) -> Result<Value, Failure> {
    let mut count = 0_u64;
    loop {
        ctx.set_status(&count)?;
        count += 1;
    }
}

fn flood_operations(ctx: &Context) -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(ctx.signal::<Value>("never"));
    }
}

/// What the SDK makes impossible, by the bare imports.
#[cfg(target_family = "wasm")]
mod raw {
    use rehydrate::__private::workflow::rehydrate::workflow::{activities, control, operations};
    use rehydrate::Failure;
    use serde_json::{Value, json};

    pub(super) fn invalid_status() -> Result<Value, Failure> {
        control::set_status("{ no JSON");
        Ok(json!("the status was accepted"))
    }

    pub(super) fn invalid_input() -> Result<Value, Failure> {
        let outcome = activities::schedule("echo", "{ no JSON", None).wait()?;
        Ok(json!(outcome))
    }

    pub(super) fn wait_for_nothing() -> Result<Value, Failure> {
        Ok(json!(operations::wait_any(&[])))
    }
}

/// In a native build there are no bare imports.
#[cfg(not(target_family = "wasm"))]
mod raw {
    use rehydrate::Failure;
    use serde_json::Value;

    pub(super) fn invalid_status() -> Result<Value, Failure> {
        Err(Failure::rejected("native", "only a component can do this"))
    }

    pub(super) use invalid_status as invalid_input;
    pub(super) use invalid_status as wait_for_nothing;
}
