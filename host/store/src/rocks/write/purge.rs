//! Dropping runs for good.
//!
//! Few keys are dropped one by one, which costs later reads nothing; many by a range. Each range in a table must be
//! looked at by every read of that table, so that thousands of ranges, one for each of thousands of small runs, would
//! slow down everybody.

use super::super::settings::Family;
use super::Group;
use crate::KeyMap;
use crate::error::StoreError;
use crate::keys;
use crate::rows::{Batch, InstanceRow, Purge};
use rehydrate_core::{InstanceKey, RunNumber};
use rocksdb::ReadOptions;

/// Keys of one family that are dropped one by one, at most.
const POINT_DELETES_MAX: usize = 512;

/// What the batches of a commit have purged so far, with the first run of each instance that is not: the database still
/// has it.
#[derive(Default)]
pub(super) struct Purged(KeyMap<InstanceKey, RunNumber>);

impl Purged {
    /// Whether that run was there before, and is not any more.
    pub(super) fn has(&self, key: InstanceKey, run: RunNumber) -> bool {
        self.0.get(&key).is_some_and(|until| run < *until)
    }

    fn add(&mut self, key: InstanceKey, until: RunNumber) {
        let known = self.0.entry(key).or_insert(until);
        *known = until.max(*known);
    }

    /// The instances, with the first run of each that was not purged.
    pub(super) fn into_runs(self) -> impl Iterator<Item = (InstanceKey, RunNumber)> {
        self.0.into_iter()
    }
}

impl Group<'_> {
    pub(super) fn put_purge(&mut self, batch: &Batch, purge: Purge) -> Result<(), StoreError> {
        let key = batch.key;
        let from = key.0.to_vec();
        let until = match purge.until() {
            Some(run) => keys::run(key, run).to_vec(),
            // Longer and greater than any key of the instance.
            None => [&key.0[..], &[0xff; keys::NUMBERED_BYTES]].concat(),
        };
        // What earlier batches of this commit put can't be scanned yet.
        let is_written = self.last_events.keys().any(|(of, _)| *of == key);
        for family in [Family::Events, Family::Log, Family::Tasks] {
            self.drop_keys(family, from.clone(), until.clone(), is_written)?;
        }
        if purge == Purge::Instance {
            self.drop_row(batch)?;
        }
        self.last_events.retain(|(of, run), _| *of != key || !purge.drops(*run));
        self.logs.retain(|(of, run), _| *of != key || !purge.drops(*run));
        // An instance has no runs after that of its purge.
        self.purged.add(key, purge.until().unwrap_or_else(|| batch.run.next()));
        Ok(())
    }

    fn drop_keys(&mut self, family: Family, from: Vec<u8>, until: Vec<u8>, as_range: bool) -> Result<(), StoreError> {
        let store = self.store;
        let handle = store.family(family)?;
        let few = if as_range { None } else { few_keys(self, family, &from, &until)? };
        match few {
            Some(few) => few.iter().for_each(|key| self.write.delete_cf(handle, key)),
            None => self.write.delete_range_cf(handle, from, until),
        }
        Ok(())
    }

    fn drop_row(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let (store, key) = (self.store, batch.key);
        let stored: Option<InstanceRow> =
            store.row(Family::Instances, &key.0, || format!("the row of instance {key:?}"))?;
        let index = store.family(Family::Index)?;
        let entries = stored.map(|row| row.index_keys()).into_iter().chain(batch.previous);
        entries.for_each(|entry| self.write.delete_cf(index, keys::index(entry, key)));
        self.write.delete_cf(store.family(Family::Instances)?, key.0);
        Ok(())
    }
}

/// The keys in `from..until`; none if they are more than a few.
fn few_keys(group: &Group<'_>, family: Family, from: &[u8], until: &[u8]) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
    let mut options = ReadOptions::default();
    // The bounds are of several runs, which is more than the filters of events know.
    options.set_total_order_seek(true);
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(until);
    let mut entries = group.store.db.raw_iterator_cf_opt(group.store.family(family)?, options);
    let mut few = Vec::new();
    entries.seek_to_first();
    while let Some(key) = entries.key() {
        if few.len() == POINT_DELETES_MAX {
            return Ok(None);
        }
        few.push(key.to_vec());
        entries.next();
    }
    let unread =
        |error: rocksdb::Error| StoreError::Read { what: format!("`{}`", family.name()), reason: error.to_string() };
    entries.status().map_err(unread)?;
    Ok(Some(few))
}
