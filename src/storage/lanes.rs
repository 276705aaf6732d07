//! How many parts are sent at once: the configured number, fewer after timeouts, more again after successes.
//!
//! On a slow link, one of several connections may not progress for a while; alone, it does. Used by [`super::parts`].

use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::failure::Failure;

/// Successes in a row that open a lane again.
const SUCCESSES: u32 = 4;

/// The lanes of one upload: each sends one part at a time.
#[derive(Debug)]
pub(super) struct Lanes {
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
    /// With all lanes open.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self { most, free: Semaphore::new(most as usize), state: Mutex::new(State { open: most, successes: 0 }) }
    }

    /// Sends a request through a lane; waits until one is free.
    pub async fn send<T>(&self, request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        // Never closed.
        let lane = self.free.acquire().await.ok();
        let outcome = request.await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(_) if state.open < self.most => {
                state.successes += 1;
                if state.successes == SUCCESSES {
                    *state = State { open: state.open + 1, successes: 0 };
                    self.free.add_permits(1);
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
        lanes.free.available_permits()
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
}
