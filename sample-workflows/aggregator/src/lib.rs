//! The statistics of one sensor, from readings that come from anywhere, at any time and in any order.
//!
//! An entity is the place where they meet: it performs one operation at a time, so nothing is lost between reading a
//! sum and writing it, and anyone can look at it while the readings go on.

use rehydrate::{EntityContext, Failure, Timestamp};
use serde::{Deserialize, Serialize};

/// One reading.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// What was measured.
    pub value: f64,
    /// When; none: when it arrives.
    pub at: Option<Timestamp>,
}

/// Whom to tell when a value is too high.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// Values above this are too high.
    pub above: f64,
    /// The instance that gets the signal `alarm`.
    pub notify: String,
}

/// The signal `alarm`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Alarmed {
    /// Which sensor.
    pub sensor: String,
    /// The reading that is too high.
    pub reading: Reading,
}

/// The state of a sensor, which is also its summary.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sensor {
    /// How many readings there were.
    pub count: u64,
    /// Of all readings.
    pub mean: f64,
    /// The lowest value.
    pub min: Option<f64>,
    /// The highest value.
    pub max: Option<f64>,
    /// The reading with the latest time, whenever it arrived.
    pub latest: Option<Reading>,
    /// Whom to tell when a value is too high.
    pub alarm: Option<Alarm>,
    /// Whether the latest reading is too high: one alarm is enough until it falls again.
    pub is_alarmed: bool,
}

#[rehydrate::entity]
impl Sensor {
    /// Takes a reading in.
    pub fn record(&mut self, ctx: EntityContext, reading: Reading) -> Result<(), Failure> {
        let at = reading.at.unwrap_or_else(|| ctx.now());
        let reading = Reading { at: Some(at), ..reading };
        self.take_in(reading.value);
        let latest = self.latest.as_ref().and_then(|latest| latest.at);
        if latest.is_none_or(|latest| at >= latest) {
            self.watch(&ctx, &reading)?;
            self.latest = Some(reading);
        }
        Ok(())
    }

    /// Takes many readings in, as a device that was offline sends them.
    pub fn record_all(&mut self, ctx: EntityContext, readings: Vec<Reading>) -> Result<(), Failure> {
        readings.into_iter().try_for_each(|reading| self.record(ctx.clone(), reading))
    }

    /// Gives all there is to know.
    pub fn summary(&self) -> Result<Sensor, Failure> {
        Ok(self.clone())
    }

    /// Sets whom to tell when a value is too high; null: nobody.
    pub fn set_alarm(&mut self, alarm: Option<Alarm>) -> Result<(), Failure> {
        self.alarm = alarm;
        self.is_alarmed = false;
        Ok(())
    }

    /// Begins anew; gives what there was.
    pub fn reset(self) -> Result<Sensor, Failure> {
        Ok(self)
    }
}

/// No operations, as the host does not know them.
impl Sensor {
    fn take_in(&mut self, value: f64) {
        self.count += 1;
        // The mean is moved, not made from a sum: a sum of very many readings loses digits.
        self.mean += (value - self.mean) / self.count as f64;
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
    }

    fn watch(&mut self, ctx: &EntityContext, reading: &Reading) -> Result<(), Failure> {
        let Some(alarm) = &self.alarm else { return Ok(()) };
        let is_high = reading.value > alarm.above;
        if is_high && !self.is_alarmed {
            let alarmed = Alarmed { sensor: ctx.info().entity.key, reading: reading.clone() };
            ctx.signal_instance(&alarm.notify, "alarm", &alarmed)?;
        }
        self.is_alarmed = is_high;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
