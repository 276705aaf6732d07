//! Tests of the plan and its safety checks: tables to check by hand, and properties of every plan.

mod golden;
mod properties;
mod safety;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{Backup, BackupStatus, Plan, RetentionPolicy, Rules};
use crate::archive::name::BackupName;

/// A time in UTC, as `2026-11-23 02:00:00`.
fn time(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").expect("a time").and_utc()
}

/// Valid backups of 1,000 bytes, at regular times from the first to the last.
fn every(step: TimeDelta, from: &str, to: &str) -> Vec<Backup> {
    let times = std::iter::successors(Some(time(from)), |time| Some(*time + step));
    times.take_while(|time_of_one| *time_of_one <= time(to)).map(|started| valid(started, 1000)).collect()
}

fn valid(started: DateTime<Utc>, bytes: u64) -> Backup {
    Backup { name: BackupName::new(started), bytes, status: Some(BackupStatus::Valid) }
}

fn policy(rules: Rules, min_keep: u32, zone: Tz) -> RetentionPolicy {
    RetentionPolicy::new(rules, min_keep, zone).expect("a rule")
}

/// The backups that a plan keeps, newest first.
fn kept(plan: &Plan) -> Vec<Backup> {
    let deleted: Vec<Backup> = plan.deletions().copied().collect();
    plan.decisions().iter().map(|decision| decision.backup).filter(|backup| !deleted.contains(backup)).collect()
}
