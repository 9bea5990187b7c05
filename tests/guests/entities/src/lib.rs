//! One entity for the black-box tests: a number that serves as counter and as account, values under keys, messages to
//! others, and three ways to go wrong.

use rehydrate::{EntityContext, EntityId, Failure, Unwrapped};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::hint::black_box;

/// The state: a number.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
struct TestEntity {
    number: i64,
}

/// The input of `store`.
#[derive(Deserialize)]
struct Store {
    key: String,
    value: Value,
}

/// The input of `start`.
#[derive(Deserialize)]
struct Start {
    workflow: String,
    id: String,
    #[serde(default)]
    input: Value,
}

/// The input of `notify`.
#[derive(Deserialize)]
struct Notify {
    instance: String,
    name: String,
    #[serde(default)]
    payload: Value,
}

/// The input of `forward`.
#[derive(Deserialize)]
struct Forward {
    key: String,
    op: String,
    #[serde(default)]
    input: Value,
}

#[rehydrate::entity]
impl TestEntity {
    /// Adds to the number, which may come from a client that encodes it twice; gives the sum.
    fn add(&mut self, Unwrapped(n): Unwrapped<i64>) -> Result<i64, Failure> {
        self.number = self.number.saturating_add(n);
        Ok(self.number)
    }

    /// Gives the number.
    fn get(&self) -> Result<i64, Failure> {
        Ok(self.number)
    }

    /// Sets the number.
    fn set(&mut self, n: i64) -> Result<(), Failure> {
        self.number = n;
        Ok(())
    }

    /// As `add`, by another name.
    fn deposit(&mut self, amount: i64) -> Result<i64, Failure> {
        self.add(Unwrapped(amount))
    }

    /// Takes from the number; fails if it would be below zero.
    fn withdraw(&mut self, amount: i64) -> Result<i64, Failure> {
        if self.number < amount {
            return Err(Failure::application("insufficient", format!("{} is less than {amount}", self.number)));
        }
        self.number -= amount;
        Ok(self.number)
    }

    /// Changes the number, stores a value and fails: neither may be kept.
    fn fail(&mut self, ctx: EntityContext) -> Result<(), Failure> {
        self.number = -1;
        ctx.set("failed", &true)?;
        Err(Failure::application("told-to", "the operation was told to fail").with_details(self.number))
    }

    /// Stores a value and panics: it may not be kept.
    fn trap(&self, ctx: EntityContext) -> Result<(), Failure> {
        ctx.set("trapped", &true)?;
        panic!("the operation was told to trap")
    }

    /// Uses the CPU for ever.
    fn r#loop(&self) -> Result<(), Failure> {
        let mut turns = 0_u64;
        loop {
            turns = black_box(turns.wrapping_add(1));
        }
    }

    /// Stores a value under a key.
    fn store(&self, ctx: EntityContext, input: Store) -> Result<(), Failure> {
        ctx.set(&input.key, &input.value)
    }

    /// Stores a text under the key `note`.
    fn note(&self, ctx: EntityContext, text: String) -> Result<(), Failure> {
        ctx.set("note", &text)
    }

    /// Gives the value under a key, or null.
    fn load(&self, ctx: EntityContext, key: String) -> Result<Option<Value>, Failure> {
        ctx.get(&key)
    }

    /// Gives all keys.
    fn keys(&self, ctx: EntityContext) -> Result<Vec<String>, Failure> {
        Ok(ctx.keys())
    }

    /// Gives who asked for what.
    fn info(&self, ctx: EntityContext) -> Result<rehydrate::OperationInfo, Failure> {
        Ok(ctx.info())
    }

    /// Starts an instance.
    fn start(&self, ctx: EntityContext, input: Start) -> Result<(), Failure> {
        ctx.start(&input.workflow, &input.id, &input.input)
    }

    /// Sends a signal to an instance.
    fn notify(&self, ctx: EntityContext, input: Notify) -> Result<(), Failure> {
        ctx.signal_instance(&input.instance, &input.name, &input.payload)
    }

    /// Signals another entity of the same name.
    fn forward(&self, ctx: EntityContext, input: Forward) -> Result<(), Failure> {
        let to = EntityId::new(ctx.info().entity.name, input.key);
        ctx.signal_entity(&to, &input.op, &input.input)
    }
}
