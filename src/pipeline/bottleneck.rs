//! Which stage held the pipeline up: `pg_dump`, compression or the upload, in per cent of the dump's duration.
//!
//! The reader and the collector measure their waits here. `backup` puts the shares into manifest, summary and metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Shares of the dump's duration in per cent; the rest up to 100 is the reader's own work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// Waiting for `pg_dump`'s output.
    pub dump: u8,
    /// Waiting for a compression thread.
    pub compression: u8,
    /// Waiting for a part to be accepted: by S3, or by the spool's disk.
    pub upload: u8,
}

impl Bottleneck {
    /// Each stage with its share.
    #[must_use]
    pub fn shares(&self) -> [(&'static str, u8); 3] {
        [("dump", self.dump), ("compression", self.compression), ("upload", self.upload)]
    }

    /// The stage that held the pipeline up most, and its share; `None` if no stage did.
    #[must_use]
    pub fn largest(&self) -> Option<(&'static str, u8)> {
        self.shares().into_iter().filter(|(_, share)| *share > 0).max_by_key(|(_, share)| *share)
    }

    /// From microseconds. Waiting for a part costs nothing while the reader is not blocked, so the upload's share is at
    /// most the time that the reader was blocked.
    fn of(dump: u64, blocked: u64, part: u64, total: u64) -> Self {
        let upload = part.min(blocked);
        let share = |micros: u64| {
            let percent = micros.saturating_mul(100).checked_div(total).unwrap_or_default();
            u8::try_from(percent.min(100)).unwrap_or_default()
        };
        Self { dump: share(dump), compression: share(blocked - upload), upload: share(upload) }
    }
}

/// Waiting times, in microseconds.
#[derive(Debug, Default)]
pub(super) struct StallTimes {
    dump: AtomicU64,
    blocked: AtomicU64,
    part: AtomicU64,
    /// The dump's duration; 0 until its end.
    total: AtomicU64,
}

impl StallTimes {
    /// Adds the reader's wait for output.
    pub fn add_dump(&self, since: Instant) {
        add(&self.dump, since);
    }

    /// Adds the reader's wait for space in the next stage.
    pub fn add_blocked(&self, since: Instant) {
        add(&self.blocked, since);
    }

    /// Adds the collector's wait for part memory. After the dump's end, a wait holds nothing up.
    pub fn add_part(&self, since: Instant) {
        if self.total.load(Ordering::Relaxed) == 0 {
            add(&self.part, since);
        }
    }

    /// The collector's wait so far.
    pub fn part(&self) -> Duration {
        Duration::from_micros(self.part.load(Ordering::Relaxed))
    }

    /// Sets the dump's duration.
    pub fn end(&self, began: Instant) {
        self.total.store(micros(began.elapsed()).max(1), Ordering::Relaxed);
    }

    /// The shares, after the dump's end.
    pub fn bottleneck(&self) -> Bottleneck {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Bottleneck::of(read(&self.dump), read(&self.blocked), read(&self.part), read(&self.total))
    }
}

fn add(count: &AtomicU64, since: Instant) {
    count.fetch_add(micros(since.elapsed()), Ordering::Relaxed);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_dumps_duration_and_never_more_than_it() {
        let shares = |dump, blocked, part, total| {
            let Bottleneck { dump, compression, upload } = Bottleneck::of(dump, blocked, part, total);
            (dump, compression, upload)
        };
        assert_eq!(shares(500, 300, 100, 1000), (50, 20, 10));
        assert_eq!(shares(100, 200, 900, 1000), (10, 0, 20), "parts that wait while nothing is held up");
        assert_eq!(shares(2000, 0, 0, 1000), (100, 0, 0));
        assert_eq!(shares(5, 5, 5, 0), (0, 0, 0), "before the end");
    }

    #[test]
    fn the_largest_is_named_where_there_is_one() {
        assert_eq!(Bottleneck { dump: 10, compression: 60, upload: 30 }.largest(), Some(("compression", 60)));
        assert_eq!(Bottleneck::default().largest(), None);
    }
}
