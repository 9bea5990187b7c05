//! Which waiting guests stay in memory: the most recently used, within a count and a number of bytes.
//!
//! A guest may use all of its linear memory, but most touch a small part of it. So the bytes that guests may use
//! are only the first of two questions; guests are dropped if the process really uses that much as well.

use rehydrate_core::InstanceKey;
use rehydrate_store::KeyMap;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what the process uses is taken to be what it was: too short to touch much memory in.
const SAMPLE_AGE_MAX: Duration = Duration::from_millis(5);

/// The memory that the process has touched, in bytes; as good as all of it, where the system does not say.
fn process_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<usize>().ok());
    pages.map_or(usize::MAX, |pages| pages.saturating_mul(rustix::param::page_size()))
}

/// What a waiting guest costs besides its linear memory, roughly: its stack and its tables.
const GUEST_OVERHEAD_BYTES: usize = 48 << 10;

#[derive(Default)]
struct Used {
    by_key: KeyMap<InstanceKey, (u64, usize)>,
    by_age: BTreeMap<u64, InstanceKey>,
    next: u64,
    bytes: usize,
    process: Option<(Instant, usize)>,
}

impl Used {
    fn remove(&mut self, key: InstanceKey) -> bool {
        let Some((age, bytes)) = self.by_key.remove(&key) else { return false };
        self.by_age.remove(&age);
        self.bytes -= bytes;
        true
    }

    /// Whether guests may use more than that, and the process does.
    fn exceeds(&mut self, bytes_max: usize, process_bytes: fn() -> usize) -> bool {
        if self.bytes <= bytes_max {
            return false;
        }
        let now = Instant::now();
        let known = self.process.filter(|(at, _)| now.duration_since(*at) < SAMPLE_AGE_MAX);
        let (_, process) = *self.process.insert(known.unwrap_or_else(|| (now, process_bytes())));
        process > bytes_max
    }
}

/// The budget of waiting guests.
pub struct Residents {
    count_max: usize,
    bytes_max: usize,
    process_bytes: fn() -> usize,
    used: Mutex<Used>,
}

impl Residents {
    /// With these budgets.
    pub fn new(count_max: usize, bytes_max: usize) -> Residents {
        Residents { count_max, bytes_max, process_bytes, used: Mutex::default() }
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
            while used.by_key.len() > self.count_max || used.exceeds(self.bytes_max, self.process_bytes) {
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

    /// Residents of a process that uses as much as it is said to.
    fn in_process(bytes_max: usize, process_bytes: fn() -> usize) -> Residents {
        Residents { process_bytes, ..Residents::new(100, bytes_max) }
    }

    #[test]
    fn bytes_are_counted_and_given_back() {
        let residents = in_process(3 * GUEST_OVERHEAD_BYTES, || usize::MAX);
        residents.insert(key(1), 0);
        residents.insert(key(2), 0);
        residents.remove(key(1));
        assert_eq!(residents.insert(key(3), GUEST_OVERHEAD_BYTES), []);
        assert_eq!(residents.insert(key(4), 0), [key(2)]);
    }

    #[test]
    fn guests_that_touch_little_of_their_memory_stay() {
        let residents = in_process(3 * GUEST_OVERHEAD_BYTES, || 3 * GUEST_OVERHEAD_BYTES);
        for n in 1..=50 {
            assert_eq!(residents.insert(key(n), GUEST_OVERHEAD_BYTES), []);
        }
    }

    #[test]
    fn this_process_uses_some_memory() {
        assert!((1 << 20..usize::MAX).contains(&process_bytes()));
    }

    #[test]
    fn a_guest_larger_than_the_budget_does_not_stay() {
        let residents = in_process(1, process_bytes);
        assert_eq!(residents.insert(key(1), 10), [key(1)]);
        assert_eq!(residents.stats(), (0, 0));
    }

    #[test]
    fn a_budget_of_none_keeps_none() {
        let residents = Residents::new(0, usize::MAX);
        assert_eq!(residents.insert(key(1), 0), [key(1)]);
    }
}
