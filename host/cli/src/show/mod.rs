//! What people are shown: an instance with the timeline of its attempts, events as lines, how it ended.
//!
//! Everything here makes clean text out of the API's answers and knows nothing else.

mod component;
mod event;
mod instance;
mod page;
mod schedule;

pub use component::{check, component, migrated};
pub use event::event;
pub use instance::{end, instance, log_line, replay, started};
pub use schedule::{schedule, workflow};
