//! The names of those figures that goals and plots ask for again.

/// Steps, which are activities, completed in a second.
pub const THROUGHPUT: &str = "throughput";
/// The median.
pub const P50: &str = "p50";
/// What the slowest hundredth exceeds.
pub const P99: &str = "p99";
/// From sending a callback until a client that waits for the result has it.
pub const CALLBACK_COMPLETED: &str = "callback to completed";
/// Callbacks that led to a completed workflow in a second.
pub const CALLBACKS: &str = "callbacks completed";
/// How long after its deadline a timer's event was recorded.
pub const LATENESS: &str = "lateness";
/// Timers that fired before their deadline.
pub const EARLY: &str = "early";
/// Memory that a parked workflow takes.
pub const PARKED_MEMORY: &str = "memory per parked workflow";
/// Disk that a parked workflow takes.
pub const PARKED_DISK: &str = "disk per parked workflow";
/// From the process's start until it is ready, after a kill -9.
pub const READY: &str = "restart to ready";
/// From the process's start until one callback has led to a completed workflow.
pub const FIRST_CALLBACK: &str = "restart to first callback";
/// From the process's start until the last of the callbacks has.
pub const LAST_CALLBACK: &str = "restart to last callback";
/// The median time per step from the step on whose number follows.
pub const STEP_FROM: &str = "time per step from ";
/// From the process's start until the workflow goes on, less the start-up.
pub const RECOVERY: &str = "recovery less start-up";
/// Events replayed in a second by the guest alone.
pub const BARE_REPLAY: &str = "bare-replay";
/// Activities of a fan-out completed in a second.
pub const ACTIVITIES: &str = "activities completed";
/// From the process's start until it is ready.
pub const START_UP: &str = "start-up p50";
/// Memory of a host with nothing to do.
pub const IDLE_MEMORY: &str = "idle memory";
/// Bytes written to the write-ahead log for a workflow.
pub const WAL_BYTES: &str = "wal bytes per workflow";
/// How far the bare store's rate drifted while a work was measured: the best by the worst.
pub const DRIFT: &str = "bare-store drift";
/// Steps a second that the processors could take if the parts of a host were all there is to do.
pub const PARTS: &str = "parts alone";
