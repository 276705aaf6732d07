//! Memory for parts that are read back from disk, used again and again.
//!
//! Kept by [`super::Spool`]. Allocated anew for each part, it would stay with the allocator: glibc keeps blocks of such a
//! size, beyond the bound of SPEC §5. There are as many buffers as parts were in flight at once, and never more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers that nobody uses at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A part's bytes; their memory goes home once nobody sends them any more.
struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// An empty one with room for so many bytes. One that is too small is given up, or the two would be held together.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        let free = self.free().pop();
        free.filter(|buffer| buffer.capacity() >= capacity).unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// The bytes, to be shared and sent.
    pub fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { bytes, home: self.clone() })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.home.free().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nobody_holds_it() {
        let buffers = Buffers::default();
        let mut first = buffers.take(1000);
        first.extend_from_slice(b"a part");
        let place = first.as_ptr();
        let bytes = buffers.lend(first);
        let copy = bytes.clone();
        drop(bytes);
        let second = buffers.take(1000);
        assert_ne!(second.as_ptr(), place, "it is still held");
        assert_eq!(copy, "a part");
        drop(copy);
        let again = buffers.take(900);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        drop(buffers.lend(again));
        assert!(buffers.take(2000).capacity() >= 2000, "too small for this one");
        assert!(buffers.free().is_empty(), "and given up");
    }
}
