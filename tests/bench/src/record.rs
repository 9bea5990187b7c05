//! One figure: a line on the screen and a line of JSON.

use crate::numbers::{float, shown};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A raw limit of the machine, measured in the same run.
#[derive(Clone, PartialEq, Debug)]
pub struct Limit {
    /// What is limited.
    pub name: String,
    /// How much the machine can do, in the unit of the figure beside it.
    pub value: f64,
}

impl Limit {
    /// A limit.
    pub fn new(name: impl Into<String>, value: f64) -> Limit {
        Limit { name: name.into(), value }
    }
}

/// One figure of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The work.
    pub work: String,
    /// How many were under way at once: clients, timers, parked workflows. In W5 the steps of the run.
    pub concurrency: u64,
    /// What was measured.
    pub figure: String,
    /// The figure.
    pub value: f64,
    /// What it counts.
    pub unit: String,
    /// The raw limit beside it.
    pub limit_name: Option<String>,
    /// What the machine can do.
    pub limit_value: Option<f64>,
    /// The figure divided by the limit.
    pub ratio: Option<f64>,
}

impl Record {
    /// A figure with no limit beside it.
    pub fn new(work: &str, concurrency: u64, figure: impl Into<String>, value: f64, unit: &str) -> Record {
        let (work, figure, unit) = (work.to_owned(), figure.into(), unit.to_owned());
        Record { work, concurrency, figure, value, unit, limit_name: None, limit_value: None, ratio: None }
    }

    /// The same beside a limit.
    #[must_use]
    pub fn beside(self, limit: Limit) -> Record {
        let ratio = (limit.value != 0.0).then(|| self.value / limit.value);
        Record { limit_name: Some(limit.name), limit_value: Some(limit.value), ratio, ..self }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { work, concurrency, figure, value, unit, .. } = self;
        write!(f, "{work} {:>9}  {figure:<44} {:>12} {unit:<12}", shown(float(*concurrency)), shown(*value))?;
        if let (Some(name), Some(limit), Some(ratio)) = (&self.limit_name, self.limit_value, self.ratio) {
            write!(f, " {ratio:.3} of {name} ({})", shown(limit))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_has_every_member_and_comes_back() {
        let record = Record::new("W1", 512, "throughput", 40_000.0, "steps/s");
        let bare = serde_json::to_string(&record).unwrap();
        assert_eq!(
            bare,
            r#"{"work":"W1","concurrency":512,"figure":"throughput","value":40000.0,"unit":"steps/s","limit_name":null,"limit_value":null,"ratio":null}"#
        );
        let beside = record.beside(Limit::new("bare-store commits", 80_000.0));
        let line = serde_json::to_string(&beside).unwrap();
        assert!(line.ends_with(r#""limit_name":"bare-store commits","limit_value":80000.0,"ratio":0.5}"#), "{line}");
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), beside);
    }

    #[test]
    fn a_limit_of_zero_has_no_ratio() {
        let record = Record::new("W1", 1, "throughput", 1.0, "steps/s").beside(Limit::new("nothing", 0.0));
        assert_eq!(record.ratio, None);
    }
}
