//! What runs now, and what needs attention besides the state.

use maud::{Markup, html};

use super::chart::newest;
use super::tables::drill_word;
use super::words::{ago, bytes_text, name, span, time};
use crate::archive::{BackupStatus, StoredBackup};
use crate::health::facts::{DatabaseFacts, Facts};
use crate::inventory::DatabaseSnapshot;
use crate::printable::printable_lines;
use crate::telemetry::RunningDump;
use crate::telemetry::metrics::RunHistory;

/// The most databases that a notice names.
const MOST_NAMES: usize = 5;

/// The run and the drill in progress.
pub(super) fn running(facts: &Facts) -> Markup {
    let (health, now) = (&facts.health, facts.now);
    html! {
        @if let Some(since) = health.running_since {
            section.running aria-labelledby="running" {
                h2 #running { "A backup runs" }
                p { "It began " (ago(since, now)) "." }
                @for dump in &facts.dumps { (progress(dump)) }
            }
        }
        @if let Some(since) = health.drill.running_since {
            section.running { h2 { "A restore drill runs" } p { "It began " (ago(since, now)) "." } }
        }
    }
}

fn progress(dump: &RunningDump) -> Markup {
    let RunningDump { database, dumped, uploaded, estimate, .. } = dump;
    html! {
        div.dump {
            @if let Some(database) = database { p { strong { (name(database)) } } }
            progress max=((*estimate).max(*dumped).max(1)) value=(dumped) aria-label="Dumped" {}
            p.muted {
                (bytes_text(*dumped))
                @if dumped < estimate { " of about " (bytes_text(*estimate)) }
                " dumped, " (bytes_text(*uploaded)) " stored"
            }
        }
    }
}

/// What needs attention.
pub(super) fn notices(facts: &Facts) -> Markup {
    let all = [loop_is_stuck(facts), bucket(facts), damaged(facts), future(facts), retention(facts), drill(facts)];
    let all: Vec<Markup> = all.into_iter().flatten().collect();
    html! {
        @if !all.is_empty() { ul.notices aria-label="Notices" { @for notice in all { (notice) } } }
    }
}

fn loop_is_stuck(facts: &Facts) -> Option<Markup> {
    let age = facts.heartbeat_age.as_secs();
    (!facts.is_alive).then(|| {
        html! {
            li.wrong { strong { "The scheduler is stuck." } " It has not run for " (age) " s, and starts no backup." }
        }
    })
}

/// The bucket cannot be listed: what is shown is older.
fn bucket(facts: &Facts) -> Option<Markup> {
    let listed = facts.snapshot().map(|snapshot| snapshot.listed);
    let Some(failure) = &facts.bucket.failure else {
        return listed
            .is_none()
            .then(|| html! { li { "The bucket is being listed: sizes and backups are not known yet." } });
    };
    Some(html! {
        li.wrong {
            strong { "The bucket cannot be listed" } " since " (time(failure.since)) ". "
            @match listed {
                Some(listed) => { "Sizes and backups on this page are " strong { (span(facts.now - listed)) " old" } ". " }
                None => { "Sizes and backups are not known. " }
            }
            span.detail { (printable_lines(&failure.error)) }
        }
    })
}

/// A damaged backup is newer than the newest complete one.
fn damaged(facts: &Facts) -> Option<Markup> {
    fn find(stored: &DatabaseSnapshot) -> Option<&StoredBackup> {
        let good = newest(stored).map(|backup| backup.started);
        let is_damaged = |status| matches!(status, BackupStatus::SizeMismatch | BackupStatus::Empty);
        stored.backups.iter().take_while(|backup| good < Some(backup.started)).find(|backup| is_damaged(backup.status))
    }
    let (found, status) = found(facts, find)?;
    Some(html! {
        li.wrong {
            strong { "The newest backup is damaged" } (found)
            @if facts.databases.is_none() { " (" (status.words().to_lowercase()) ")" }
            ". " code { "pg-s3-backup check" } " says what is wrong with it."
        }
    })
}

/// A name is in the future, so its age is unknown.
fn future(facts: &Facts) -> Option<Markup> {
    fn find(stored: &DatabaseSnapshot) -> Option<&StoredBackup> {
        stored.backups.iter().find(|backup| backup.status == BackupStatus::Future)
    }
    let (found, _) = found(facts, find)?;
    Some(html! {
        li.warn {
            strong { "A backup is in the future" } (found)
            ". It does not count: the clock of the host that made it was wrong, or the clock of this one is."
        }
    })
}

/// The backup that is found, or the databases that have one, and the first one's status.
fn found(facts: &Facts, find: fn(&DatabaseSnapshot) -> Option<&StoredBackup>) -> Option<(Markup, BackupStatus)> {
    let stored = facts.snapshot().into_iter().flat_map(|snapshot| &snapshot.databases);
    let found: Vec<(&DatabaseSnapshot, &StoredBackup)> =
        stored.filter_map(|stored| Some((stored, find(stored)?))).collect();
    let (_, first) = found.first()?;
    let markup = html! {
        @if facts.databases.is_some() { " for " (names(found.iter().filter_map(|(stored, _)| stored.name.as_deref()))) }
        @else { ": " code { (first.file_name) } }
    };
    Some((markup, first.status))
}

fn retention(facts: &Facts) -> Option<Markup> {
    let checks = |stored: &DatabaseSnapshot| {
        stored.forecast.as_ref().map(|forecast| forecast.blocked_by.clone()).unwrap_or_default()
    };
    let Some(databases) = &facts.databases else {
        let checks = facts.snapshot().and_then(|snapshot| snapshot.database(None)).map(checks).unwrap_or_default();
        let RunHistory { is_retention_blocked, is_retention_failed, .. } = facts.history;
        return match (is_retention_blocked || !checks.is_empty(), is_retention_failed) {
            (true, _) => Some(html! {
                li.warn {
                    @if checks.is_empty() { strong { "Retention was blocked" } " in the last run: a safety check kept it from deleting backups." }
                    @else { strong { "Retention is blocked." } " A safety check keeps it from deleting backups." }
                    @for check in &checks { " " span.detail { (printable_lines(check)) } }
                }
            }),
            (false, true) => Some(html! {
                li.warn { strong { "Retention failed." } " It could not delete everything that the rules say; the log says why." }
            }),
            (false, false) => None,
        };
    };
    let is_blocked = |database: &&DatabaseFacts| {
        let stored = facts.snapshot().and_then(|snapshot| snapshot.database(Some(&database.name)));
        database.history.is_retention_blocked || stored.is_some_and(|stored| !checks(stored).is_empty())
    };
    let blocked: Vec<&DatabaseFacts> = databases.iter().filter(is_blocked).collect();
    let failed: Vec<&DatabaseFacts> =
        databases.iter().filter(|database| database.history.is_retention_failed).collect();
    (!blocked.is_empty() || !failed.is_empty()).then(|| {
        html! {
            li.warn {
                @if !blocked.is_empty() { strong { "Retention is blocked" } " for " (names_of(&blocked)) ". " }
                @if !failed.is_empty() { strong { "Retention failed" } " for " (names_of(&failed)) "." }
            }
        }
    })
}

fn drill(facts: &Facts) -> Option<Markup> {
    let failed = |result: &str| result != "ok";
    let Some(databases) = &facts.databases else {
        let drill = facts.drill.as_ref().filter(|drill| failed(drill.result))?;
        return Some(html! {
            li.wrong {
                strong { "The last restore drill " (drill_word(drill.result)) } ", " (ago(drill.ended, facts.now)) "."
                @if let Some(file_name) = &drill.file_name { " The backup is " code { (file_name) } "." }
            }
        });
    };
    let is_failed = |database: &&DatabaseFacts| database.drill.as_ref().is_some_and(|drill| failed(drill.result));
    let failed: Vec<&DatabaseFacts> = databases.iter().filter(is_failed).collect();
    (!failed.is_empty()).then(|| {
        html! {
            li.wrong { strong { "The last restore drill did not succeed" } " for " (names_of(&failed)) "." }
        }
    })
}

fn names_of(databases: &[&DatabaseFacts]) -> Markup {
    names(databases.iter().map(|database| database.name.as_str()))
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> Markup {
    let all: Vec<&str> = all.collect();
    let more = all.len().saturating_sub(MOST_NAMES);
    html! {
        @for (index, of) in all.iter().take(MOST_NAMES).enumerate() {
            @if index > 0 { ", " } (name(of))
        }
        @if more > 0 { " and " (more) " more" }
    }
}
