//! The memory of parts stays within its budget, and no upload waits forever.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::PartSettings;
use super::*;

const MIB: u64 = 1 << 20;

fn plan(base: u64, concurrency: u32) -> PartPlan {
    PartPlan::new(&PartSettings { base: Some(base), max_parts: 100, equal: false, concurrency }, 0)
}

fn memory(base: u64, concurrency: u32) -> PartMemory {
    PartMemory::new(&plan(base, concurrency))
}

/// The buffers for parts of this size that are given before one has to wait.
async fn given(memory: &PartMemory, bytes: u64) -> Vec<PartBuffer> {
    all(|| memory.take(bytes)).await
}

async fn given_to_read(memory: &PartMemory, bytes: u64) -> Vec<PartBuffer> {
    all(|| memory.take_to_read(bytes)).await
}

async fn all<Taking: Future<Output = PartBuffer>>(take: impl Fn() -> Taking) -> Vec<PartBuffer> {
    let mut given = Vec::new();
    // What fits is given at the first poll.
    while let Ok(buffer) = timeout(Duration::ZERO, take()).await {
        given.push(buffer);
    }
    given
}

/// Bytes that are allocated: at most the budget's limit.
#[track_caller]
fn assert_within_limit(memory: &PartMemory, in_use: &[&PartBuffer], limit: u64) {
    let state = memory.0.budget.state();
    let free = state.free.iter().map(|buffer| buffer.capacity() as u64);
    let allocated: u64 = in_use.iter().map(|buffer| buffer.bytes.capacity() as u64).chain(free).sum();
    assert!(allocated <= limit && state.most == limit, "{allocated} of {}, not {limit}", state.most);
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
    let uneven = memory(13 * MIB, 6);
    for (size, most) in [(13, 7), (26, 3), (13, 7), (52, 2), (13, 8)] {
        assert_eq!(given(&uneven, size * MIB).await.len(), most, "parts of {size} MiB: 91 MiB, then twice 52");
    }
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
    again.bytes().reserve(6 << 20);
    drop((again, second));
    let mut larger = memory.take(6 * MIB).await;
    assert!(larger.bytes().capacity() as u64 >= 6 * MIB, "too small for this one");
    assert_eq!(memory.0.budget.state().free.len(), 1, "one has grown and is given up");
}

#[tokio::test]
async fn uploads_share_the_budget_of_the_largest_and_each_has_its_own_at_most() {
    let budget = PartBudget::default();
    let (small, large) = (budget.share(&plan(5 * MIB, 4)), budget.share(&plan(40 * MIB, 4)));
    let of_large = given(&large, 40 * MIB).await;
    assert_eq!(of_large.len(), 2);
    assert_eq!(given(&small, 5 * MIB).await.len(), 0, "all is in use");
    drop(of_large);
    let of_small = given(&small, 5 * MIB).await;
    assert_eq!(of_small.len(), 5, "its own plan's");
    let another = budget.share(&plan(5 * MIB, 4));
    let other = given(&another, 5 * MIB).await;
    assert_eq!(other.len(), 5);
    assert_eq!(given(&large, 40 * MIB).await.len(), 0);
    drop(other);
    assert_eq!(given(&large, 40 * MIB).await.len(), 1);
    assert_within_limit(&large, &of_small.iter().collect::<Vec<_>>(), 80 * MIB);
}

#[tokio::test]
async fn several_uploads_leave_memory_for_what_they_take_besides_their_parts() {
    for (uploads, most) in [(1, 5), (2, 4), (4, 4), (9, 2), (10, 2), (16, 2), (40, 2)] {
        let budget = PartBudget::default();
        let all: Vec<PartMemory> = (0..uploads).map(|_| budget.share(&plan(12 * MIB, 4))).collect();
        assert_eq!(given(&all[0], 12 * MIB).await.len(), most, "{uploads} uploads");
    }
}

#[tokio::test]
async fn free_buffers_of_another_size_make_way() {
    let budget = PartBudget::default();
    let small = budget.share(&plan(10 * MIB, 4));
    drop(given(&small, 10 * MIB).await);
    assert_eq!(budget.state().free.len(), 5);
    let large = budget.share(&plan(24 * MIB, 1));
    let one = large.take(24 * MIB).await;
    assert_within_limit(&large, &[&one], 50 * MIB);
    assert_eq!(budget.state().free.len(), 2, "as many as there is memory for are kept");
    let two = small.take(10 * MIB).await;
    assert_eq!(budget.state().free.len(), 1, "a free one is reused");
    drop(one);
    let three = given(&small, 10 * MIB).await;
    assert_within_limit(&large, &three.iter().chain([&two]).collect::<Vec<_>>(), 50 * MIB);
}

#[tokio::test]
async fn a_large_part_is_not_overtaken_by_small_ones_forever() {
    let budget = PartBudget::default();
    let small = budget.share(&plan(5 * MIB, 4));
    let mut held = given(&small, 5 * MIB).await;
    assert_eq!(held.len(), 5);
    let large = budget.share(&plan(13 * MIB, 1));
    let waiting = large.take(13 * MIB);
    tokio::pin!(waiting);
    for left in [4, 3] {
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        held.pop();
        assert_eq!(given(&small, 5 * MIB).await.len(), 0, "{left} are held, the rest is kept for the large one");
    }
    held.pop();
    let _large = waiting.await;
    // Nothing is kept for a request that was dropped.
    assert!(timeout(Duration::ZERO, large.take(13 * MIB)).await.is_err());
    held.pop();
    assert_eq!(given(&small, 5 * MIB).await.len(), 1);
}

#[tokio::test]
async fn parts_from_disk_leave_memory_for_those_that_are_made() {
    for (base, concurrency, from_disk) in [(5, 4, 3), (12, 1, 1), (24, 4, 2), (200, 4, 1)] {
        let memory = memory(base * MIB, concurrency);
        let read = given_to_read(&memory, base * MIB).await;
        assert_eq!(read.len(), from_disk, "{base} MiB, {concurrency} in flight");
        assert_eq!(from_disk, memory.plan().in_flight_from_disk(1) as usize, "as many as an upload sends");
        assert!(!given(&memory, base * MIB).await.is_empty());
    }
    let budget = PartBudget::default();
    let uploads = [5, 12, 24, 40].map(|base| budget.share(&plan(base * MIB, 4)));
    let mut held = Vec::new();
    for upload in &uploads {
        held.extend(given_to_read(upload, upload.plan().base()).await);
    }
    for upload in &uploads {
        assert!(!given(upload, upload.plan().base()).await.is_empty(), "{:?}", upload.plan());
    }
}

#[tokio::test]
async fn what_an_ended_upload_has_does_not_count() {
    let budget = PartBudget::default();
    let (ended, other) = (budget.share(&plan(40 * MIB, 4)), budget.share(&plan(5 * MIB, 4)));
    let held = given(&ended, 40 * MIB).await;
    let waiting = other.take(5 * MIB);
    tokio::pin!(waiting);
    assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
    drop(ended);
    let mut rest = given(&other, 5 * MIB).await;
    rest.push(waiting.await);
    assert_eq!(rest.len(), 5);
    drop(held);
    assert_within_limit(&other, &rest.iter().collect::<Vec<_>>(), 80 * MIB);
    drop(rest);
    let places: Vec<_> = budget.state().free.iter().map(Vec::as_ptr).collect();
    let next = budget.share(&plan(5 * MIB, 4)).take(5 * MIB).await;
    assert!(places.contains(&next.bytes.as_ptr()), "free buffers are kept for the next upload");
}

/// A pipeline of four parts, each filled bit by bit; `send` gets each sealed part.
async fn fill(memory: PartMemory, send: impl Fn(Bytes)) {
    for _ in 0..4 {
        let mut part = memory.take(memory.plan().base()).await;
        for byte in 0..3 {
            part.bytes().push(byte);
            tokio::task::yield_now().await;
        }
        send(part.seal());
    }
}

#[tokio::test]
async fn more_pipelines_than_buffers_all_end() {
    let budget = PartBudget::default();
    let mut pipelines = JoinSet::new();
    for number in 0..12 {
        let memory = budget.share(&plan((1 + number % 3) * MIB, 2));
        pipelines.spawn(fill(memory, |part| {
            tokio::spawn(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(part);
            });
        }));
    }
    pipelines.join_all().await;
    let state = budget.state();
    assert_eq!((state.limit(), state.shares.len(), state.waiting.len()), (0, 0, 0));
}

#[tokio::test]
async fn dumps_of_several_pipelines_go_to_disk_while_s3_takes_nothing() {
    let budget = PartBudget::default();
    let (mut pipelines, mut stuck) = (JoinSet::new(), JoinSet::new());
    for number in 0..12 {
        let memory = budget.share(&plan((1 + number % 3) * MIB, 2));
        // Written to disk when it is dropped; then a reader wants it, and S3 does not take it.
        let (stored, mut reading) = tokio::sync::mpsc::unbounded_channel();
        let (reader, bytes) = (memory.clone(), memory.plan().base());
        stuck.spawn(async move {
            let mut in_flight = Vec::new();
            while reading.recv().await.is_some() {
                in_flight.push(reader.take_to_read(bytes).await);
            }
            std::future::pending::<()>().await;
        });
        let store = move |part| {
            drop(part);
            stored.send(()).expect("a reader");
        };
        pipelines.spawn(fill(memory, store));
    }
    pipelines.join_all().await;
    assert!(budget.state().shares.values().any(|share| share.used_from_disk > 0), "some are in flight");
    stuck.shutdown().await;
    assert_eq!(budget.state().used(), 0);
}
