//! The activity of the benchmarks. It does as good as nothing, so that what is measured is the host.

use rehydrate::Failure;

/// Gives the number after this one.
#[rehydrate::activity]
fn next(number: u64) -> Result<u64, Failure> {
    Ok(number + 1)
}

rehydrate::activities!(next);
