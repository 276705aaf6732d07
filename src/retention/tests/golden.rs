//! Tables of plans over years of dates, in `tests/fixtures/retention`, short enough to be checked by hand with a calendar.
//! `UPDATE_DOCUMENTS=1` writes them; check them then.

use std::fmt::Write as _;
use std::path::Path;

use chrono::TimeDelta;
use chrono_tz::Tz;

use super::super::{Backup, BackupStatus, Decision, Plan, RetentionPolicy, Rules, Verdict};
use super::{every, policy, time};

const DAY: TimeDelta = TimeDelta::days(1);
const HOUR: TimeDelta = TimeDelta::hours(1);
const NO_RULES: Rules =
    Rules { days: None, last: None, hourly: None, daily: None, weekly: None, monthly: None, yearly: None };

/// Compares the plan with its table.
#[track_caller]
fn assert_table(name: &str, about: &str, backups: &[Backup], policy: &RetentionPolicy) {
    let plan = Plan::new(backups, policy);
    assert_eq!(plan.assumed(), [], "everything is known");
    let expected = table(about, &plan, policy);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/retention").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, &expected).expect("the table can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name}");
}

/// A line for each kept backup, and one for each run of deleted backups.
fn table(about: &str, plan: &Plan, policy: &RetentionPolicy) -> String {
    let mut text = format!("{about}\n\n");
    for run in plan.decisions().chunk_by(|one, next| one.verdict == Verdict::Delete && next.verdict == Verdict::Delete)
    {
        match run {
            [first, .., last] => {
                let (newest, oldest) = (line(first, policy), local(last, policy));
                let _ = writeln!(text, "{newest}\n    and {} older ones, down to {oldest}", run.len() - 1);
            }
            _ => run.iter().for_each(|decision| _ = writeln!(text, "{}", line(decision, policy))),
        }
    }
    let kept = plan.decisions().len() - plan.deletions().count();
    text + &format!("\n{kept} kept, {} deleted\n", plan.deletions().count())
}

fn line(decision: &Decision, policy: &RetentionPolicy) -> String {
    let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
    let status = decision.backup.status.filter(|status| *status != BackupStatus::Valid);
    let status = status.map(|status| format!(" ({})", status.words())).unwrap_or_default();
    format!("{} {}{status}: {}", local(decision, policy), decision.verdict.word(), reasons.join(", "))
}

fn local(decision: &Decision, policy: &RetentionPolicy) -> String {
    decision.backup.name.started().with_timezone(&policy.zone).format("%a W%V %Y-%m-%d %H:%M %:z").to_string()
}

#[test]
fn keeps_backups_by_days() {
    let backups = every(DAY, "2026-10-01 02:00:00", "2026-10-31 02:00:00");
    let rules = Rules { days: Some(7), ..NO_RULES };
    assert_table("days", "Days 7; one a day at 02:00 in October.", &backups, &policy(rules, 1, Tz::UTC));
}

#[test]
fn counts_leap_day() {
    for (name, year) in [("days-leap", 2024), ("days-no-leap", 2025)] {
        let backups = every(DAY, &format!("{year}-01-01 02:00:00"), &format!("{year}-03-02 02:00:00"));
        let about = format!("Days 3, on March 2nd {year}.");
        assert_table(name, &about, &backups, &policy(Rules { days: Some(3), ..NO_RULES }, 1, Tz::UTC));
    }
}

#[test]
fn keeps_last_backups() {
    let backups = every(HOUR, "2026-10-30 00:00:00", "2026-10-31 02:00:00");
    let rules = Rules { last: Some(5), ..NO_RULES };
    assert_table("last", "Last 5; one an hour.", &backups, &policy(rules, 1, Tz::UTC));
}

#[test]
fn keeps_one_backup_per_hour() {
    let backups = every(TimeDelta::minutes(20), "2026-10-30 21:00:00", "2026-10-31 02:10:00");
    let rules = Rules { hourly: Some(3), ..NO_RULES };
    assert_table("hourly", "Hourly 3; one every 20 minutes.", &backups, &policy(rules, 1, Tz::UTC));
    let about = "Hourly 3 in Kathmandu, 5:45 ahead of UTC; one every 20 minutes.";
    assert_table("hourly-kathmandu", about, &backups, &policy(rules, 1, Tz::Asia__Kathmandu));
    let backups = every(TimeDelta::minutes(30), "2026-10-24 23:00:00", "2026-10-25 02:30:00");
    let about = "Hourly 4 in Berlin, over the change of the clock in autumn: both hours from 2 to 3 count.";
    let rules = Rules { hourly: Some(4), ..NO_RULES };
    assert_table("hourly-berlin", about, &backups, &policy(rules, 1, Tz::Europe__Berlin));
}

#[test]
fn keeps_one_backup_per_day() {
    let backups = every(HOUR * 6, "2026-02-20 01:00:00", "2026-03-02 13:00:00");
    let rules = Rules { daily: Some(4), ..NO_RULES };
    assert_table("daily", "Daily 4; one every 6 hours.", &backups, &policy(rules, 1, Tz::UTC));
}

#[test]
fn keeps_one_backup_per_iso_week() {
    let backups = every(DAY, "2020-11-01 02:00:00", "2021-01-12 02:00:00");
    let rules = Rules { weekly: Some(5), ..NO_RULES };
    let about = "Weekly 5; one a day. 2020 has a week 53, which ends on Sunday, January 3rd.";
    assert_table("weekly", about, &backups, &policy(rules, 1, Tz::UTC));
}

#[test]
fn keeps_one_backup_per_month() {
    let backups = every(DAY, "2023-01-01 02:00:00", "2024-05-15 02:00:00");
    let rules = Rules { monthly: Some(6), ..NO_RULES };
    let about = "Monthly 6; one a day. February 2024 has 29 days.";
    assert_table("monthly", about, &backups, &policy(rules, 1, Tz::UTC));
}

#[test]
fn does_not_count_years_without_backup() {
    let mut backups = every(DAY, "2015-01-01 02:00:00", "2019-06-30 02:00:00");
    backups.extend(every(DAY, "2022-03-01 02:00:00", "2026-11-23 02:00:00"));
    let rules = Rules { yearly: Some(7), ..NO_RULES };
    let about = "Yearly 7; one a day, but none in 2020 and 2021: those years do not count.";
    assert_table("yearly", about, &backups, &policy(rules, 1, Tz::UTC));
}

#[test]
fn combines_all_rules() {
    let backups = every(HOUR * 12, "2021-06-01 02:00:00", "2026-11-23 14:00:00");
    let (days, last, daily) = (Some(2), Some(3), Some(7));
    let rules = Rules { days, last, daily, weekly: Some(5), monthly: Some(12), yearly: Some(4), ..NO_RULES };
    let about = "Days 2, last 3, daily 7, weekly 5, monthly 12, yearly 4, min-keep 3; two a day for five years.";
    assert_table("combined", about, &backups, &policy(rules, 3, Tz::UTC));
}

#[test]
fn keeps_one_backup_per_day_across_clock_changes() {
    let rules = Rules { daily: Some(3), ..NO_RULES };
    for (name, day, next) in [("spring", "2026-03-28", "2026-03-30"), ("autumn", "2026-10-24", "2026-10-26")] {
        let backups = every(HOUR, &format!("{day} 12:00:00"), &format!("{next} 12:00:00"));
        let about = format!("Daily 3 in Berlin, over the change of the clock in {name}; one an hour.");
        assert_table(&format!("berlin-{name}"), &about, &backups, &policy(rules, 1, Tz::Europe__Berlin));
    }
}

#[test]
fn counts_calendar_days_across_clock_changes() {
    // 2026-10-25 has 25 hours in Berlin: seven days are 169 hours, and the oldest one kept is 7 days old all the same.
    let backups = every(HOUR, "2026-10-17 00:00:00", "2026-10-26 22:30:00");
    let rules = Rules { days: Some(7), ..NO_RULES };
    let policy = policy(rules, 1, Tz::Europe__Berlin);
    let oldest = super::kept(&Plan::new(&backups, &policy)).pop().expect("some are kept");
    assert_eq!(oldest.name.started(), time("2026-10-18 22:00:00"), "midnight of October 19th in Berlin");
}

#[test]
fn uses_days_and_months_of_time_zone() {
    let backups = every(HOUR * 8, "2026-05-30 07:30:00", "2026-06-02 23:30:00");
    let rules = Rules { daily: Some(2), monthly: Some(2), ..NO_RULES };
    for (name, zone) in [
        ("zone-utc", Tz::UTC),
        ("zone-auckland", Tz::Pacific__Auckland),
        ("zone-los-angeles", Tz::America__Los_Angeles),
        ("zone-kathmandu", Tz::Asia__Kathmandu),
    ] {
        let about = format!("Daily 2, monthly 2 in {zone}; one every 8 hours, the same in each zone.");
        assert_table(name, &about, &backups, &policy(rules, 1, zone));
    }
}

#[test]
fn handles_unusual_clock_changes() {
    let rules = Rules { daily: Some(3), ..NO_RULES };
    let backups = every(TimeDelta::minutes(30), "2026-04-03 13:00:00", "2026-04-05 13:30:00");
    let about = "Daily 3 on Lord Howe Island, where the clock goes back by half an hour; one every half hour.";
    assert_table("lord-howe", about, &backups, &policy(rules, 1, Tz::Australia__Lord_Howe));
    let backups = every(HOUR * 6, "2011-12-28 22:00:00", "2011-12-31 16:00:00");
    let about = "Daily 3 in Samoa, which had no December 30th, 2011; one every 6 hours.";
    assert_table("samoa", about, &backups, &policy(rules, 1, Tz::Pacific__Apia));
}

#[test]
fn invalid_backup_never_replaces_valid_one() {
    let mut backups = every(HOUR * 8, "2026-10-20 02:00:00", "2026-10-26 18:00:00");
    for backup in &mut backups {
        let started = backup.name.started().format("%d %H").to_string();
        backup.status = Some(match &*started {
            // The last of a day, all of a day, and the newest.
            "23 18" | "24 02" | "24 10" | "24 18" | "26 18" => BackupStatus::Partial,
            "25 18" => BackupStatus::SizeMismatch,
            _ => BackupStatus::Valid,
        });
    }
    let rules = Rules { last: Some(2), daily: Some(4), ..NO_RULES };
    let about = "Last 2, daily 4, min-keep 4; one every 8 hours. Some are partial, all of October 24th among them.";
    assert_table("invalid", about, &backups, &policy(rules, 4, Tz::UTC));
}

#[test]
fn rules_apply_if_all_backups_are_partial() {
    let mut backups = every(DAY, "2026-10-01 02:00:00", "2026-10-31 02:00:00");
    for backup in &mut backups {
        backup.status = Some(BackupStatus::Partial);
    }
    let rules = Rules { days: Some(2), last: Some(2), weekly: Some(3), ..NO_RULES };
    let about = "Days 2, last 2, weekly 3, min-keep 3; one a day, and each leaves something out.";
    assert_table("all-partial", about, &backups, &policy(rules, 3, Tz::UTC));
}

#[test]
fn keeps_min_keep_backups_regardless_of_rules() {
    let mut backups = every(DAY, "2026-01-01 02:00:00", "2026-01-10 02:00:00");
    backups.extend(every(DAY, "2026-10-31 02:00:00", "2026-10-31 02:00:00"));
    let rules = Rules { days: Some(7), ..NO_RULES };
    let about = "Days 7, min-keep 3; nothing was made for nine months before the newest.";
    assert_table("floor", about, &backups, &policy(rules, 3, Tz::UTC));
}
