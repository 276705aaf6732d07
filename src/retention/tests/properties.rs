//! Properties of every plan.

use std::collections::BTreeSet;

use chrono::DateTime;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::super::{Backup, BackupStatus, Plan, RetentionPolicy, Rules};
use super::kept;
use crate::archive::name::BackupName;

/// Four years of seconds: enough for every kind of period to repeat.
const SPAN: i64 = 4 * 366 * 86_400;
const BEGIN: i64 = 1_700_000_000;

fn status() -> impl Strategy<Value = BackupStatus> {
    prop_oneof![4 => Just(BackupStatus::Valid), 1 => Just(BackupStatus::Partial), 1 => Just(BackupStatus::SizeMismatch), 1 => Just(BackupStatus::Empty)]
}

/// Backups at any times, in any order, with unique names. Some are close together, as manual backups are.
fn backups() -> impl Strategy<Value = Vec<Backup>> {
    let seconds = prop_oneof![0..SPAN, (0..SPAN / 86_400).prop_map(|day| day * 86_400 + 7_200), SPAN - 200_000..SPAN];
    proptest::collection::btree_map(seconds, (status(), 0_u64..2_000), 0..60)
        .prop_map(|drawn| {
            let backup = |(seconds, (status, bytes)): (i64, (BackupStatus, u64))| Backup {
                name: BackupName::new(DateTime::from_timestamp(BEGIN + seconds, 0).expect("in range")),
                bytes,
                status: Some(status),
            };
            drawn.into_iter().map(backup).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn count(most: u32) -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(1..most)
}

fn rules() -> impl Strategy<Value = Rules> {
    (count(400), count(20), count(48), count(20), count(12), count(12), count(5)).prop_map(
        |(days, last, hourly, daily, weekly, monthly, yearly)| Rules {
            days,
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
        },
    )
}

fn zone() -> impl Strategy<Value = Tz> {
    prop_oneof![
        Just(Tz::UTC),
        Just(Tz::Europe__Berlin),
        Just(Tz::America__Los_Angeles),
        Just(Tz::Pacific__Auckland),
        Just(Tz::Australia__Lord_Howe),
        Just(Tz::America__Sao_Paulo)
    ]
}

fn policies() -> impl Strategy<Value = RetentionPolicy> {
    (rules(), 1_u32..8, zone())
        .prop_filter_map("no rule", |(rules, min_keep, zone)| RetentionPolicy::new(rules, min_keep, zone))
}

/// Rules with counts that are at least as large, and perhaps more rules.
fn enlarged(rules: Rules, by: Rules) -> Rules {
    let more = |count: Option<u32>, by: Option<u32>| count.map_or(by, |count| Some(count + by.unwrap_or_default()));
    Rules {
        days: more(rules.days, by.days),
        last: more(rules.last, by.last),
        hourly: more(rules.hourly, by.hourly),
        daily: more(rules.daily, by.daily),
        weekly: more(rules.weekly, by.weekly),
        monthly: more(rules.monthly, by.monthly),
        yearly: more(rules.yearly, by.yearly),
    }
}

fn valid_names(backups: &[Backup]) -> BTreeSet<BackupName> {
    let valid = backups.iter().filter(|backup| backup.status == Some(BackupStatus::Valid));
    valid.map(|backup| backup.name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn keeps_newest_and_newest_valid_backups(backups in backups(), policy in policies()) {
        let kept = kept(&Plan::new(&backups, &policy));
        prop_assert_eq!(kept.first().map(|backup| backup.name), backups.iter().map(|backup| backup.name).max());
        let (all, left) = (valid_names(&backups), valid_names(&kept));
        let floor: BTreeSet<BackupName> = all.iter().rev().take(policy.min_keep).copied().collect();
        prop_assert!(floor.is_subset(&left), "{floor:?} of {left:?}");
    }

    #[test]
    fn second_plan_deletes_nothing(backups in backups(), policy in policies()) {
        let kept = kept(&Plan::new(&backups, &policy));
        let again = Plan::new(&kept, &policy);
        prop_assert_eq!(again.deletions().next(), None);
    }

    #[test]
    fn larger_policy_deletes_no_more(
        backups in backups(),
        policy in policies(),
        (by, floor_by) in (rules(), 0_u32..4),
    ) {
        let larger = RetentionPolicy {
            rules: enlarged(policy.rules, by),
            min_keep: policy.min_keep + floor_by as usize,
            ..policy
        };
        let (less, more) = (kept(&Plan::new(&backups, &policy)), kept(&Plan::new(&backups, &larger)));
        let lost: Vec<&Backup> = less.iter().filter(|backup| !more.contains(backup)).collect();
        prop_assert!(lost.is_empty(), "{lost:?}");
    }

    #[test]
    fn order_of_backups_does_not_matter(backups in backups(), policy in policies()) {
        let mut sorted = backups.clone();
        sorted.sort_unstable_by_key(|backup| backup.name);
        prop_assert_eq!(Plan::new(&backups, &policy), Plan::new(&sorted, &policy));
    }

    #[test]
    fn decides_each_backup_once_with_reason(backups in backups(), policy in policies()) {
        let plan = Plan::new(&backups, &policy);
        let decided: Vec<BackupName> = plan.decisions().iter().map(|decision| decision.backup.name).collect();
        let mut expected: Vec<BackupName> = backups.iter().map(|backup| backup.name).collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        prop_assert_eq!(decided, expected);
        prop_assert!(plan.decisions().iter().all(|decision| !decision.reasons.is_empty()));
    }

    #[test]
    fn reading_assumed_backups_leads_to_plan_with_all_statuses(
        backups in backups(),
        policy in policies(),
    ) {
        let known = Plan::new(&backups, &policy);
        let mut unread: Vec<Backup> = backups.iter().map(|backup| Backup { status: None, ..*backup }).collect();
        let last = loop {
            let plan = Plan::new(&unread, &policy);
            if plan.assumed().is_empty() {
                break plan;
            }
            for backup in &mut unread {
                if plan.assumed().contains(&backup.name) {
                    prop_assert_eq!(backup.status, None, "read twice");
                    backup.status = backups.iter().find(|read| read.name == backup.name).expect("it").status;
                }
            }
        };
        let verdicts = |plan: &Plan| -> Vec<_> {
            plan.decisions().iter().map(|decision| (decision.backup.name, decision.verdict)).collect()
        };
        prop_assert_eq!(verdicts(&last), verdicts(&known));
    }

    #[test]
    fn assumes_few_backups_if_all_are_valid(count in 1_usize..2_000, policy in policies()) {
        let hourly = |hour: usize| Backup {
            name: BackupName::new(DateTime::from_timestamp(BEGIN + 3_600 * i64::try_from(hour).expect("small"), 0).expect("in range")),
            bytes: 1,
            status: None,
        };
        let plan = Plan::new(&(0..count).map(hourly).collect::<Vec<_>>(), &policy);
        let rules = policy.rules;
        let counts = [rules.last, rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
        let bound = policy.min_keep + counts.iter().flatten().sum::<u32>() as usize;
        prop_assert!(plan.assumed().len() <= bound, "{} assumed, {bound} at most", plan.assumed().len());
    }
}
