//! The memory of parts: one budget in bytes for all parts that are filled, written to disk, read back or sent.
//!
//! The collector takes a buffer before it fills one, the upload before it reads a part from disk; each waits until
//! enough is free. Buffers are reused: glibc keeps freed blocks of this size, so that new ones for each part would
//! exceed the bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PartPlan;

/// The semaphore's unit in bytes: its permits are 32 bits wide, and a part has up to 5 GiB.
const UNIT: u64 = 1 << 10;

/// The memory of one upload's parts; cheap to clone.
#[derive(Clone, Debug)]
pub struct PartMemory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    plan: PartPlan,
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Units in all.
    units: u32,
    /// Buffers that are not in use.
    free: Vec<Vec<u8>>,
}

/// A part's bytes and their memory, free for other parts once this is dropped.
#[derive(Debug)]
pub struct PartBuffer {
    bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
    memory: PartMemory,
}

impl PartMemory {
    /// For parts of this plan.
    #[must_use]
    pub fn new(plan: &PartPlan) -> Self {
        let shared = Shared { plan: plan.clone(), free: Arc::new(Semaphore::new(0)), state: Mutex::default() };
        Self(Arc::new(shared))
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &PartPlan {
        &self.0.plan
    }

    /// An empty buffer for a part of this size; waits until the memory is free.
    pub async fn take(&self, part_bytes: u64) -> PartBuffer {
        // A small part takes a buffer of the base size: there are no smaller ones.
        let bytes = part_bytes.max(self.0.plan.base());
        let units = units(bytes);
        self.grow(units.saturating_mul(self.0.plan.in_flight_of(bytes) + 1));
        // Never closed.
        let permit = Arc::clone(&self.0.free).acquire_many_owned(units).await.ok();
        let capacity = usize::try_from(bytes).unwrap_or(usize::MAX / 2);
        let mut state = self.state();
        // Smaller buffers are from before the parts grew.
        state.free.retain(|buffer| buffer.capacity() >= capacity);
        let bytes = state.free.pop().unwrap_or_else(|| Vec::with_capacity(capacity));
        drop(state);
        PartBuffer { bytes, permit, memory: self.clone() }
    }

    /// Raises the budget as parts grow: it always fits one part being filled and one being sent.
    fn grow(&self, units: u32) {
        let mut state = self.state();
        let more = units.saturating_sub(state.units);
        state.units += more;
        self.0.free.add_permits(more as usize);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl PartBuffer {
    /// The bytes, to be filled up to the size that was taken.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes, to be shared and sent. The memory is free again once no clone is left.
    #[must_use]
    pub fn seal(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PartBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PartBuffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.memory.state().free.push(bytes);
        drop(self.permit.take());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::PartSettings;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn memory(base: u64, concurrency: u32) -> PartMemory {
        let settings = PartSettings { base: Some(base), max_parts: 100, equal: false, concurrency };
        PartMemory::new(&PartPlan::new(&settings, 0))
    }

    /// How many buffers for parts of this size are given before one has to wait.
    async fn given(memory: &PartMemory, bytes: u64) -> Vec<PartBuffer> {
        let mut given = Vec::new();
        while let Ok(buffer) = timeout(Duration::from_millis(20), memory.take(bytes)).await {
            given.push(buffer);
        }
        given
    }

    #[tokio::test]
    async fn one_part_is_filled_next_to_those_in_flight_of_any_size() {
        for (base, concurrency, most) in [(5, 4, 5), (12, 1, 2), (24, 4, 4), (200, 4, 2)] {
            let memory = memory(base * MIB, concurrency);
            assert_eq!(given(&memory, base * MIB).await.len(), most, "{base} MiB, {concurrency} in flight");
            assert_eq!(given(&memory, MIB).await.len(), most, "smaller ones take as much");
        }
        let growing = memory(12 * MIB, 4);
        let small = given(&growing, 12 * MIB).await;
        assert_eq!(small.len(), 5);
        let large = given(&growing, 24 * MIB).await;
        assert_eq!(large.len(), 1, "96 MiB in all, of which five times 12 are taken");
        drop((small, large));
        assert_eq!(given(&growing, 24 * MIB).await.len(), 4);
    }

    #[tokio::test]
    async fn memory_is_reused_once_no_clone_is_left() {
        let memory = memory(5 * MIB, 4);
        let mut first = memory.take(5 * MIB).await;
        first.bytes().extend_from_slice(b"a part");
        let place = first.bytes().as_ptr();
        let bytes = first.seal();
        let copy = bytes.clone();
        drop(bytes);
        let mut second = memory.take(5 * MIB).await;
        assert_ne!(second.bytes().as_ptr(), place, "it is still held");
        assert_eq!(copy, "a part");
        drop(copy);
        let mut again = memory.take(MIB).await;
        assert_eq!((again.bytes().as_ptr(), again.bytes().len()), (place, 0));
        drop((again, second));
        let mut larger = memory.take(6 * MIB).await;
        assert!(larger.bytes().capacity() as u64 >= 6 * MIB, "too small for this one");
        assert!(memory.state().free.is_empty(), "and given up");
    }
}
