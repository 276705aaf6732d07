//! The CPU time of a thread.

use std::time::Duration;

/// This thread's CPU time. Other work on the machine hardly changes it.
pub fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("a time since the start")
}
