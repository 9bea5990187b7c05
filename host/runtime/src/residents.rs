//! Which waiting guests stay in memory: the most recently used, within a count and a number of bytes.

use rehydrate_core::InstanceKey;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// What a waiting guest costs besides its linear memory, roughly: its stack and its tables.
const GUEST_OVERHEAD_BYTES: usize = 48 << 10;

#[derive(Default)]
struct Used {
    by_key: HashMap<InstanceKey, (u64, usize)>,
    by_age: BTreeMap<u64, InstanceKey>,
    next: u64,
    bytes: usize,
}

impl Used {
    fn remove(&mut self, key: InstanceKey) -> bool {
        let Some((age, bytes)) = self.by_key.remove(&key) else { return false };
        self.by_age.remove(&age);
        self.bytes -= bytes;
        true
    }
}

/// The budget of waiting guests.
pub struct Residents {
    count_max: usize,
    bytes_max: usize,
    used: Mutex<Used>,
}

impl Residents {
    /// With these budgets.
    pub fn new(count_max: usize, bytes_max: usize) -> Residents {
        Residents { count_max, bytes_max, used: Mutex::default() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Used) -> T) -> T {
        change(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A guest waits from now on; says which ones must go to make room, oldest first.
    pub fn insert(&self, key: InstanceKey, memory_bytes: usize) -> Vec<InstanceKey> {
        self.with(|used| {
            used.remove(key);
            let bytes = memory_bytes.saturating_add(GUEST_OVERHEAD_BYTES);
            let age = used.next;
            used.next += 1;
            used.by_key.insert(key, (age, bytes));
            used.by_age.insert(age, key);
            used.bytes += bytes;
            let mut evicted = Vec::new();
            while used.by_key.len() > self.count_max || used.bytes > self.bytes_max {
                let Some((_, oldest)) = used.by_age.first_key_value() else { break };
                let oldest = *oldest;
                used.remove(oldest);
                evicted.push(oldest);
            }
            evicted
        })
    }

    /// A guest runs, or is gone.
    pub fn remove(&self, key: InstanceKey) {
        self.with(|used| used.remove(key));
    }

    /// Whether a guest waits in memory.
    pub fn contains(&self, key: InstanceKey) -> bool {
        self.with(|used| used.by_key.contains_key(&key))
    }

    /// How many wait, and their bytes.
    pub fn stats(&self) -> (usize, usize) {
        self.with(|used| (used.by_key.len(), used.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> InstanceKey {
        InstanceKey([n; 16])
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let residents = Residents::new(2, usize::MAX);
        assert_eq!(residents.insert(key(1), 0), []);
        assert_eq!(residents.insert(key(2), 0), []);
        assert_eq!(residents.insert(key(1), 0), []);
        assert_eq!(residents.insert(key(3), 0), [key(2)]);
        assert!(residents.contains(key(1)));
    }

    #[test]
    fn bytes_are_counted_and_given_back() {
        let residents = Residents::new(100, 3 * GUEST_OVERHEAD_BYTES);
        residents.insert(key(1), 0);
        residents.insert(key(2), 0);
        residents.remove(key(1));
        assert_eq!(residents.insert(key(3), GUEST_OVERHEAD_BYTES), []);
        assert_eq!(residents.insert(key(4), 0), [key(2)]);
    }

    #[test]
    fn a_guest_larger_than_the_budget_does_not_stay() {
        let residents = Residents::new(100, 1);
        assert_eq!(residents.insert(key(1), 10), [key(1)]);
        assert_eq!(residents.stats(), (0, 0));
    }

    #[test]
    fn a_budget_of_none_keeps_none() {
        let residents = Residents::new(0, usize::MAX);
        assert_eq!(residents.insert(key(1), 0), [key(1)]);
    }
}
