//! How many parts are sent at once: the configured number, fewer after timeouts, more again after successes.
//!
//! On a slow link, one of several connections may not progress for a while; alone, it does. The uploads of a run share
//! the lanes, because they share the link. Used by [`super::parts`].

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::failure::Failure;

/// Successes in a row that open a lane again.
const SUCCESSES: u32 = 4;

/// The lanes of all uploads of a run; cheap to clone. Each sends one part at a time.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: u32,
    free: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: u32,
    /// Successes since the last timeout, and since a lane opened.
    successes: u32,
}

impl Lanes {
    /// With all of `most` lanes open.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        let (free, state) = (Semaphore::new(most as usize), Mutex::new(State { open: most, successes: 0 }));
        Self(Arc::new(Shared { most, free, state }))
    }

    /// Sends a request through a lane; waits until one is free.
    pub(super) async fn send<T>(&self, request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Shared { most, free, state } = &*self.0;
        // Never closed.
        let lane = free.acquire().await.ok();
        let outcome = request.await;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(_) if state.open < *most => {
                state.successes += 1;
                if state.successes == SUCCESSES {
                    *state = State { open: state.open + 1, successes: 0 };
                    free.add_permits(1);
                }
            }
            Err(failure) if failure.is_timeout() => {
                if state.open > 1 {
                    state.open -= 1;
                    tracing::info!(at_once = state.open, "a part timed out: fewer go out at once");
                    lane.into_iter().for_each(tokio::sync::SemaphorePermit::forget);
                }
                state.successes = 0;
            }
            _ => {}
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(lanes: &Lanes) -> usize {
        lanes.0.free.available_permits()
    }

    #[tokio::test]
    async fn timeouts_close_lanes_but_the_last_and_successes_open_them_again() {
        let lanes = Lanes::new(4);
        let end = async |outcome: Result<(), Failure>| drop(lanes.send(async { outcome }).await);
        for left in [3, 2, 1, 1, 1] {
            end(Err(Failure::timeout("nothing moved"))).await;
            assert_eq!(open(&lanes), left);
        }
        for opened in [2, 3, 4, 4] {
            for _ in 0..SUCCESSES {
                end(Ok(())).await;
            }
            assert_eq!(open(&lanes), opened);
        }
        let throttled = Failure { code: "SlowDown".to_owned(), status: Some(503), ..Failure::timeout("") };
        end(Err(throttled)).await;
        assert_eq!(open(&lanes), 4, "an answer is no timeout");
    }

    #[tokio::test]
    async fn uploads_share_lanes() {
        let one = Lanes::new(2);
        let other = one.clone();
        drop(one.send(async { Err::<(), _>(Failure::timeout("nothing moved")) }).await);
        assert_eq!(open(&other), 1, "a timeout of one closes a lane of all");
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let sending = one.send(async { Ok(ended.await.is_ok()) });
        let waiting = other.send(async { Ok(open(&one)) });
        tokio::pin!(sending, waiting);
        tokio::select! {
            biased;
            _ = &mut sending => panic!("not ended yet"),
            _ = &mut waiting => panic!("the lane is taken"),
            () = tokio::task::yield_now() => {}
        }
        end.send(()).expect("it waits");
        assert_eq!((sending.await.ok(), waiting.await.ok()), (Some(true), Some(0)));
    }
}
