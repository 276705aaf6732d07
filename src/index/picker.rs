//! Picks the restart points of a dump, or follows those of an existing index.

use memchr::memchr;

/// So far apart are points at entries: less costs size, more costs a selective restore time.
const BETWEEN_ENTRIES: u64 = 4 << 20;
/// So far apart are points inside COPY data.
const BETWEEN_ROWS: u64 = 16 << 20;
/// After so many points the distances double, so that the points of 1 TiB of rows need 1 MiB.
const DOUBLED_AFTER: u32 = 8 << 10;

/// Where reading can begin.
#[derive(Debug, Default)]
pub(super) struct Picker {
    /// Offset up to which the dump has been handed on: no point can be before it.
    handed_on: u64,
    /// The point in the block that is being read.
    due: Option<u64>,
    last: u64,
    count: u32,
    /// The points of an existing index.
    known: Option<Vec<u64>>,
}

impl Picker {
    /// Follows these points.
    pub fn of(points: Vec<u64>) -> Self {
        Self { known: Some(points), ..Self::default() }
    }

    /// Returns the point of the block that ends here, and begins the next one.
    pub fn next(&mut self, block_end: u64) -> Option<u64> {
        self.handed_on = block_end;
        self.due.take()
    }

    /// An entry begins here.
    pub fn entry(&mut self, at: u64) {
        if at >= self.earliest(BETWEEN_ENTRIES) {
            self.pick(at);
        }
    }

    /// Takes rows. A point is strictly inside of them, at a row's beginning.
    pub fn rows(&mut self, at: u64, bytes: &[u8]) {
        let earliest = self.earliest(BETWEEN_ROWS).max(at + 1);
        let skipped = usize::try_from(earliest - 1 - at).unwrap_or(usize::MAX);
        let Some(rest) = bytes.get(skipped..) else { return };
        let row_end = memchr(b'\n', rest).map(|end| skipped + end + 1);
        if let Some(row_end) = row_end.filter(|end| *end < bytes.len()) {
            self.pick(at + row_end as u64);
        }
    }

    /// Whether a point is strictly inside of these offsets, of which the last were just read.
    pub fn is_inside(&self, begin: u64, end: u64) -> bool {
        match &self.known {
            None => begin < self.last && self.last < end,
            Some(points) => {
                let next = points.partition_point(|point| *point <= begin);
                points.get(next).is_some_and(|point| *point < end)
            }
        }
    }

    /// The first offset for a point that is this far from the last one.
    fn earliest(&self, distance: u64) -> u64 {
        let doublings = (self.count / DOUBLED_AFTER).min(16);
        (self.last + (distance << doublings)).max(self.handed_on)
    }

    fn pick(&mut self, at: u64) {
        if self.due.is_none() && self.known.is_none() {
            (self.due, self.last) = (Some(at), at);
            self.count += 1;
        }
    }
}
