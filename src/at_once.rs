//! Runs tasks, some at once. A leaf.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use tokio::task::JoinSet;
use tracing::Instrument as _;

/// Runs the tasks, `most` of them at once. The results are in the order of the tasks.
///
/// # Errors
/// The first error; the other tasks are then aborted.
///
/// # Panics
/// If a task panics.
pub async fn at_once<T: Send + 'static, E: Send + 'static>(
    most: usize,
    tasks: impl IntoIterator<Item = impl Future<Output = Result<T, E>> + Send + 'static>,
) -> Result<Vec<T>, E> {
    let (mut tasks, mut running, mut results) = (tasks.into_iter().enumerate(), JoinSet::new(), BTreeMap::new());
    loop {
        if running.len() < most
            && let Some((index, task)) = tasks.next()
        {
            running.spawn(async move { (index, task.await) }.in_current_span());
        } else if let Some(joined) = running.join_next().await {
            let (index, result) = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            results.insert(index, result?);
        } else {
            return Ok(results.into_values().collect());
        }
    }
}

/// Runs futures within this task, all at once, and returns their results in order.
///
/// # Errors
/// The first error; the other futures are then dropped.
pub async fn together<T, E>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            let Some(running) = future else { continue };
            if let Poll::Ready(ended) = running.as_mut().poll(context) {
                *future = None;
                match ended {
                    Ok(value) => *result = Some(value),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await?;
    Ok(results.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn results_are_in_order_and_no_more_run_than_allowed() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let task = |number: u64| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(10 - number)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, ()>(number)
            }
        };
        assert_eq!(at_once(3, (0..10).map(task)).await, Ok((0..10).collect()));
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn the_first_error_ends_the_others() {
        let task = |number: u64| async move {
            match number {
                1 => Err("failed"),
                _ => std::future::pending::<Result<(), _>>().await,
            }
        };
        assert_eq!(at_once(2, (0..10).map(task)).await, Err("failed"));
    }

    #[tokio::test]
    async fn futures_of_one_task_run_together() {
        let barrier = tokio::sync::Barrier::new(3);
        let wait = |number: u64| {
            let barrier = &barrier;
            async move {
                barrier.wait().await;
                Ok::<_, ()>(number)
            }
        };
        assert_eq!(together((0..3).map(wait)).await, Ok(vec![0, 1, 2]));
        let fails = |number: u64| async move {
            if number == 1 { Err("failed") } else { std::future::pending::<Result<(), _>>().await }
        };
        assert_eq!(together((0..3).map(fails)).await, Err("failed"));
    }
}
