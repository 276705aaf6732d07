//! What holds for every plan, whatever the backups and the policy.

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

/// Backups at any times, in any order; each name once. Some crowd, as backups by hand do.
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

/// Rules that keep at least what others do: each count larger or the same, and perhaps a rule more.
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

fn sound_names(backups: &[Backup]) -> BTreeSet<BackupName> {
    let sound = backups.iter().filter(|backup| backup.status == Some(BackupStatus::Valid));
    sound.map(|backup| backup.name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_newest_and_the_newest_sound_ones_stay(backups in backups(), policy in policies()) {
        let kept = kept(&Plan::new(&backups, &policy));
        prop_assert_eq!(kept.first().map(|backup| backup.name), backups.iter().map(|backup| backup.name).max());
        let (all, left) = (sound_names(&backups), sound_names(&kept));
        let floor: BTreeSet<BackupName> = all.iter().rev().take(policy.min_keep).copied().collect();
        prop_assert!(floor.is_subset(&left), "{floor:?} of {left:?}");
    }

    #[test]
    fn a_plan_for_what_a_plan_kept_deletes_nothing(backups in backups(), policy in policies()) {
        let kept = kept(&Plan::new(&backups, &policy));
        let again = Plan::new(&kept, &policy);
        prop_assert_eq!(again.deletions().next(), None);
    }

    #[test]
    fn a_larger_policy_never_deletes_more(
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
    fn the_order_of_the_backups_does_not_matter(backups in backups(), policy in policies()) {
        let mut sorted = backups.clone();
        sorted.sort_unstable_by_key(|backup| backup.name);
        prop_assert_eq!(Plan::new(&backups, &policy), Plan::new(&sorted, &policy));
    }

    #[test]
    fn each_backup_is_decided_once_with_a_reason(backups in backups(), policy in policies()) {
        let plan = Plan::new(&backups, &policy);
        let decided: Vec<BackupName> = plan.decisions().iter().map(|decision| decision.backup.name).collect();
        let mut expected: Vec<BackupName> = backups.iter().map(|backup| backup.name).collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        prop_assert_eq!(decided, expected);
        prop_assert!(plan.decisions().iter().all(|decision| !decision.reasons.is_empty()));
    }

    #[test]
    fn asking_for_what_was_assumed_comes_to_the_plan_of_one_who_knows_everything(
        backups in backups(),
        policy in policies(),
    ) {
        let known = Plan::new(&backups, &policy);
        let mut asked: Vec<Backup> = backups.iter().map(|backup| Backup { status: None, ..*backup }).collect();
        let last = loop {
            let plan = Plan::new(&asked, &policy);
            if plan.assumed().is_empty() {
                break plan;
            }
            for place in &mut asked {
                if plan.assumed().contains(&place.name) {
                    prop_assert_eq!(place.status, None, "asked twice");
                    place.status = backups.iter().find(|backup| backup.name == place.name).expect("it").status;
                }
            }
        };
        let verdicts = |plan: &Plan| -> Vec<_> {
            plan.decisions().iter().map(|decision| (decision.backup.name, decision.verdict)).collect()
        };
        prop_assert_eq!(verdicts(&last), verdicts(&known));
    }

    #[test]
    fn where_all_are_sound_few_are_asked_for(count in 1_usize..2_000, policy in policies()) {
        let hourly = |hour: usize| Backup {
            name: BackupName::new(DateTime::from_timestamp(BEGIN + 3_600 * i64::try_from(hour).expect("small"), 0).expect("in range")),
            bytes: 1,
            status: None,
        };
        let plan = Plan::new(&(0..count).map(hourly).collect::<Vec<_>>(), &policy);
        let rules = policy.rules;
        let counts = [rules.last, rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
        let bound = policy.min_keep + counts.iter().flatten().sum::<u32>() as usize;
        prop_assert!(plan.assumed().len() <= bound, "{} asked for, {bound} at most", plan.assumed().len());
    }
}
