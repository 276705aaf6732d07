//! The outage budget: what is retried, what ends it, and when.

use super::*;

const TIMEOUT: Duration = Duration::from_millis(300);

fn failure(kind: FailureKind) -> Failure {
    let (code, message, status, request_id) = ("SlowDown".to_owned(), String::new(), Some(503), None);
    Failure { kind, code, message, status, request_id, is_from_s3: true }
}

/// A request that fails for a while. Real time: tokio's paused clock is a feature that would build the SDK twice.
async fn fail_for(outage: &Outage, time: Duration) -> Result<u32, StorageError> {
    let start = Instant::now();
    let request = || async { if start.elapsed() < time { Err(failure(FailureKind::Passing)) } else { Ok(7) } };
    outage.retry("try", request).await
}

#[tokio::test]
async fn an_outage_shorter_than_the_budget_costs_time_alone() {
    let outage = Outage::new(Duration::from_mins(1), TIMEOUT);
    assert_eq!(fail_for(&outage, Duration::from_secs(1)).await.ok(), Some(7));
}

#[tokio::test]
async fn a_longer_outage_ends_with_its_duration_and_attempts() {
    let outage = Outage::new(Duration::from_secs(2), TIMEOUT);
    match fail_for(&outage, Duration::from_mins(1)).await {
        Err(StorageError::Outage { lasted, failed, .. }) => {
            assert!(lasted >= Duration::from_secs(2) && failed > 1, "{lasted:?}, {failed}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_attempt_exceeds_the_budget_by_at_most_a_request_timeout() {
    let outage = Outage::new(Duration::from_secs(1), TIMEOUT);
    let ended = outage.retry("try", std::future::pending::<Result<(), _>>).await;
    match ended {
        Err(StorageError::Outage { lasted, .. }) => assert!(lasted < Duration::from_secs(2), "{lasted:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn time_in_which_bytes_moved_is_no_outage() {
    let outage = Outage::new(Duration::from_secs(1), Duration::from_millis(100));
    let attempt = async || {
        sleep(Duration::from_millis(1_500)).await;
        Err::<(), _>(failure(FailureKind::Passing))
    };
    // The first attempt uses a request timeout of the budget; the second starts within it and is not cut off.
    match outage.retry_while_moving("try", attempt).await {
        Err(StorageError::Outage { lasted, failed, .. }) => assert!(failed == 2, "{lasted:?}, {failed}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_suspended_budget_ends_nothing_until_it_is_resumed() {
    let outage = Outage::new(Duration::from_millis(100), TIMEOUT);
    outage.suspend();
    let start = Instant::now();
    let resuming = async {
        outage.next_failure().await;
        sleep(Duration::from_secs(1)).await;
        outage.resume();
    };
    let (failed, ()) = tokio::join!(fail_for(&outage, Duration::from_mins(1)), resuming);
    assert!(matches!(failed, Err(StorageError::Outage { .. })) && start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn backups_share_an_outage_and_each_suspends_its_own_requests() {
    let one = Outage::new(Duration::from_millis(100), TIMEOUT);
    let (other, third) = (one.shared(), one.shared());
    one.suspend();
    // S3 answers only once the budget has ended the request that waits for it.
    let is_back = AtomicBool::new(false);
    let request = || async { if is_back.load(Ordering::Relaxed) { Ok(7) } else { Err(failure(FailureKind::Passing)) } };
    let dumping = one.retry("try", request);
    let waiting = async {
        let ended = other.retry("try", request).await;
        // Another backup that begins now does not wait for the budget again.
        let next = third.wait("try", Instant::now(), failure(FailureKind::Passing), Duration::ZERO).await;
        is_back.store(true, Ordering::Relaxed);
        (ended, next)
    };
    let (dumping, (ended, next)) = tokio::join!(dumping, waiting);
    assert_eq!(dumping.ok(), Some(7), "its dump goes to disk meanwhile");
    for ended in [ended.map(drop), next] {
        assert!(matches!(ended, Err(StorageError::Outage { limit: OutageLimit::Budget, .. })), "{ended:?}");
    }
    // A success of any is the end of it for all.
    let next = third.wait("try", Instant::now(), failure(FailureKind::Passing), Duration::ZERO).await;
    assert!(next.is_ok() && other.has_answered());
}

#[tokio::test]
async fn a_success_of_another_request_resets_the_budget() {
    let outage = Outage::new(Duration::from_secs(30), Duration::from_mins(1));
    let long_ago = Instant::now().checked_sub(Duration::from_secs(30)).expect("a clock that is older");
    let wait = |began| outage.wait("try", began, failure(FailureKind::Passing), Duration::from_millis(1));
    for began in [long_ago, Instant::now()] {
        let ended = wait(began).await;
        assert!(matches!(ended, Err(StorageError::Outage { .. })), "used up: {ended:?}");
    }
    outage.succeeded();
    let kept = wait(Instant::now()).await;
    assert!(kept.is_ok(), "{kept:?}");
}

#[tokio::test]
async fn a_certificate_is_waited_on_only_where_s3_has_answered_before() {
    let distrusted = || async { Err::<(), _>(failure(FailureKind::Untrusted)) };
    let outage = Outage::new(Duration::from_mins(1), TIMEOUT);
    let first = outage.retry("try", distrusted).await;
    assert!(matches!(first, Err(StorageError::Refused { first: true, .. })), "{first:?}");
    outage.succeeded();
    for later in [outage.at_most(Duration::from_secs(1)), outage.separate().at_most(Duration::from_secs(1))] {
        let waited = later.retry("try", distrusted).await;
        assert!(matches!(waited, Err(StorageError::Outage { .. })), "{waited:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_from_s3_is_waited_on_only_where_s3_has_answered_before() {
    let bare = |kind| Failure { is_from_s3: false, ..failure(kind) };
    let outage = Outage::new(Duration::from_secs(1), TIMEOUT);
    // HEAD of a missing object: any server that knows nothing answers the same.
    let absent = outage.retry("try", || async { Err::<(), _>(bare(FailureKind::NotFound)) }).await;
    assert!(matches!(absent, Err(StorageError::Refused { .. })), "{absent:?}");
    let try_it = || outage.retry("try", || async { Err::<(), _>(bare(FailureKind::NotFromS3)) });
    let first = try_it().await;
    assert!(matches!(first, Err(StorageError::Refused { first: true, .. })), "{first:?}");
    let refused = outage.retry("try", || async { Err::<(), _>(failure(FailureKind::Refused)) }).await;
    assert!(matches!(refused, Err(StorageError::Refused { .. })), "{refused:?}");
    let later = try_it().await;
    assert!(matches!(later, Err(StorageError::Outage { .. })), "{later:?}");
}

#[tokio::test]
async fn a_refusal_is_not_retried() {
    let outage = Outage::new(Duration::from_mins(1), TIMEOUT);
    let calls = std::sync::atomic::AtomicU32::new(0);
    let request = || async {
        calls.fetch_add(1, Ordering::Relaxed);
        Err(failure(FailureKind::Refused))
    };
    let result: Result<(), _> = outage.retry("try", request).await;
    assert!(matches!(result, Err(StorageError::Refused { .. })));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_has_never_answered_has_a_shorter_limit() {
    let outage = Outage::new(Duration::from_mins(1), TIMEOUT).with_first_contact(Duration::from_millis(100));
    let refused = || Failure { code: "NoConnection".to_owned(), status: None, ..failure(FailureKind::Passing) };
    let ended = outage.retry("try", || async { Err::<(), _>(refused()) }).await;
    assert!(matches!(ended, Err(StorageError::Outage { limit: OutageLimit::FirstContact, .. })), "{ended:?}");
    let long_ago = Instant::now().checked_sub(Duration::from_secs(30)).expect("a clock that is older");
    for (other, has_answered) in [(failure(FailureKind::Passing), false), (refused(), true)] {
        let outage = Outage::new(Duration::from_mins(1), TIMEOUT).with_first_contact(Duration::from_millis(100));
        if has_answered {
            outage.succeeded();
        }
        let kept = outage.separate().wait("try", long_ago, other, Duration::from_millis(1)).await;
        assert!(kept.is_ok(), "{has_answered}: {kept:?}");
    }
}
