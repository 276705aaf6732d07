//! Each safety check, one step before and one step after its limit.

use crate::retention::Occasion;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::super::{
    Backup, BackupStatus, Decision, Plan, Reason, RetentionPolicy, Rules, SafetyCheck, Verdict, safety_checks,
};
use super::{every, policy, time, valid};
use crate::archive::name::BackupName;

const NEWEST: &str = "2026-10-31 02:00:00";

/// Ten days of daily backups of 1,000 bytes.
fn ten_days() -> Vec<Backup> {
    every(TimeDelta::days(1), "2026-10-22 02:00:00", NEWEST)
}

fn days(days: u32) -> RetentionPolicy {
    policy(Rules { days: Some(days), ..Rules::default() }, 1, Tz::UTC)
}

/// With the statuses that a review at this time finds.
fn seen(backups: &[Backup], now: DateTime<Utc>) -> Vec<Backup> {
    let is_future = |backup: &Backup| backup.name.is_in_future(now);
    let status = |backup: &Backup| if is_future(backup) { Some(BackupStatus::Future) } else { backup.status };
    backups.iter().map(|backup| Backup { status: status(backup), ..*backup }).collect()
}

fn found(backups: &[Backup], policy: &RetentionPolicy, now: DateTime<Utc>) -> Vec<SafetyCheck> {
    safety_checks(&Plan::new(&seen(backups, now), policy), policy)
}

fn now() -> DateTime<Utc> {
    time("2026-10-31 03:00:00")
}

#[test]
fn accepts_ordinary_plan() {
    assert_eq!(found(&ten_days(), &days(7), now()), []);
    assert_eq!(Plan::new(&ten_days(), &days(7)).deletions().count(), 2);
    assert_eq!(found(&[], &days(7), now()), []);
}

#[test]
fn gap_longer_than_retention_blocks_until_min_keep_backups() {
    // `last` keeps some, so that no more than half are deleted.
    let policy = policy(Rules { days: Some(7), last: Some(8), ..Rules::default() }, 3, Tz::UTC);
    let with_gap = |gap: i64, since: i64| {
        let mut backups = ten_days();
        backups.extend((0..since).map(|day| valid(time(NEWEST) + TimeDelta::days(gap + day), 1000)));
        found(&backups, &policy, time("2027-01-01 00:00:00"))
    };
    assert_eq!(with_gap(7, 1), []);
    let name = BackupName::new(time("2026-11-08 02:00:00"));
    let gap = |since| vec![SafetyCheck::Gap { name, days: 8, kept: 7, since, min_keep: 3 }];
    assert_eq!([with_gap(8, 1), with_gap(8, 2), with_gap(8, 3)], [gap(1), gap(2), Vec::new()]);
}

#[test]
fn gap_does_not_block_rules_that_count_backups() {
    let mut backups = ten_days();
    backups.push(valid(time(NEWEST) + TimeDelta::days(400), 1000));
    let daily = policy(Rules { daily: Some(7), ..Rules::default() }, 1, Tz::UTC);
    assert_eq!(found(&backups, &daily, time("2028-01-01 00:00:00")), []);
    assert_eq!(Plan::new(&backups, &daily).deletions().count(), 4);
}

#[test]
fn invalid_backups_do_not_fill_gap() {
    let mut backups = ten_days();
    let partial =
        |day: i64| Backup { status: Some(BackupStatus::Partial), ..valid(time(NEWEST) + TimeDelta::days(day), 1000) };
    backups.extend((1..20).map(partial));
    backups.push(valid(time(NEWEST) + TimeDelta::days(20), 1000));
    let policy = policy(Rules { days: Some(14), ..Rules::default() }, 2, Tz::UTC);
    let reasons = found(&backups, &policy, time("2027-01-01 00:00:00"));
    let name = BackupName::new(time("2026-11-20 02:00:00"));
    assert_eq!(reasons, [SafetyCheck::Gap { name, days: 20, kept: 14, since: 1, min_keep: 2 }]);
}

#[test]
fn newest_backup_below_half_the_median_blocks() {
    let with_sizes = |sizes: [u64; 10]| {
        let mut backups = ten_days();
        for (backup, bytes) in backups.iter_mut().zip(sizes) {
            backup.bytes = bytes;
        }
        found(&backups, &days(7), now())
    };
    // The median of the five before the newest is 1,000; older ones do not count.
    assert_eq!(with_sizes([9000, 9000, 9000, 9000, 10, 20, 1000, 1001, 5000, 500]), []);
    let name = BackupName::new(time(NEWEST));
    let shrunk = |bytes, median| vec![SafetyCheck::Shrunk { name, bytes, median }];
    assert_eq!(with_sizes([9000, 9000, 9000, 9000, 10, 20, 1000, 1001, 5000, 499]), shrunk(499, 1000));
    assert_eq!(with_sizes([1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 0]), shrunk(0, 1000));
}

#[test]
fn accepts_new_size_after_seven_days() {
    // Ten days of large backups, and then small ones.
    let with_small = |step: TimeDelta, count: i32, bytes: &dyn Fn(i32) -> u64| {
        let mut backups = ten_days();
        let started = |index: i32| time(NEWEST) + TimeDelta::days(1) + step * index;
        backups.extend((0..count).map(|index| valid(started(index), bytes(index))));
        found(&backups, &days(7), time("2027-01-01 00:00:00"))
            .iter()
            .any(|check| matches!(check, SafetyCheck::Shrunk { .. }))
    };
    let (hour, day) = (TimeDelta::hours(1), TimeDelta::days(1));
    for (step, blocked, accepted) in [(day, 7, 8), (hour, 168, 169), (day * 7, 1, 2)] {
        assert!(with_small(step, 1, &|_| 10) && with_small(step, blocked, &|_| 10), "{step}");
        assert!(!with_small(step, accepted, &|_| 10), "{step}");
    }
    // The size may grow meanwhile. A second shrink is a new size again.
    assert!(with_small(day, 7, &|index| 10 << index.min(5)) && !with_small(day, 8, &|index| 10 << index.min(5)));
    assert!(with_small(day, 12, &|index| if index == 11 { 1 } else { 10 }));
}

#[test]
fn invalid_backup_is_not_compared() {
    let mut backups = ten_days();
    let empty =
        |day: i64| Backup { status: Some(BackupStatus::Empty), ..valid(time(NEWEST) + TimeDelta::days(day), 20) };
    backups.extend((1..9).map(empty));
    let rule = policy(Rules { last: Some(9), ..Rules::default() }, 1, Tz::UTC);
    assert_eq!(found(&backups, &rule, time("2027-01-01 00:00:00")), []);
    backups.push(valid(time(NEWEST) + TimeDelta::days(9), 30));
    let reasons = found(&backups, &rule, time("2027-01-01 00:00:00"));
    assert!(matches!(reasons[..], [SafetyCheck::Shrunk { bytes: 30, median: 1000, .. }]), "{reasons:?}");
}

#[test]
fn partial_backup_is_not_compared() {
    let mut backups = ten_days();
    let newest = backups.last_mut().expect("it");
    (newest.bytes, newest.status) = (1, Some(BackupStatus::Partial));
    assert_eq!(found(&backups, &days(7), now()), []);
    // The newest valid one is, and is too small.
    backups.push(Backup { status: Some(BackupStatus::Partial), ..valid(time("2026-10-31 02:30:00"), 1000) });
    backups[9] = valid(time(NEWEST), 1);
    assert!(matches!(found(&backups, &days(7), now())[..], [SafetyCheck::Shrunk { bytes: 1, .. }]));
}

#[test]
fn deleting_more_than_half_blocks() {
    let backups = ten_days();
    let last = |count: u32| policy(Rules { last: Some(count), ..Rules::default() }, 1, Tz::UTC);
    assert_eq!(found(&backups, &last(5), now()), []);
    assert_eq!(found(&backups, &last(4), now()), [SafetyCheck::Most { deleted: 6, total: 10 }]);
    // Up to five backups, the rules decide alone.
    assert_eq!(found(&backups[5..], &last(1), now()), []);
    assert_eq!(found(&backups[4..], &last(1), now()), [SafetyCheck::Most { deleted: 5, total: 6 }]);
}

#[test]
fn name_in_the_future_blocks() {
    let backups = ten_days();
    assert_eq!(found(&backups, &days(7), time("2026-10-31 01:00:00")), []);
    // Something would be deleted, although that one is not counted.
    let name = BackupName::new(time(NEWEST));
    assert_eq!(found(&backups, &days(7), time("2026-10-31 00:59:59")), [SafetyCheck::Future { name }]);
}

#[test]
fn keeps_backup_in_the_future_without_counting_it() {
    let future = valid(time("2036-10-31 02:00:00"), 1000);
    let backups: Vec<Backup> = ten_days().into_iter().chain([future]).collect();
    for rules in [Rules { days: Some(7), ..Rules::default() }, Rules { last: Some(8), ..Rules::default() }] {
        let policy = policy(rules, 1, Tz::UTC);
        let plan = Plan::new(&seen(&backups, now()), &policy);
        let [first, rest @ ..] = plan.decisions() else { panic!("no decision") };
        let Decision { backup, verdict, reasons } = first;
        assert_eq!((backup.name, *verdict, &reasons[..]), (future.name, Verdict::Keep, &[Reason::Future][..]));
        assert_eq!(rest, Plan::new(&ten_days(), &policy).decisions(), "as if it were not there");
    }
}

#[test]
fn accepts_plan_without_deletions() {
    let mut backups = ten_days();
    backups.push(valid(time("2036-10-31 02:00:00"), 0));
    let rules = Rules { last: Some(100), ..Rules::default() };
    assert_eq!(found(&backups, &policy(rules, 1, Tz::UTC), now()), []);
}

#[test]
fn each_failed_check_is_reported_with_advice() {
    let mut backups = ten_days();
    backups.extend([valid(time("2026-11-30 02:00:00"), 0), valid(time("2036-10-31 02:00:00"), 0)]);
    let reasons =
        found(&backups, &policy(Rules { days: Some(7), ..Rules::default() }, 2, Tz::UTC), time("2026-11-30 03:00:00"));
    let texts: Vec<String> = reasons.iter().map(|check| check.explained(Occasion::Deletion)).collect();
    assert_eq!(reasons.len(), 4, "{texts:#?}");
    let commands = ["`pg-s3-backup prune --force`", "`docker exec CONTAINER pg-s3-backup prune --force`"];
    for text in texts {
        assert!(commands.iter().all(|command| text.contains(command)) && !text.contains('\n'), "{text}");
    }
    // The text without the advice is for `--force`, which follows the advice.
    assert!(reasons.iter().all(|reason| !reason.to_string().contains("--force")), "{reasons:?}");
}

#[test]
fn fills_min_keep_with_newest_others() {
    let kept = |valid: &[usize]| {
        let mut backups = ten_days();
        for (index, backup) in backups.iter_mut().rev().enumerate().filter(|(index, _)| !valid.contains(index)) {
            backup.status = Some(if index % 2 == 0 { BackupStatus::Empty } else { BackupStatus::SizeMismatch });
        }
        let last = policy(Rules { last: Some(1), ..Rules::default() }, 3, Tz::UTC);
        let plan = Plan::new(&backups, &last);
        let kept = plan.decisions().iter().enumerate().filter(|(_, decision)| decision.verdict == Verdict::Keep);
        kept.map(|(index, _)| index).collect::<Vec<_>>()
    };
    assert_eq!(kept(&[]), [0, 1, 2]);
    assert_eq!(kept(&[8]), [0, 1, 8]);
    assert_eq!(kept(&[2, 5, 8]), [0, 2, 5, 8]);
}
