//! The memory of parts: one budget in bytes for all parts that are filled, written to disk, read back or sent.
//!
//! The collector takes a buffer before it fills one, the upload before it reads a part from disk; each waits until
//! enough is free. Buffers are reused: glibc keeps freed blocks of this size, so that new ones for each part would
//! exceed the bound.
//!
//! The uploads of a run share the budget ([`PartBudget`]): the memory of the largest of their plans, less what several
//! uploads take besides their parts. An upload takes at most the memory of its own plan.
//!
//! No circle can wait. A collector seals its part and hands it over before it takes the next buffer, and a sealed part
//! needs no other buffer on its way to S3 or to the disk. A part on disk takes one buffer, is read into it and sent. S3
//! may never take it: so parts from disk leave a buffer of the largest size for those that are being made, which then
//! need the disk alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::PartPlan;

/// What another upload of the same run takes besides its parts: a block that is read, its piece, its share of the runtime and
/// of the connections, and the largest index.
const UPLOAD_BYTES: u64 = (7 << 20) / 2;

/// The memory for the parts of all uploads of a run; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PartBudget(Arc<Mutex<State>>);

/// The memory of one upload's parts, out of a budget; cheap to clone.
#[derive(Clone, Debug)]
pub struct PartMemory(Arc<Upload>);

#[derive(Debug)]
struct Upload {
    plan: PartPlan,
    share: u64,
    budget: PartBudget,
}

#[derive(Debug, Default)]
struct State {
    /// Those of the uploads that have not ended, by number.
    shares: BTreeMap<u64, Share>,
    last_share: u64,
    /// The largest limit so far.
    most: u64,
    /// Bytes of all buffers: of those in use, even by an upload that has ended, and of the free ones.
    allocated: u64,
    /// Requests for memory, in order.
    waiting: VecDeque<Request>,
    /// Buffers that are not in use.
    free: Vec<Vec<u8>>,
}

/// What one upload has of the budget, in bytes.
#[derive(Debug, Default)]
struct Share {
    limit: u64,
    /// The largest part so far.
    largest: u64,
    used: u64,
    used_from_disk: u64,
}

#[derive(Debug)]
struct Request {
    lease: Lease,
    granted: oneshot::Sender<Granted>,
}

/// Memory in use.
#[derive(Clone, Copy, Debug)]
struct Lease {
    share: u64,
    bytes: u64,
    source: Source,
}

/// Where a part comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// It is being made.
    Dump,
    /// It is read back.
    Disk,
}

/// A lease that gives its memory back.
#[derive(Debug)]
struct Granted {
    lease: Lease,
    budget: PartBudget,
}

/// A part's bytes and their memory, free for other parts once this is dropped.
#[derive(Debug)]
pub struct PartBuffer {
    bytes: Vec<u8>,
    memory: Granted,
}

impl PartBudget {
    /// For another upload, with its plan.
    #[must_use]
    pub fn share(&self, plan: &PartPlan) -> PartMemory {
        let mut state = self.state();
        state.last_share += 1;
        let share = state.last_share;
        state.shares.insert(share, Share::default());
        PartMemory(Arc::new(Upload { plan: plan.clone(), share, budget: self.clone() }))
    }

    /// Grants what fits, in order.
    fn grant(&self) {
        loop {
            let Some(Request { lease, granted }) = self.state().next() else { return };
            // If the taker has gone, this gives the memory back.
            drop(granted.send(Granted { lease, budget: self.clone() }));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartMemory {
    /// For one upload with this plan alone.
    #[must_use]
    pub fn new(plan: &PartPlan) -> Self {
        PartBudget::default().share(plan)
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &PartPlan {
        &self.0.plan
    }

    /// An empty buffer for a part of this size; waits until the memory is free.
    pub async fn take(&self, part_bytes: u64) -> PartBuffer {
        self.take_for(part_bytes, Source::Dump).await
    }

    /// As [`Self::take`], to read a part from disk. It leaves memory for those that are being made.
    pub async fn take_to_read(&self, part_bytes: u64) -> PartBuffer {
        self.take_for(part_bytes, Source::Disk).await
    }

    async fn take_for(&self, part_bytes: u64, source: Source) -> PartBuffer {
        // A small part takes a buffer of the base size: there are no smaller ones.
        let bytes = part_bytes.max(self.0.plan.base());
        let lease = Lease { share: self.0.share, bytes, source };
        let granted = self.request(lease).await;
        // A request is dropped only when its receiver has gone.
        let memory =
            granted.unwrap_or_else(|_| Granted { lease: Lease { bytes: 0, ..lease }, budget: self.0.budget.clone() });
        let bytes = self.0.budget.state().buffer(bytes);
        PartBuffer { bytes, memory }
    }

    fn request(&self, lease: Lease) -> oneshot::Receiver<Granted> {
        let (sender, granted) = oneshot::channel();
        let in_flight = u64::from(self.0.plan.in_flight_of(lease.bytes));
        let mut state = self.0.budget.state();
        if let Some(share) = state.shares.get_mut(&lease.share) {
            // Always fits one part being filled and one being sent, and grows with the parts.
            share.limit = share.limit.max(lease.bytes.saturating_mul(in_flight + 1));
            share.largest = share.largest.max(lease.bytes);
        }
        state.most = state.most.max(state.largest_limit());
        state.waiting.push_back(Request { lease, granted: sender });
        drop(state);
        self.0.budget.grant();
        granted
    }
}

impl Drop for Upload {
    /// Ends the share. What is still in use, as in a call of a disk that hangs, must not count for ever.
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.shares.remove(&self.share);
        drop(state);
        self.budget.grant();
    }
}

impl State {
    /// Most bytes in use.
    fn limit(&self) -> u64 {
        self.beside_others(self.largest_limit())
    }

    fn largest_limit(&self) -> u64 {
        self.shares.values().map(|share| share.limit).max().unwrap_or_default()
    }

    /// Less for each upload after the first, as its own memory comes out of these bytes; always enough for one part being filled
    /// and one being sent.
    fn beside_others(&self, bytes: u64) -> u64 {
        let others = self.shares.len().saturating_sub(1) as u64;
        bytes.saturating_sub(others * UPLOAD_BYTES).max(bytes.min(2 * self.largest()))
    }

    fn largest(&self) -> u64 {
        self.shares.values().map(|share| share.largest).max().unwrap_or_default()
    }

    fn used(&self) -> u64 {
        self.shares.values().map(|share| share.used).sum()
    }

    /// Removes the first request that fits. While the budget is too small for the first, the later ones wait, so that
    /// small parts do not starve a large one. They may overtake a request that exceeds its upload's share, or the part of
    /// the budget for parts from disk.
    fn next(&mut self) -> Option<Request> {
        self.waiting.retain(|request| !request.granted.is_closed());
        let at = self.waiting.iter().position(|request| self.is_due(request.lease))?;
        let lease = self.waiting[at].lease;
        if self.used().saturating_add(lease.bytes) > self.limit() {
            return None;
        }
        let share = self.shares.get_mut(&lease.share)?;
        share.used += lease.bytes;
        share.used_from_disk += lease.bytes_from_disk();
        self.waiting.remove(at)
    }

    fn is_due(&self, lease: Lease) -> bool {
        let fits = |share: &Share| share.used.saturating_add(lease.bytes) <= share.limit;
        self.shares.get(&lease.share).is_some_and(fits) && (lease.source == Source::Dump || self.may_read(lease.bytes))
    }

    fn may_read(&self, bytes: u64) -> bool {
        let largest = self.largest();
        let used: u64 = self.shares.values().map(|share| share.used_from_disk).sum();
        // One part is filled while another is written to disk, or both in turn if memory holds two.
        used.saturating_add(bytes) <= self.limit().saturating_sub(2 * largest).max(largest)
    }

    /// A free buffer of this size in bytes, or a new one in place of free ones of other sizes.
    fn buffer(&mut self, bytes: u64) -> Vec<u8> {
        let capacity = usize::try_from(bytes).unwrap_or(usize::MAX / 2);
        if let Some(fitting) = self.free.iter().position(|buffer| buffer.capacity() == capacity) {
            return self.free.swap_remove(fitting);
        }
        while self.allocated.saturating_add(bytes) > self.beside_others(self.most) && !self.free.is_empty() {
            self.allocated -= self.free.remove(0).capacity() as u64;
        }
        self.allocated += bytes;
        Vec::with_capacity(capacity)
    }

    /// Keeps a buffer of this size for the next part, unless it has grown, or there are more than the budget has space for.
    fn take_back(&mut self, buffer: Vec<u8>, bytes: u64) {
        if buffer.capacity() as u64 == bytes && self.allocated <= self.beside_others(self.most) {
            self.free.push(buffer);
        } else {
            self.allocated -= bytes;
        }
    }
}

impl Lease {
    fn bytes_from_disk(self) -> u64 {
        if self.source == Source::Disk { self.bytes } else { 0 }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        if let Some(share) = state.shares.get_mut(&self.lease.share) {
            share.used -= self.lease.bytes;
            share.used_from_disk -= self.lease.bytes_from_disk();
        }
        drop(state);
        self.budget.grant();
    }
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
        let Granted { lease, budget } = &self.memory;
        budget.state().take_back(bytes, lease.bytes);
    }
}

#[cfg(test)]
mod tests;
