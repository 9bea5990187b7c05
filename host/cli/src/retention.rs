//! `[retention]` of the configuration file: how long instances are kept after their end.

use anyhow::bail;
use rehydrate_core::Nanos;
use rehydrate_runtime::{Kept, KeptByOutcome, RetentionConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

const DAY_SECONDS: f64 = 86_400.0;

/// The most days that are taken: what goes beyond is no time that anybody waits for.
const DAYS_MAX: f64 = 100_000.0;

/// `[retention]`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RetentionTable {
    completed_days: Option<Days>,
    failed_days: Option<Days>,
    cancelled_days: Option<Days>,
    terminated_days: Option<Days>,
    workflows: BTreeMap<String, WorkflowTable>,
    past_runs: u32,
    deletes_per_second: u32,
    first_after_seconds: u64,
    every_seconds: u64,
}

impl Default for RetentionTable {
    fn default() -> Self {
        let RetentionConfig { past_runs, deletes_per_second, first_after, every, .. } = RetentionConfig::default();
        RetentionTable {
            completed_days: None,
            failed_days: None,
            cancelled_days: None,
            terminated_days: None,
            workflows: BTreeMap::new(),
            past_runs,
            deletes_per_second,
            first_after_seconds: first_after.as_secs(),
            every_seconds: every.as_secs(),
        }
    }
}

/// `[retention.workflows.NAME]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct WorkflowTable {
    completed_days: Option<Days>,
    failed_days: Option<Days>,
    cancelled_days: Option<Days>,
    terminated_days: Option<Days>,
}

/// A number of days, with a fraction if need be, or `"keep"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Days {
    Number(f64),
    Word(String),
}

impl RetentionTable {
    /// As the runtime takes it; an error names the key that is wrong.
    pub fn config(&self) -> anyhow::Result<RetentionConfig> {
        if self.deletes_per_second == 0 || self.every_seconds == 0 {
            bail!("`retention.deletes-per-second` and `retention.every-seconds` must be at least 1");
        }
        let own = WorkflowTable {
            completed_days: self.completed_days.clone(),
            failed_days: self.failed_days.clone(),
            cancelled_days: self.cancelled_days.clone(),
            terminated_days: self.terminated_days.clone(),
        };
        let own = own.kept("retention")?;
        let workflows = self
            .workflows
            .iter()
            .map(|(name, table)| Ok((name.clone(), table.kept(&format!("retention.workflows.{name}"))?)));
        Ok(RetentionConfig {
            kept: KeptByOutcome {
                completed: own.completed.unwrap_or_default(),
                failed: own.failed.unwrap_or_default(),
                cancelled: own.cancelled.unwrap_or_default(),
                terminated: own.terminated.unwrap_or_default(),
            },
            workflows: workflows.collect::<anyhow::Result<_>>()?,
            past_runs: self.past_runs,
            deletes_per_second: self.deletes_per_second,
            first_after: Duration::from_secs(self.first_after_seconds),
            every: Duration::from_secs(self.every_seconds),
        })
    }
}

impl WorkflowTable {
    fn kept(&self, table: &str) -> anyhow::Result<KeptByOutcome<Option<Kept>>> {
        let kept =
            |key: &str, days: &Option<Days>| days.as_ref().map(|days| days.kept(&format!("{table}.{key}"))).transpose();
        Ok(KeptByOutcome {
            completed: kept("completed-days", &self.completed_days)?,
            failed: kept("failed-days", &self.failed_days)?,
            cancelled: kept("cancelled-days", &self.cancelled_days)?,
            terminated: kept("terminated-days", &self.terminated_days)?,
        })
    }
}

impl Days {
    fn kept(&self, key: &str) -> anyhow::Result<Kept> {
        match self {
            Days::Word(word) if word == "keep" => Ok(Kept::ForEver),
            Days::Number(days) if (0.0..=DAYS_MAX).contains(days) => {
                let age = Duration::from_secs_f64(days * DAY_SECONDS);
                Ok(Kept::For(Nanos(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))))
            }
            Days::Number(days) => bail!("`{key}` is {days}; give 0 to {DAYS_MAX} days, or \"keep\""),
            Days::Word(word) => bail!("`{key}` is `{word}`; give a number of days, or \"keep\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> anyhow::Result<RetentionConfig> {
        toml::from_str::<RetentionTable>(text)?.config()
    }

    #[test]
    fn without_a_word_instances_are_kept_for_ever_and_ten_past_runs() {
        assert_eq!(config("").expect("settings"), RetentionConfig::default());
        assert_eq!(config("").expect("settings").past_runs, 10);
    }

    #[test]
    fn days_may_have_a_fraction_and_a_workflow_may_differ() {
        let config = config(
            r#"
            completed-days = 1.5
            failed-days = 30
            past-runs = 2
            deletes-per-second = 9
            first-after-seconds = 0
            every-seconds = 3
            [workflows.audit]
            completed-days = "keep"
            cancelled-days = 0.00001
            "#,
        )
        .expect("settings");
        assert_eq!(config.kept.completed, Kept::For(Nanos::from_secs(129_600)));
        assert_eq!(config.kept.failed, Kept::For(Nanos::from_secs(30 * 86_400)));
        assert_eq!(config.kept.terminated, Kept::ForEver);
        let audit = config.workflows["audit"];
        assert_eq!((audit.completed, audit.failed), (Some(Kept::ForEver), None));
        assert_eq!(audit.cancelled, Some(Kept::For(Nanos::from_millis(864))));
        assert_eq!((config.past_runs, config.deletes_per_second), (2, 9));
        assert_eq!((config.first_after, config.every), (Duration::ZERO, Duration::from_secs(3)));
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_its_key() {
        for (text, named) in [
            ("completed-days = -1", "retention.completed-days"),
            ("failed-days = nan", "retention.failed-days"),
            ("failed-days = 1e9", "retention.failed-days"),
            ("cancelled-days = 'never'", "retention.cancelled-days"),
            ("[workflows.a]\ncompleted-days = 'x'", "retention.workflows.a.completed-days"),
            ("deletes-per-second = 0", "retention.deletes-per-second"),
            ("days = 1", "days"),
            ("[workflows.a]\npast-runs = 1", "past-runs"),
        ] {
            let error = format!("{:#}", config(text).expect_err(text));
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
