//! Each sign that something is wrong, one step before it and one behind.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::super::{Backup, Freeze, Plan, RetentionPolicy, Rules, Soundness, freezes};
use super::{every, policy, sound, time};
use crate::backup::name::BackupName;

const NEWEST: &str = "2026-10-31 02:00:00";

/// Ten days of daily backups of 1,000 bytes.
fn ten_days() -> Vec<Backup> {
    every(TimeDelta::days(1), "2026-10-22 02:00:00", NEWEST)
}

fn days(days: u32) -> RetentionPolicy {
    policy(Rules { days: Some(days), ..Rules::default() }, 1, Tz::UTC)
}

fn found(backups: &[Backup], policy: &RetentionPolicy, now: DateTime<Utc>) -> Vec<Freeze> {
    freezes(&Plan::new(backups, policy), policy, now)
}

fn now() -> DateTime<Utc> {
    time("2026-10-31 03:00:00")
}

#[test]
fn nothing_speaks_against_an_ordinary_plan() {
    assert_eq!(found(&ten_days(), &days(7), now()), []);
    assert_eq!(Plan::new(&ten_days(), &days(7)).deletions().count(), 2);
    assert_eq!(found(&[], &days(7), now()), []);
}

#[test]
fn a_gap_longer_than_backups_are_kept() {
    let with_gap = |gap: i64| {
        let mut backups = ten_days();
        backups.push(sound(time(NEWEST) + TimeDelta::days(gap), 1000));
        // Some that are newer than the gap, so that no more than half would go.
        found(
            &backups,
            &policy(Rules { days: Some(7), last: Some(6), ..Rules::default() }, 1, Tz::UTC),
            time("2027-01-01 00:00:00"),
        )
    };
    assert_eq!(with_gap(7), []);
    let name = BackupName::new(time("2026-11-08 02:00:00"));
    assert_eq!(with_gap(8), [Freeze::Gap { name, days: 8, kept: 7 }]);
}

#[test]
fn a_gap_is_nothing_to_rules_that_count_what_is_there() {
    let mut backups = ten_days();
    backups.push(sound(time(NEWEST) + TimeDelta::days(400), 1000));
    let daily = policy(Rules { daily: Some(7), ..Rules::default() }, 1, Tz::UTC);
    assert_eq!(found(&backups, &daily, time("2028-01-01 00:00:00")), []);
    assert_eq!(Plan::new(&backups, &daily).deletions().count(), 4);
}

#[test]
fn only_sound_backups_fill_a_gap() {
    let mut backups = ten_days();
    let partial =
        |day: i64| Backup { soundness: Some(Soundness::Partial), ..sound(time(NEWEST) + TimeDelta::days(day), 1000) };
    backups.extend((1..20).map(partial));
    backups.push(sound(time(NEWEST) + TimeDelta::days(20), 1000));
    let reasons = found(&backups, &days(14), time("2027-01-01 00:00:00"));
    let name = BackupName::new(time("2026-11-20 02:00:00"));
    assert_eq!(reasons, [Freeze::Gap { name, days: 20, kept: 14 }]);
}

#[test]
fn a_newest_backup_of_less_than_half_the_size() {
    let with_sizes = |sizes: [u64; 10]| {
        let mut backups = ten_days();
        for (backup, bytes) in backups.iter_mut().zip(sizes) {
            backup.bytes = bytes;
        }
        found(&backups, &days(7), now())
    };
    // The median of the five before the newest is 1,000, whatever the older ones have.
    assert_eq!(with_sizes([9000, 9000, 9000, 9000, 10, 20, 1000, 1001, 5000, 500]), []);
    let name = BackupName::new(time(NEWEST));
    let shrunk = |bytes, median| vec![Freeze::Shrunk { name, bytes, median }];
    assert_eq!(with_sizes([9000, 9000, 9000, 9000, 10, 20, 1000, 1001, 5000, 499]), shrunk(499, 1000));
    assert_eq!(with_sizes([1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 0]), shrunk(0, 1000));
}

#[test]
fn a_partial_backup_is_not_compared() {
    let mut backups = ten_days();
    let newest = backups.last_mut().expect("it");
    (newest.bytes, newest.soundness) = (1, Some(Soundness::Partial));
    assert_eq!(found(&backups, &days(7), now()), []);
    // And does not hide that the newest sound one is too small.
    backups.push(Backup { soundness: Some(Soundness::Partial), ..sound(time("2026-10-31 02:30:00"), 1000) });
    backups[9] = sound(time(NEWEST), 1);
    assert!(matches!(found(&backups, &days(7), now())[..], [Freeze::Shrunk { bytes: 1, .. }]));
}

#[test]
fn most_of_more_than_five_would_go() {
    let backups = ten_days();
    let last = |count: u32| policy(Rules { last: Some(count), ..Rules::default() }, 1, Tz::UTC);
    assert_eq!(found(&backups, &last(5), now()), []);
    assert_eq!(found(&backups, &last(4), now()), [Freeze::Most { deleted: 6, total: 10 }]);
    // Of five or fewer, as many may go as the rules say.
    assert_eq!(found(&backups[5..], &last(1), now()), []);
    assert_eq!(found(&backups[4..], &last(1), now()), [Freeze::Most { deleted: 5, total: 6 }]);
}

#[test]
fn a_name_in_the_future() {
    let backups = ten_days();
    assert_eq!(found(&backups, &days(7), time("2026-10-31 01:00:00")), []);
    let name = BackupName::new(time(NEWEST));
    assert_eq!(found(&backups, &days(7), time("2026-10-31 00:59:59")), [Freeze::Future { name }]);
}

#[test]
fn nothing_speaks_against_a_plan_that_deletes_nothing() {
    let mut backups = ten_days();
    backups.push(sound(time("2036-10-31 02:00:00"), 0));
    let rules = Rules { last: Some(100), ..Rules::default() };
    assert_eq!(found(&backups, &policy(rules, 1, Tz::UTC), now()), []);
}

#[test]
fn several_signs_are_all_named_and_each_says_what_to_do() {
    let mut backups = ten_days();
    backups.push(sound(time("2036-10-31 02:00:00"), 0));
    let reasons = found(&backups, &days(7), now());
    let texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(reasons.len(), 4, "{texts:#?}");
    assert!(texts.iter().all(|text| text.ends_with("`prune --force`") && !text.contains('\n')), "{texts:#?}");
}
