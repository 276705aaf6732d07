//! Bounds the blocks between readers and collectors, over all pipelines of a run.
//!
//! A place is a block at a worker or in the queue, or its piece until the collector has taken it. Each pipeline has one
//! place of its own and shares the others: a pipeline that waits for S3 may hold all of them, and the others go on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The places that the pipelines of a run share.
#[derive(Debug)]
pub(super) struct Places {
    /// How many shared places are free.
    free: Mutex<usize>,
    freed: Condvar,
}

/// One pipeline's access to the places.
#[derive(Debug)]
pub(super) struct Claim {
    places: Arc<Places>,
    /// Whether its own place is free. Written only while `free` is locked.
    own: Mutex<bool>,
}

/// A place, free again once this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    claim: Arc<Claim>,
    is_own: bool,
}

impl Places {
    /// As many shared places as this.
    pub fn new(shared: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(shared), freed: Condvar::new() })
    }

    /// For another pipeline.
    pub fn claim(self: &Arc<Self>) -> Arc<Claim> {
        Arc::new(Claim { places: Arc::clone(self), own: Mutex::new(true) })
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Waits for a place.
    pub fn take(self: &Arc<Self>) -> Place {
        let mut free = self.places.free();
        loop {
            let mut own = self.own();
            if *own || *free > 0 {
                let is_own = std::mem::take(&mut *own);
                *free -= usize::from(!is_own);
                return Place { claim: Arc::clone(self), is_own };
            }
            drop(own);
            free = self.places.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn own(&self) -> MutexGuard<'_, bool> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut free = self.claim.places.free();
        if self.is_own {
            *self.claim.own() = true;
        } else {
            *free += 1;
        }
        // Any of several readers may be the one that can go on.
        self.claim.places.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_pipeline_has_its_own_place_when_another_holds_all_that_are_shared() {
        let places = Places::new(2);
        let (first, second) = (places.claim(), places.claim());
        let held = [first.take(), first.take(), first.take()];
        for _ in 0..5 {
            drop(second.take());
        }
        let own = second.take();
        let (taken, next) = mpsc::channel();
        let waiting = Arc::clone(&second);
        let waiter = std::thread::spawn(move || taken.send(waiting.take()).expect("received"));
        assert!(next.try_recv().is_err(), "all are held");
        drop(held);
        let shared = next.recv().expect("given");
        waiter.join().expect("ended");
        assert_eq!((own.is_own, shared.is_own), (true, false));
        drop((own, shared));
        assert_eq!((*places.free(), *first.own(), *second.own()), (2, true, true), "all are free");
    }
}
